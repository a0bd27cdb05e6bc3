"""Compressed images against SciPy's cosine transform, block by block, and Pillow's JPEG files."""

import io

import jax
import numpy as np
import pytest
from PIL import Image
from scipy import fft

from posenet_jax.scenes import compression

QUALITIES = [20, 50, 75, 95]


def _image(height, width):
    """Smooth shapes, edges and noise, [H, W, 3]."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width] / 20.0
    smooth = np.stack([np.sin(x), np.cos(x + y), np.sin(y)], axis=-1) * 60 + 128
    smooth[height // 3 :, width // 2 :] += 50
    return np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)


def _compressed(image, quality):
    made = jax.jit(compression.compress)(np.moveaxis(image, -1, 0), float(quality))
    return np.moveaxis(np.asarray(made), 0, -1).astype(float)


def _file(image, quality):
    """A JPEG file that Pillow wrote, open."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=0)
    return Image.open(file)


def _by_blocks(image, tables):
    """The same in float64, with the tables of a file: their order is that of its rows."""
    luminance = image @ np.array([[0.299, 0.587, 0.114]]).T
    blue, red = (image[..., 2:] - luminance) / 1.772, (image[..., :1] - luminance) / 1.402
    planes = np.floor(np.concatenate([luminance - 128, blue, red], axis=-1) + 0.5)
    for k in range(3):
        steps = np.reshape(tables[min(k, 1)], (8, 8))
        for i in range(0, image.shape[0], 8):
            for j in range(0, image.shape[1], 8):
                block = fft.dctn(planes[i : i + 8, j : j + 8, k], norm="ortho") / steps
                whole = np.sign(block) * np.floor(np.abs(block) + 0.5 + 1e-4)
                planes[i : i + 8, j : j + 8, k] = fft.idctn(whole * steps, norm="ortho")
    y, b, r = np.moveaxis(np.round(planes), -1, 0)
    red, blue = y + 128 + 1.402 * r, y + 128 + 1.772 * b
    green = (y + 128 - 0.299 * red - 0.114 * blue) / 0.587
    return np.clip(np.stack([red, green, blue], axis=-1), 0, 255)


@pytest.mark.parametrize("quality", QUALITIES)
def test_blocks_are_quantised_by_the_tables_of_a_file_of_that_quality(quality):
    image = _image(48, 64)
    expected = _by_blocks(image.astype(float), _file(image, quality).quantization)
    difference = np.abs(_compressed(image, quality) - expected)
    # A coefficient in a thousand lies so near a half that float32 rounds it the other way.
    assert np.mean(difference > 0.51) < 0.02


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("size", [(96, 64), (50, 43)])
def test_an_image_is_nearly_what_a_jpeg_file_leaves_of_it(quality, size):
    image = _image(*size)
    theirs = np.asarray(_file(image, quality)).astype(float)
    change = np.abs(theirs - image).mean()
    # libjpeg transforms whole numbers, by which some coefficients are rounded the other way.
    assert np.abs(_compressed(image, quality) - theirs).mean() < 0.3 * change


def test_lower_quality_leaves_less():
    image = _image(64, 64)
    errors = [np.abs(_compressed(image, quality) - image).mean() for quality in (100, 80, 40, 10)]
    assert errors[0] < 1.0 and errors == sorted(errors)
