"""What the inversion minimises, and what it clips. Unbatched: images are [H, W, 3].

Equation numbers are those of "The Essence of Pose". The squared roots carry an ε: without it the
gradient is not a number wherever the image is flat.
"""

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array

TV_EPSILON = 1e-8


def total_variation(image: Array, beta: float = 1.0) -> Array:
    """Eq. 1, summed over channels: Σ ((right - here)² + (below - here)² + ε)^(beta/2).

    The border replicates, so that the last column's and row's outward differences are zero.
    beta = 2 is Mahendran & Vedaldi's smoother choice.
    """
    if beta == 1.0:
        return _total_length(image)
    right, below = _differences(image)
    square = right * right + below * below
    if beta == 2.0:
        return jnp.sum(square)
    return jnp.sum((square + TV_EPSILON) ** (0.5 * beta))


@jax.custom_vjp
def _total_length(image: Array) -> Array:
    """Σ √(right² + below² + ε), with a gradient by hand: what XLA makes of it takes twice as long,
    for it pads an array for every difference.
    """
    return _length_forward(image)[0]


def _differences(image: Array) -> tuple[Array, Array]:
    """Right and below, each [H, W·C]: rows stay whole, for loops over channels are too short."""
    height, width, channels = image.shape
    rows = image.reshape(height, width * channels)
    right = jnp.pad(rows[:, channels:] - rows[:, :-channels], ((0, 0), (0, channels)))
    return right, jnp.pad(rows[1:] - rows[:-1], ((0, 1), (0, 0)))


def _length_forward(image: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    right, below = _differences(image)
    length = jnp.sqrt(right * right + below * below + TV_EPSILON)
    return jnp.sum(length), (right / length, below / length, image[:0])


def _length_gradient(kept: tuple[Array, Array, Array], cotangent: Array) -> tuple[Array]:
    """Each pixel's share of its own differences, and of its left and its upper neighbour's."""
    right, below, like_image = kept
    _, width, channels = like_image.shape
    before = jnp.pad(right[:, :-channels], ((0, 0), (channels, 0)))
    above = jnp.pad(below[:-1], ((1, 0), (0, 0)))
    gradient = (before - right) + (above - below)
    return (cotangent * gradient.reshape(-1, width, channels),)


_total_length.defvjp(_length_forward, _length_gradient)


def sixth_power(image: Array) -> Array:
    """Σ x⁶, what ‖x‖₆ in eq. 2 must mean (see BUILD_NOTES.md)."""
    square = image * image
    return jnp.sum(square * square * square)


def sixth_norm(image: Array) -> Array:
    """‖x‖₆, as eq. 2 prints it."""
    largest = jnp.max(jnp.abs(image)) + 1e-12
    return largest * (sixth_power(image / largest) + 1e-30) ** (1.0 / 6.0)


def distance(descriptor: Array, target: Array) -> Array:
    """‖φ0 - φ‖₂, the data term of eq. 2, with a finite gradient at zero."""
    return jnp.sqrt(jnp.sum(jnp.square(descriptor - target)) + 1e-12)


def relative_square(descriptor: Array, target: Array) -> Array:
    """‖φ0 - φ‖² / ‖φ0‖²: the scale of the encoder drops out."""
    return jnp.sum(jnp.square(descriptor - target)) / (jnp.sum(jnp.square(target)) + 1e-12)


def contributions(gradient: Array, image: Array) -> Array:
    """C = |Σ_c ∇ₓLoss ∘ x|, [H, W]: a linear estimate of each pixel's part in the loss."""
    return jnp.abs(jnp.sum(gradient * image, axis=-1))


def kth_smallest(values: Array, rank: Array) -> Array:
    """The element of `values` (all ≥ 0) that `rank` others precede, by bisection on a count.

    Floats that are not negative are ordered as their bit patterns, so 31 halvings of the integers
    find the element exactly, without the sort that would cost more than the network's step.
    """
    bits = lax.bitcast_convert_type(values.astype(jnp.float32).ravel(), jnp.int32)

    def halve(_, bounds):
        low, high = bounds
        middle = low + (high - low) // 2
        enough = jnp.sum(bits <= middle, dtype=jnp.int32) > rank
        return jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)

    start = (jnp.zeros((), jnp.int32), jnp.full((), jnp.iinfo(jnp.int32).max, jnp.int32))
    low, _ = lax.fori_loop(0, 31, halve, start)
    return lax.bitcast_convert_type(low, jnp.float32)


def clip_small_contributions(image: Array, contribution: Array, percentile: Array | float) -> Array:
    """The image with every pixel zero whose contribution lies below the given percentile.

    Strictly below NumPy's linearly interpolated percentile, that is below the order statistic at
    the next whole rank.
    """
    rank = jnp.ceil(percentile / 100.0 * (contribution.size - 1)).astype(jnp.int32)
    keep = contribution >= kth_smallest(contribution, rank)
    return image * keep[..., None].astype(image.dtype)
