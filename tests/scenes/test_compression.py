"""Compressed images against Pillow's JPEG files."""

import io

import jax
import numpy as np
import pytest
from PIL import Image

from posenet_jax.scenes import compression


def _image(height, width):
    """Smooth shapes, edges and noise, [H, W, 3]."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width] / 20.0
    smooth = np.stack([np.sin(x), np.cos(x + y), np.sin(y)], axis=-1) * 60 + 128
    smooth[height // 3 :, width // 2 :] += 50
    return np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)


def _from_file(image, quality):
    """The image read from a JPEG file that Pillow wrote."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=0)
    return np.asarray(Image.open(file)).astype(float)


@pytest.mark.parametrize("quality", [20, 50, 75, 95])
@pytest.mark.parametrize("size", [(96, 64), (50, 43)])
def test_an_image_is_what_a_jpeg_file_would_leave_of_it(quality, size):
    image = _image(*size)
    ours = jax.jit(compression.compress)(np.moveaxis(image, -1, 0), float(quality))
    ours, theirs = np.moveaxis(np.asarray(ours), 0, -1).astype(float), _from_file(image, quality)
    change = np.abs(theirs - image).mean()
    # libjpeg transforms whole numbers, so that some coefficients are rounded the other way.
    assert np.abs(ours - theirs).mean() < 0.1 * change + 0.3
    assert np.mean(np.abs(ours - theirs) > 3) < 0.02


def test_lower_quality_leaves_less():
    image = _image(64, 64)
    errors = [
        np.abs(
            np.moveaxis(
                np.asarray(compression.compress(np.moveaxis(image, -1, 0), quality)), 0, -1
            ).astype(float)
            - image
        ).mean()
        for quality in (100.0, 80.0, 40.0, 10.0)
    ]
    assert errors[0] < 1.0 and errors == sorted(errors)
