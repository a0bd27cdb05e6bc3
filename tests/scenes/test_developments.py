"""Development of a pair's photographs: shared settings, own noise, ranges."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

from posenet_jax.scenes import DevelopmentConfig, compression, photometry

_SETTINGS = [name for name in photometry.Development._fields if name != "noise_key"]


def _draw(key, **changes):
    config = DevelopmentConfig(sharpening=0.1, lowest_quality=30.0, hue=1.0, saturation=0.5)
    config = dataclasses.replace(config, **changes)
    return photometry.sample_developments(jax.random.key(key), config)


def test_difference_zero_is_one_cameras_settings_with_noise_of_each_photographs_own():
    pair = _draw(0, difference=0.0)
    for name in _SETTINGS:
        first, second = np.asarray(getattr(pair, name))
        np.testing.assert_array_equal(first, second)
    keys = jax.random.key_data(pair.noise_key)
    assert not np.array_equal(keys[0], keys[1])


@pytest.mark.parametrize("share", [0.2, 0.7])
def test_difference_is_a_line_from_shared_to_drawn_apart(share):
    same, apart, between = (_draw(1, difference=d) for d in (0.0, 1.0, share))
    for name in _SETTINGS:
        a, b, c = (np.asarray(getattr(d, name)) for d in (same, apart, between))
        assert not np.array_equal(b[0], b[1])
        np.testing.assert_allclose(c, (1 - share) * a + share * b, rtol=1e-5, atol=1e-7)


def test_settings_stay_in_their_ranges():
    draws = [_draw(key, difference=1.0, noise=0.3, automatic=(0.1, 0.4)) for key in range(20)]
    automatic, noise = (
        np.concatenate([np.asarray(getattr(d, name)) for d in draws])
        for name in ("automatic", "noise")
    )
    assert 0.1 <= automatic.min() < 0.15 and 0.35 < automatic.max() <= 0.4
    assert 0.0 <= noise.min() < 0.01 and 0.2 < noise.max() <= 0.3
    quality = np.concatenate([np.asarray(d.quality) for d in draws])
    assert 30.0 <= quality.min() < 45.0 and 85.0 < quality.max() <= 100.0
    blur = np.concatenate([np.asarray(d.blur) for d in draws])
    assert -0.1 <= blur.min() < -0.05 and blur.max() <= 0.18


def test_files_are_not_compressed_where_nothing_says_so():
    draw = photometry.sample_developments(jax.random.key(0), DevelopmentConfig())
    assert draw.quality is None and draw.colours is None and (np.asarray(draw.blur) >= 0.0).all()


def test_a_compressed_development_is_the_plain_one_as_its_file_has_it():
    image = jax.random.uniform(jax.random.key(1), (3, 40, 48))
    plain = photometry.plain_development()
    expected = compression.compress(photometry.develop(image, plain), 40.0)
    np.testing.assert_array_equal(photometry.develop(image, plain._replace(quality=40.0)), expected)


@pytest.mark.parametrize(("hue", "saturation"), [(0.0, 1.0), (np.pi, 1.0), (0.5 * np.pi, 0.5)])
def test_colours_are_turned_as_pillows_ycbcr_has_them(hue, saturation):
    """Within the rounding of both of Pillow's conversions; light and dark stay."""
    rng = np.random.default_rng(0)
    image = np.clip(rng.normal(128, 12, (8, 8, 3)), 0, 255).astype(np.uint8)
    matrix = photometry.recolouring(np.float32(hue), np.float32(saturation))
    development = photometry.plain_development()._replace(colours=matrix)
    planes = np.moveaxis(image, -1, 0).astype(np.float32) / 255
    # A plain development leaves values as they are but for its automatic exposure, which is off.
    made = np.moveaxis(np.asarray(photometry.develop(planes, development)), 0, -1)
    before, after = (
        np.asarray(Image.fromarray(each).convert("YCbCr"), float) - (0, 128, 128)
        for each in (image, made)
    )
    wanted = saturation * np.exp(1j * hue) * (before[..., 1] + 1j * before[..., 2])
    np.testing.assert_allclose(after[..., 0], before[..., 0], atol=1.5)
    np.testing.assert_allclose(after[..., 1] + 1j * after[..., 2], wanted, atol=2.5)
    assert np.abs(wanted).max() > 10
