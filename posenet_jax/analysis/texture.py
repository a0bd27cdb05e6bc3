"""Texture by amount and kind, wherever its phases lie: local amplitudes of oriented bands.

An inversion does not know where each brick lies, so that a measure which compares phases
(`structure.coherence`) calls every texture lost. A texture's statistics are how much of which scale
and direction there is around a place (Portilla & Simoncelli 2000: magnitudes of a steerable
pyramid). Geometry fixes most of these too: of two scenes that differ in nothing but their textures
they are alike. Whether a picture keeps a scene's texture is therefore a forced choice: is it nearer
to the scene, or to its twin, the same scene with textures drawn anew?

N pictures and originals, uint8 [N, H, W, C], square; T twins of each. Cells are of whole
pixels: up to four rows and columns at the end are left out.
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from posenet_jax import metrics
from posenet_jax.numerics import own_dtypes

Array = jax.Array

OCTAVES = (3, 4)
"""Octave k has 2^k to 2^(k+1) cycles an image: 8 to 32 are what is called texture at 100 pixels."""
DIRECTIONS = 4
CELLS = 5  # a side
CHANCE = 0.5
"""Score in the forced choice of a picture that knows nothing of a texture."""

_LEAST = 0.05  # a smaller change of the statistics (their root mean square) is no other texture


@functools.cache
def _filters(size: int, margin: int) -> np.ndarray:
    """[octaves, DIRECTIONS, P, P], P = size + 2 margin: transfer functions of one half-plane each.

    Radially a cosine of the logarithm, 1 at an octave's middle and 0 at the neighbours'; cos³ of
    the angle to the direction. Twice the one half-plane gives the analytic signal, whose modulus is
    the amplitude, whatever the phase.
    """
    cycles = np.fft.fftfreq(size + 2 * margin) * size
    right, down = np.meshgrid(cycles, cycles)
    angle, radius = np.arctan2(down, right), np.hypot(right, down)
    octave = np.log2(np.maximum(radius, 1e-9))
    filters = [
        2.0
        * np.cos(np.clip(octave - (number + 0.5), -1.0, 1.0) * np.pi / 2)
        * np.maximum(np.cos(angle - np.pi * direction / DIRECTIONS), 0.0) ** 3
        for number in OCTAVES
        for direction in range(DIRECTIONS)
    ]
    shape = (len(OCTAVES), DIRECTIONS, *radius.shape)
    return np.reshape(filters, shape).astype(np.float32)


def amplitudes(image: Array) -> Array:
    """[octaves, DIRECTIONS, CELLS, CELLS] root mean square amplitudes, grey levels; unbatched.

    Direction d is that of a wave whose crests follow each other at d/4 of 180°, from the right
    toward below. A wave of amplitude a in an octave's middle, along a direction, has a there.
    """
    size, margin = image.shape[0], image.shape[0] // 4
    # Reflected, as the transform is periodic and would see an edge where opposite borders meet.
    grey = jnp.pad(metrics.luminance(image), margin, mode="symmetric")
    spectrum = jnp.fft.fft2(grey)[None, None]
    bands = jnp.fft.ifft2(spectrum * jnp.asarray(_filters(size, margin)))
    side = size // CELLS
    inner = slice(margin, margin + side * CELLS)
    power = jnp.square(jnp.abs(bands[..., inner, inner]))
    cells = power.reshape((*power.shape[:2], CELLS, side, CELLS, side))
    return jnp.sqrt(jnp.mean(cells, axis=(3, 5)))


@jax.jit
def _statistics(images: Array) -> Array:
    return jax.lax.map(lambda image: jnp.log1p(amplitudes(image)), images)


@own_dtypes
def statistics(images: np.ndarray) -> np.ndarray:
    """[N, K] log(1 + amplitude) of every octave, direction and cell."""
    return np.asarray(_statistics(images), np.float64).reshape((len(images), -1))


def _cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[...] cosines along the last axis; 0 of what has no length."""
    lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    return np.divide(
        np.sum(one * other, axis=-1), lengths, out=np.zeros(lengths.shape), where=lengths > 1e-9
    )


def measures(
    pictures: np.ndarray, originals: np.ndarray, twins: np.ndarray | None = None
) -> Mapping[str, np.ndarray]:
    """[N] each, of sets of at least two pictures. twins: [N, T, H, W, C]; None: there are none.

    texture: cosine between the statistics of picture and original, each as it deviates from its
    set's mean; 0 is chance, and what the set has in common counts for nothing, nor does a contrast
    that all inversions lack. own_texture: fraction of the twins that the picture is less alike by
    this cosine than its original, `CHANCE` by chance; NaN where no twin has another texture.
    """
    made, wanted = statistics(pictures), statistics(originals)
    deviation = made - made.mean(axis=0)
    alike = _cosine(deviation, wanted - wanted.mean(axis=0))
    told = np.full(len(made), np.nan)
    if twins is not None:
        others = statistics(twins.reshape((-1, *twins.shape[2:]))).reshape((*twins.shape[:2], -1))
        told = _told(deviation, wanted, others)
    return {"texture": alike, "own_texture": told}


def _told(deviation: np.ndarray, wanted: np.ndarray, others: np.ndarray) -> np.ndarray:
    """[N] fractions of the twins' statistics [N, T, K] that are less alike than the original's."""
    # The mean of all alike, so that nothing tells an original from a twin.
    middle = np.concatenate([wanted[:, None], others], axis=1).mean(axis=(0, 1))
    own, twins = (_cosine(deviation[:, None], x - middle) for x in (wanted[:, None], others))
    differing = np.sqrt(np.mean(np.square(others - wanted[:, None]), axis=-1)) > _LEAST
    counts, unknown = differing.sum(axis=1), np.full(len(wanted), np.nan)
    return np.divide(((own > twins) & differing).sum(axis=1), counts, out=unknown, where=counts > 0)
