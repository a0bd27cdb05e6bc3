"""What an inversion optimises: pixels, or a pyramid of images inside the box of possible colours.

Unbatched. `initial` makes the parameters, `image` turns them into an image [H, W, 3] in network
space. Adam moves every parameter by about one learning rate a step; in a pyramid a coarse
parameter moves many pixels together, so that large shapes form first and noise comes last.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from posenet_jax.preprocessing import Preprocessing

Array = jax.Array

LEVELS = 5

# Orthonormal: grey, the first against the last channel, both against the middle one.
_OPPONENT = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])


def pyramid_sizes(size: int) -> list[int]:
    """Side lengths from the finest level to the coarsest."""
    return [-(-size // 2**level) for level in range(LEVELS)]


@functools.cache
def _upsampling(size: int, coarse: int) -> np.ndarray:
    """[size, coarse] linear interpolation between pixel centres, edges repeated."""
    position = np.clip((np.arange(size) + 0.5) * coarse / size - 0.5, 0, coarse - 1)
    left = np.minimum(position.astype(int), max(coarse - 2, 0))
    share = position - left
    matrix = np.zeros((size, coarse))
    np.add.at(matrix, (np.arange(size), left), 1.0 - share)
    np.add.at(matrix, (np.arange(size), np.minimum(left + 1, coarse - 1)), share)
    return matrix


def _upsample(level: Array, size: int) -> Array:
    """[C, size, size] of [C, n, n]."""
    matrix = jnp.asarray(_upsampling(size, level.shape[-1]), level.dtype)
    rows = jnp.einsum("sn,cnm->csm", matrix, level, precision=lax.Precision.HIGHEST)
    return jnp.einsum("tm,csm->cst", matrix, rows, precision=lax.Precision.HIGHEST)


def initial(key: Array, kind: str, deviation: Array | float, space: Preprocessing) -> Any:
    """Noise of `deviation` grey levels about the mean colour (a fifth of it at each level)."""
    if kind == "pixels":
        return deviation * jax.random.normal(key, (space.size, space.size, 3))
    sizes = pyramid_sizes(space.size)
    keys = jax.random.split(key, len(sizes))
    # A logit moves a mid-grey pixel by 64 levels.
    share = deviation / 64.0 / len(sizes)
    return tuple(share * jax.random.normal(k, (3, n, n)) for k, n in zip(keys, sizes, strict=True))


def image(parameters: Any, kind: str, chroma: ArrayLike, space: Preprocessing) -> Array:
    """[size, size, 3] in network space; the pyramid's lies inside `space.bounds()`.

    The pyramid's levels are summed as logits about the mean colour, in an opponent basis whose two
    colour axes count `chroma` times as much as its grey axis.
    """
    if kind == "pixels":
        return parameters
    low, high = (bound.reshape((1, 1, 3)) for bound in space.bounds())
    opponent = functools.reduce(jnp.add, [_upsample(level, space.size) for level in parameters])
    gains = jnp.stack([jnp.ones_like(chroma), chroma, chroma]).reshape((3, 1, 1))
    logits = jnp.tensordot(opponent * gains, jnp.asarray(_OPPONENT, jnp.float32), ((0,), (0,)))
    middle = jnp.log(-low / high)
    return low + (high - low) * jax.nn.sigmoid(logits + middle)
