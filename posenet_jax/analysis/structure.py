"""Measures of a reconstruction beside its original: colour, edges by direction, skyline, texture.

The paper's claims (section 5.2), made by eye there, as one number an image. All measures compare
a picture with an original pixel by pixel, so that a wrong image can stand in as the control.
Pictures and originals are uint8 RGB [H, W, 3]; unbatched but for `measures`. A vanishing point is
homogeneous pixel coordinates (x, y, w), as `scenes.vanishing_points` gives them: those at infinity
need no care.
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from posenet_jax import metrics
from posenet_jax.numerics import own_dtypes

Array = jax.Array

# Rec. 601's differences of blue and red from the luma, which carry no light and dark.
CHROMA = ((-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_COARSE = 4.0  # pixels, the blur of luminance correlation
_EDGE = 1.0  # pixels, of the grey values that gradients are taken of
_NEAR = 2.0  # pixels, how far an edge may lie from where it was
_TOLERANCE = np.radians(15.0)  # deviation of an edge's direction; a sixth of all directions
_BAND = 12  # rows above and below the sky's outline
_DIRECTIONS = ("vanishing", "vertical", "across")


def _unit(values: Array) -> Array:
    """At length one; zero where there is nothing but rounding."""
    flat = jnp.max(jnp.abs(values)) < 1e-3
    return jnp.where(flat, 0.0, values / jnp.where(flat, 1.0, jnp.linalg.norm(values)))


def chroma_correlation(picture: Array, original: Array) -> Array:
    """As `metrics.luminance_correlation`, of both chroma channels: where is which colour?

    Each channel's mean over the image counts too: a picture of one wrong hue is not right.
    """

    def chroma(image: Array) -> Array:
        planes = jnp.einsum("hwc,kc->khw", image.astype(jnp.float32), jnp.asarray(CHROMA))
        return jax.vmap(functools.partial(metrics.gaussian_blur, sigma=_COARSE))(planes)

    return jnp.sum(_unit(chroma(picture)) * _unit(chroma(original)))


def gradients(image: Array) -> tuple[Array, Array]:
    """[H-2, W-2] each: central differences of the blurred grey values, to the right and down."""
    grey = metrics.gaussian_blur(metrics.luminance(image), _EDGE)
    right = 0.5 * (grey[1:-1, 2:] - grey[1:-1, :-2])
    down = 0.5 * (grey[2:, 1:-1] - grey[:-2, 1:-1])
    return right, down


def alignment(right: Array, down: Array, rows: Array, columns: Array, point: Array) -> Array:
    """|cos| of the angle between the edge at each place and the line from there to a point.

    An edge runs across its gradient: (-down, right). Places are as `places` gives them.
    """
    x, y = point[0] - point[2] * columns, point[1] - point[2] * rows
    lengths = jnp.hypot(x, y) * jnp.hypot(right, down)
    cosine = jnp.abs(right * y - down * x) / jnp.maximum(lengths, 1e-12)
    return jnp.where(lengths > 1e-12, cosine, 0.0)


def places(height: int, width: int) -> tuple[Array, Array]:
    """[height, width] each: row and column of what `gradients` gives, in pixels of the image.

    They lack the image's outermost pixels, and a pixel's centre is half a pixel in.
    """
    rows, columns = jnp.mgrid[:height, :width].astype(jnp.float32)
    return rows + 1.5, columns + 1.5


def edge_energies(image: Array, vanishing: Array) -> dict[str, Array]:
    """[h, w] each: gradient energy of edges that run toward the main vanishing point, of those that
    run toward the vertical one, and of all others. vanishing: [2, 3], main and vertical.
    """
    right, down = gradients(image)
    energy, least = jnp.square(right) + jnp.square(down), jnp.cos(_TOLERANCE)
    where = places(*right.shape)
    main, vertical = (alignment(right, down, *where, point) for point in vanishing)
    toward = (main >= least) & (main >= vertical)
    upright = (vertical >= least) & ~toward
    parts = (toward, upright, ~(toward | upright))
    return {
        name: jnp.where(part, energy, 0.0) for name, part in zip(_DIRECTIONS, parts, strict=True)
    }


def edge_measures(picture: Array, original: Array, vanishing: Array) -> dict[str, Array]:
    """Returns, for each direction, `NAME_edges`: correlation of where its energy lies, and
    `NAME_share`: its fraction of the picture's gradient energy (a sixth for each of the first two
    by chance).
    """
    found: dict[str, Array] = {}
    made, wanted = (edge_energies(image, vanishing) for image in (picture, original))
    total = sum(jnp.sum(energy) for energy in made.values())
    for name in _DIRECTIONS:
        # Amplitudes, or a few bright edges would decide; blurred, for edges a little out of place.
        maps = (metrics.gaussian_blur(jnp.sqrt(energy[name]), _NEAR) for energy in (made, wanted))
        a, b = (_unit(values - jnp.mean(values)) for values in maps)
        found[f"{name}_edges"] = jnp.sum(a * b)
        found[f"{name}_share"] = jnp.sum(made[name]) / jnp.maximum(total, 1e-12)
    return found


def sky_separation(picture: Array, sky: Array) -> Array:
    """Probability that a pixel of the sky is brighter than one that is not, both within 12 rows of
    the sky's outline; 0.5 by chance. sky: [H, W] bool, the original's. NaN without an outline.

    The area under the ROC curve (Mann & Whitney), of the grey values: known is the outline, and the
    picture must show it by light, so that knowing only that skies are above gains nothing.
    """
    grey = metrics.luminance(picture)
    rows = jnp.arange(sky.shape[0])
    apart = jnp.abs(rows[:, None] - rows[None, :]) <= _BAND
    near_sky = jnp.matmul(apart.astype(jnp.float32), sky.astype(jnp.float32)) > 0
    near_other = jnp.matmul(apart.astype(jnp.float32), (~sky).astype(jnp.float32)) > 0
    above, below = (sky & near_other).ravel(), (~sky & near_sky).ravel()
    # Grey values in quarters of a level: counts instead of comparing every pair of pixels.
    level = jnp.clip(jnp.round(4.0 * grey).astype(jnp.int32), 0, 1023).ravel()
    bright, dark = (
        jnp.zeros(1024).at[level].add(part.astype(jnp.float32)) for part in (above, below)
    )
    darker = jnp.cumsum(dark) - 0.5 * dark
    pairs = jnp.sum(bright) * jnp.sum(dark)
    return jnp.where(pairs > 0, jnp.sum(bright * darker) / jnp.maximum(pairs, 1.0), jnp.nan)


def coherence(picture: Array, original: Array, bands: int = 4) -> dict[str, Array]:
    """`octave_K`: cosine between both spectra in octave K of spatial frequency, phases included.

    Octave 0 has 1 to 2 cycles an image, octave 4 (16 to 32) what a person calls texture at 100
    pixels: 0 is chance.
    """
    size = picture.shape[0]
    side = np.hanning(size + 1)[:size]
    window = jnp.asarray(np.outer(side, side), jnp.float32)
    spectra = []
    for image in (picture, original):
        grey = metrics.luminance(image)
        grey = grey - jnp.sum(grey * window) / jnp.sum(window)
        spectra.append(jnp.fft.fft2(grey * window))
    cycles = np.fft.fftfreq(size) * size
    octave = np.floor(np.log2(np.maximum(np.hypot(*np.meshgrid(cycles, cycles)), 0.5)))
    found = {}
    for number in range(bands + 1):
        inside = jnp.asarray(octave == number)
        a, b = (jnp.where(inside, spectrum, 0.0) for spectrum in spectra)
        lengths = jnp.sqrt(jnp.sum(jnp.abs(a) ** 2) * jnp.sum(jnp.abs(b) ** 2))
        found[f"octave_{number}"] = jnp.sum(jnp.real(a * jnp.conj(b))) / jnp.maximum(lengths, 1e-9)
    return found


def _all(picture: Array, original: Array, vanishing: Array, sky: Array) -> dict[str, Array]:
    return {
        "chroma": chroma_correlation(picture, original),
        "luminance": metrics.luminance_correlation(picture, original),
        "sky": sky_separation(picture, sky),
        **edge_measures(picture, original, vanishing),
        **coherence(picture, original),
    }


@jax.jit
def _mapped(pictures: Array, originals: Array, vanishing: Array, sky: Array) -> dict[str, Array]:
    return jax.lax.map(lambda row: _all(*row), (pictures, originals, vanishing, sky))


@own_dtypes
def measures(
    pictures: np.ndarray, originals: np.ndarray, vanishing: np.ndarray, sky: np.ndarray
) -> Mapping[str, np.ndarray]:
    """[N] each, of all measures above. vanishing: [N, 2, 3]; sky: [N, H, W] bool."""
    found = _mapped(pictures, originals, vanishing, sky)
    return {name: np.asarray(values, np.float64) for name, values in found.items()}


def main_vanishing(points: np.ndarray, size: int) -> np.ndarray:
    """[N, 2, 3]: of the axes' points [N, 3, 3] the horizontal one nearest the centre, and z's."""
    horizontal = points[:, :2].astype(np.float64)
    depth = np.where(np.abs(horizontal[..., 2:]) < 1e-9, 1e-9, horizontal[..., 2:])
    offset = np.linalg.norm(horizontal[..., :2] / depth - 0.5 * size, axis=-1)
    main = horizontal[np.arange(len(points)), offset.argmin(axis=1)]
    return np.stack([main, points[:, 2]], axis=1).astype(np.float32)
