"""Errors and scores of generated images beside originals: pixels, draws, spectra, places.

S draws of B images each, made [S, B, H, W, 3], and originals [B, H, W, 3], 1 = the full range.
`axis_name` is of the devices that share a batch, where a figure is of all of it.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from posenet_jax.errors import InputError
from posenet_jax.training.discriminator import block_means

Array = jax.Array

_BLOCKS = (1, 5, 20)  # sides, in pixels, of the blocks whose means are compared
_TINY = 1e-8


def mean_error(made: Array, wanted: Array) -> Array:
    """Squared error of the mean over all draws there could be; without bias, of S of them.

    The square of S draws' own mean would count a fraction 1/S of their variance as error; products
    of two different draws' errors do not.
    """
    count = len(made)
    difference = made - wanted[None]
    squares = jnp.sum(jnp.square(difference), axis=0)
    if count > 1:
        products = jnp.square(jnp.sum(difference, axis=0)) - squares
        return jnp.mean(products) / (count * (count - 1))
    return jnp.mean(squares)


def energy_score(made: Array, wanted: Array) -> Array:
    """Distance of draws [S, ..., C] from originals [..., C] less half of that between draws.

    Without bias, of S draws. Least, on average over originals, where every vector of C numbers is
    drawn from the originals' own distribution (Gneiting & Raftery 2007, eq. 22, β = 1); of squared
    distances it would be `mean_error`, which asks that of their mean alone.
    """
    count = len(made)
    score = jnp.mean(_distance(made, wanted[None]))
    if count == 1:
        return score
    pairs = list(itertools.combinations(range(count), 2))
    apart = [jnp.mean(_distance(made[one], made[other])) for one, other in pairs]
    return score - sum(apart, jnp.zeros(())) / (2 * len(pairs))


def _distance(a: Array, b: Array) -> Array:
    # Where two are equal the root has no derivative.
    return jnp.sqrt(jnp.sum(jnp.square(a - b), axis=-1) + _TINY)


def image_energy(made: Array, wanted: Array) -> Array:
    """The mean of `energy_score` over pixels and over means of blocks of them."""
    scores = [energy_score(block_means(made, side), block_means(wanted, side)) for side in _BLOCKS]
    return sum(scores, jnp.zeros(())) / len(scores)


def spectrum_error(made: Array, wanted: Array, axis_name: str | None = None) -> Array:
    """Mean square of the logarithm by which spectra [S, B, H, W, 3] and [B, H, W, 3] differ.

    A spectrum is the mean power of all rows, or columns, of a whole batch at a frequency, through
    a Hann window (after Durall et al. 2020): lines that a layer's stride leaves stand out in it.
    """
    ratios = []
    for axis in (-2, -1):
        one, other = (_power(images.mean(-1), axis) for images in (made, wanted))
        if axis_name is not None:
            one, other = jax.lax.pmean((one, other), axis_name)
        ratios.append(jnp.log((one + _TINY) / (other + _TINY)))
    return jnp.mean(jnp.square(jnp.stack(ratios)))


def _power(grey: Array, axis: int) -> Array:
    lines = jnp.moveaxis(grey, axis, -1)
    window = jnp.asarray(np.hanning(lines.shape[-1] + 1)[:-1], lines.dtype)
    window = window.reshape((1,) * (lines.ndim - 1) + (-1,))
    level = jnp.sum(lines * window, axis=-1, keepdims=True) / jnp.sum(window)
    found = jnp.fft.rfft((lines - level) * window)
    power = jnp.square(found.real) + jnp.square(found.imag)
    return power.mean(axis=tuple(range(power.ndim - 1)))[1:]


def pattern_error(made: Array, wanted: Array, axis_name: str | None = None) -> Array:
    """Error of the mean fine detail at each place, over the mean square of the originals' detail.

    Of the differences of neighbouring pixels, with their sign and without, the mean over all images
    of a batch is compared at every place. A pattern that a generator lays into each of its images,
    or places where it draws its lines, are no images' own, and neither a discriminator, to which
    all places are one, nor a spectrum tells them. Without bias, as `mean_error`.
    """
    parts = []
    for axis in (-3, -2):
        one, other = (jnp.diff(images, axis=axis) for images in (made, wanted))
        for size in (lambda x: x, jnp.abs):
            off = jnp.mean(size(one), axis=0) - size(other)
            count, total, squares = len(off), jnp.sum(off, 0), jnp.sum(jnp.square(off), 0)
            scale = jnp.mean(jnp.square(size(other)))
            if axis_name is not None:
                count *= jax.lax.axis_size(axis_name)
                total, squares = jax.lax.psum((total, squares), axis_name)
                scale = jax.lax.pmean(scale, axis_name)
            if count == 1:
                raise InputError("a pattern of all images is sought in batches of two or more")
            products = jnp.mean(jnp.square(total) - squares) / (count * (count - 1))
            parts.append(products / (scale + _TINY))
    return sum(parts, jnp.zeros(())) / len(parts)


def root_mean_square(x: Array) -> Array:
    """The root of the mean square of all values, kept above zero."""
    return jnp.sqrt(jnp.mean(jnp.square(x)) + _TINY)
