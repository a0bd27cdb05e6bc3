"""Simulation of JPEG compression, without a file. Unbatched.

Baseline JPEG (ITU T.81) without subsampling of colour: YCbCr, discrete cosine transform of 8x8
blocks, quantisation by the tables of Annex K scaled as libjpeg does, and back.
"""

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

_BLOCK = 8
# ITU T.81, Annex K.1 and K.2: quantisation of luminance and chrominance.
_LUMINANCE = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMINANCE = (
    *(17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99),
    *([99] * 32),
)
_TABLES = np.array([_LUMINANCE, _CHROMINANCE, _CHROMINANCE], np.float32).reshape(3, 8, 8)
# ITU T.871 (JFIF): RGB to YCbCr, chrominance about zero.
TO_YCBCR = np.array(
    [
        [0.299, 0.587, 0.114],
        [-0.168735892, -0.331264108, 0.5],
        [0.5, -0.418687589, -0.081312411],
    ]
)
TO_RGB = np.linalg.inv(TO_YCBCR)


def _cosines() -> np.ndarray:
    """[8, 8] orthonormal discrete cosine transform, rows by frequency."""
    frequency, place = np.mgrid[:_BLOCK, :_BLOCK]
    basis = np.cos((2 * place + 1) * frequency * np.pi / (2 * _BLOCK)) * np.sqrt(2.0 / _BLOCK)
    basis[0] /= np.sqrt(2.0)
    return basis


def _steps(quality: Array) -> Array:
    """[3, 8, 8] quantisation steps at a quality of 1 to 100."""
    scale = jnp.where(quality < 50.0, 5000.0 / quality, 200.0 - 2.0 * quality)
    return jnp.clip(jnp.floor((_TABLES * scale + 50.0) / 100.0), 1.0, 255.0)


def compress(image: Array, quality: Array) -> Array:
    """[3, H, W] uint8 RGB as read from a JPEG file of that quality (1 to 100)."""
    height, width = image.shape[1:]
    rows, columns = -height % _BLOCK, -width % _BLOCK
    padded = jnp.pad(image, ((0, 0), (0, rows), (0, columns)), mode="edge").astype(jnp.float32)
    down, across = ((size + extra) // _BLOCK for size, extra in ((height, rows), (width, columns)))
    # All blocks' transforms in one product: a matrix with the cosines along its diagonal.
    basis = _cosines().astype(np.float32)
    left, right = (jnp.asarray(np.kron(np.eye(n, dtype=np.float32), basis)) for n in (down, across))
    middle = jnp.array([128.0, 0.0, 0.0])[:, None, None]
    planes = jnp.round(_mixed(TO_YCBCR, padded)) - middle  # samples are whole numbers
    steps = jnp.tile(_steps(quality), (1, down, across))
    coefficients = _half_away((left @ planes @ right.T) / steps) * steps
    planes = jnp.round(left.T @ coefficients @ right) + middle
    restored = _mixed(TO_RGB, planes)[:, :height, :width]
    return jnp.round(jnp.clip(restored, 0.0, 255.0)).astype(jnp.uint8)


def _half_away(x: Array) -> Array:
    """Nearest whole number, halves away from zero, as libjpeg rounds.

    A block's mean is a multiple of 1/8, so that halves are common; the guard keeps them so.
    """
    return jnp.trunc(x + jnp.copysign(0.5 + 1e-4, x))


def _mixed(matrix: np.ndarray, planes: Array) -> Array:
    """[3, H, W] planes, each a mix of the given ones by a row of the matrix."""
    return jnp.stack(
        [sum(float(w) * p for w, p in zip(row, planes, strict=True)) for row in matrix]
    )
