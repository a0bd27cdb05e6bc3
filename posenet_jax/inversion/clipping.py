"""Small-contribution clipping: pixels that hardly matter to the loss become zero.

Unbatched: images are [H, W, C].
"""

import jax.numpy as jnp
from jax import lax

from posenet_jax.inversion.shapes import Count, Image, PixelMap, Scalar, Values


def contributions(gradient: Image, image: Image) -> PixelMap:
    """C = |Σ_c ∇ₓLoss ∘ x|: a linear estimate of each pixel's part in the loss."""
    return jnp.abs(jnp.sum(gradient * image, axis=-1))


def kth_smallest(values: Values, rank: Count | int) -> Scalar:
    """The element of `values` (all ≥ 0) that `rank` others precede, by bisection on a count.

    Floats that are not negative are ordered as their bit patterns, so 31 halvings of the integers
    find the element exactly, without the sort that would cost more than the network's step.
    """
    bits = lax.bitcast_convert_type(values.astype(jnp.float32).ravel(), jnp.int32)

    def halve(_: Count, bounds: tuple[Count, Count]) -> tuple[Count, Count]:
        low, high = bounds
        middle = low + (high - low) // 2
        enough = jnp.sum(bits <= middle, dtype=jnp.int32) > rank
        return jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)

    start = (jnp.zeros((), jnp.int32), jnp.full((), jnp.iinfo(jnp.int32).max, jnp.int32))
    low, _ = lax.fori_loop(0, 31, halve, start)
    return lax.bitcast_convert_type(low, jnp.float32)


def clip_small_contributions(
    image: Image, contribution: PixelMap, percentile: Scalar | float
) -> Image:
    """The image with every pixel zero whose contribution lies below the given percentile.

    Strictly below NumPy's linearly interpolated percentile, that is below the order statistic at
    the next whole rank.
    """
    rank = jnp.ceil(percentile / 100.0 * (contribution.size - 1)).astype(jnp.int32)
    keep = contribution >= kth_smallest(contribution, rank)
    return image * keep[..., None].astype(image.dtype)
