"""Batches taken a few images at a time, so that what is between two products stays in a cache.

On a CPU an array that no core's cache holds is written to memory and read again, which takes longer
than the arithmetic. Elsewhere, and where the batch is an axis of `vmap`, all is one part. The
numbers are the same but for the order in which gradients of what images share are summed.

Arrays are [..., H, W, C], all with the same batch.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array

_CACHED = 2**21  # bytes that a core's own cache holds


def mapped(of_part: Callable[[Array], Array], x: Array, each: int, shared: int) -> Array:
    """of_part(x), [..., H', W', C'].

    each: bytes of what is made of one image. shared: bytes of what is read anew for every part.
    """
    parts = _split((x,), each, shared)
    if parts is None:
        return of_part(x)
    found = lax.map(of_part, parts[0])
    return found.reshape((*x.shape[:-3], *found.shape[-3:]))


def mapped_and_summed(
    of_part: Callable[..., tuple[Array, Array]], arrays: Sequence[Array], each: int, shared: Array
) -> tuple[Array, Array]:
    """of_part's (images as in `mapped`, sum over the parts of what has the shape of `shared`)."""
    parts = _split(arrays, each, shared.nbytes)
    if parts is None:
        return of_part(*arrays)

    def step(total: Array, part: Sequence[Array]) -> tuple[Array, Array]:
        images, own = of_part(*part)
        return total + own, images

    total, images = lax.scan(step, jnp.zeros_like(shared), parts)
    return images.reshape((*arrays[0].shape[:-3], *images.shape[-3:])), total


def images_a_part(each: int, shared: int) -> int:
    """Returns how many images to take at a time, at most; bytes as in `mapped`."""
    # What is read anew for every part should be worth it where it is larger than the cache.
    return max(1, max(_CACHED, shared) // each)


def _split(arrays: Sequence[Array], each: int, shared: int) -> tuple[Array, ...] | None:
    """[parts, images, H, W, C] of each array; None where one part is all."""
    images = math.prod(arrays[0].shape[:-3])
    most = images_a_part(each, shared)
    if images <= most or jax.default_backend() != "cpu":
        return None
    size = max(n for n in range(1, most + 1) if images % n == 0)
    if 2 * size < most:  # of a prime number of images, parts of one would cost more than they save
        return None
    return tuple(x.reshape((-1, size, *x.shape[-3:])) for x in arrays)
