"""Visibility and naturalness of images, uint8 [H, W, C], RGB where C is 3. Unbatched, but for what
says so.

Visibility asks whether a person sees the same thing.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt8

from posenet_jax import numerics

Picture = UInt8[Array, "height width channels"]
Pictures = UInt8[Array, "number height width channels"]
Originals = UInt8[Array, "originals height width channels"]
PixelMap = Float[Array, "height width"]  # grey values 0-255, or a pattern of them
Correlations = Float[Array, "number originals"]
Energies = Float[Array, "number"]
Scalar = Float[Array, ""]
BlurMatrix = Float[np.ndarray, "size size"]
Averaging = Float[np.ndarray, "bands height*width"]
Bands = Float[np.ndarray, "bands"]

# Rec. 601 luma of red, green and blue, as in Pillow's mode L.
_LUMA = (0.299, 0.587, 0.114)


@functools.cache
def _blur_matrix(size: int, sigma: float, truncate: float) -> BlurMatrix:
    """[size, size] Gaussian blur along one axis with reflecting borders (d c b a | a b c d)."""
    radius = int(truncate * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    matrix = np.zeros((size, size))
    for row in range(size):
        folded = (row + offsets) % (2 * size)
        np.add.at(matrix[row], np.where(folded < size, folded, 2 * size - 1 - folded), weights)
    return matrix


def gaussian_blur(grey: PixelMap, sigma: float, truncate: float = 4.0) -> PixelMap:
    """[H, W] blurred by a Gaussian of `sigma` pixels, cut off at `truncate` of them."""
    rows = jnp.asarray(_blur_matrix(grey.shape[0], sigma, truncate), grey.dtype)
    columns = jnp.asarray(_blur_matrix(grey.shape[1], sigma, truncate), grey.dtype)
    product = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)
    return product(product(rows, grey), columns.T)


def luminance(image: Picture) -> PixelMap:
    """[H, W] grey values 0-255 of a uint8 image [H, W, C]: luma of RGB, else the channels' mean."""
    if image.shape[-1] != 3:
        return jnp.mean(image.astype(jnp.float32), axis=-1)
    weights = jnp.asarray(_LUMA, jnp.float32).reshape((1, 1, 3))
    return jnp.sum(image.astype(jnp.float32) * weights, axis=-1)


def luminance_pattern(image: Picture, sigma: float = 4.0) -> PixelMap:
    """[H, W] blurred grey values less their mean, at length one; zero for a flat image.

    Two images' luminance correlation is the inner product of their patterns.
    """
    blurred = gaussian_blur(luminance(image), sigma)
    deviation = blurred - jnp.mean(blurred)
    # Rounding leaves deviations of about 1e-5 in a flat image, which correlate by accident.
    flat = jnp.max(jnp.abs(deviation)) < 1e-3
    norm = jnp.linalg.norm(deviation)
    return jnp.where(flat, 0.0, deviation / jnp.where(flat, 1.0, norm))


def spread(pictures: Pictures, sigma: float = 4.0) -> Scalar:
    """Mean distance of the pairs of pictures of one image, uint8 [R, H, W, C], in grey levels.

    Root mean square difference of blurred grey values, each less its mean: of light and dark, not
    of brightness or texture.
    """
    blurred = jax.lax.map(lambda image: gaussian_blur(luminance(image), sigma), pictures)
    patterns = blurred - jnp.mean(blurred, axis=(1, 2), keepdims=True)
    first, second = np.triu_indices(len(pictures), 1)
    squares = jnp.mean(jnp.square(patterns[first] - patterns[second]), axis=(1, 2))
    return jnp.mean(jnp.sqrt(squares))


def luminance_correlation(image: Picture, original: Picture, sigma: float = 4.0) -> Scalar:
    """Pearson correlation of two images' blurred grey values; uint8 [H, W, C] each.

    0 where either image is flat. `sigma` pixels: what is left are silhouette, ground and sky.
    """
    return jnp.sum(luminance_pattern(image, sigma) * luminance_pattern(original, sigma))


def mean_squared_error(image: Picture, original: Picture) -> Scalar:
    """Mean over all values of two uint8 images, 1 = from black to white."""
    difference = image.astype(jnp.float32) - original.astype(jnp.float32)
    return jnp.mean(jnp.square(difference / 255.0))


@numerics.not_finite_allowed()
def psnr(image: Picture, original: Picture) -> Scalar:
    """Peak signal-to-noise ratio, dB; infinite for equal images."""
    return -10.0 * jnp.log10(mean_squared_error(image, original))


def ssim(image: Picture, original: Picture, sigma: float = 1.5) -> Scalar:
    """Structural similarity (Wang et al. 2004), mean over pixels and channels; 1 is equal.

    Gaussian window of 11×11 pixels, constants 0.01 and 0.03 of the range 255; the border, where the
    window would hang over, is left out.
    """
    blur = jax.vmap(functools.partial(gaussian_blur, sigma=sigma, truncate=3.5), -1, -1)
    x, y = image.astype(jnp.float32), original.astype(jnp.float32)
    mean_x, mean_y = blur(x), blur(y)
    variance_x = blur(x * x) - mean_x**2
    variance_y = blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    first, second = (0.01 * 255.0) ** 2, (0.03 * 255.0) ** 2
    similarity = (2.0 * mean_x * mean_y + first) * (2.0 * covariance + second)
    similarity /= (mean_x**2 + mean_y**2 + first) * (variance_x + variance_y + second)
    border = int(3.5 * sigma + 0.5)
    return jnp.mean(similarity[border:-border, border:-border])


@functools.cache
def _half_octaves(height: int, width: int) -> tuple[Averaging, Bands]:
    """Half octaves of spatial frequency from 2 cycles an image to the finest: averaging, centres.

    averaging: [bands, H·W], of a flattened two-dimensional spectrum. centres: [bands], the mean
    frequency in each, in cycles per shorter side.
    """
    size = min(height, width)
    down, across = np.fft.fftfreq(height) * size, np.fft.fftfreq(width) * size
    radius = np.hypot(*np.meshgrid(across, down)).ravel()
    edges = 2.0 ** np.arange(1.0, np.log2(size / 2) + 1e-9, 0.5)
    inside = np.digitize(radius, edges) == np.arange(1, len(edges))[:, None]
    averaging = inside / inside.sum(axis=1, keepdims=True)
    return averaging, averaging @ radius


def spectral_deviation(image: Picture) -> Scalar:
    """How far an image's power spectrum is from those of nature; uint8 [H, W, C].

    Power falls as 1/f² in photographs of any scene (Field 1987). This is the deviation from it in
    octaves of power, root mean square over half octaves of frequency; no original is needed. About
    0.6 for street photographs at 100 pixels, 2.7 for white noise; at most 2 log2 of the side or so.
    """
    height, width, _ = image.shape
    averaging, centres = _half_octaves(height, width)
    # Without a window, an image's opposite borders would meet in edges that it does not have.
    down, across = (np.hanning(size + 1)[:size] for size in (height, width))
    window = jnp.asarray(np.outer(down, across), jnp.float32)
    grey = luminance(image)
    grey = grey - jnp.sum(grey * window) / jnp.sum(window)
    power = jnp.square(jnp.abs(jnp.fft.fft2(grey * window))).ravel()
    bands = jnp.matmul(averaging.astype(np.float32), power, precision=lax.Precision.HIGHEST)
    # A grey level's rounding has a power of H·W / 12: what lies far below it is rounding.
    above = jnp.log2(bands + 1e-3 * (height * width)) + 2.0 * jnp.log2(centres.astype(np.float32))
    return jnp.std(above)


@jax.jit
def luminance_correlations(pictures: Pictures, originals: Originals) -> Correlations:
    """[N, N] luminance correlation of every picture (rows) with every original."""
    patterns = [
        jax.lax.map(luminance_pattern, images).reshape((len(images), -1))
        for images in (pictures, originals)
    ]
    return jnp.matmul(patterns[0], patterns[1].T, precision=jax.lax.Precision.HIGHEST)


@jax.jit
def gradient_energies(pictures: Pictures) -> Energies:
    """[N] mean squared difference of neighbouring grey values, across and down, of each picture."""

    def energy(picture: Picture) -> Scalar:
        grey = luminance(picture)
        across, down = jnp.diff(grey, axis=1), jnp.diff(grey, axis=0)
        return 0.5 * (jnp.mean(jnp.square(across)) + jnp.mean(jnp.square(down)))

    return jax.lax.map(energy, pictures)
