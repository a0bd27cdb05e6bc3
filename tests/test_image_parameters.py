"""The pyramid: interpolation against NumPy, the box of colours, the opponent axes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posenet_jax import image_parameters
from posenet_jax.preprocessing import Preprocessing

SPACE = Preprocessing(means=(90.0, 100.0, 110.0), size=20)


def _levels(seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    sizes = image_parameters.pyramid_sizes(SPACE.size)
    return tuple(jnp.asarray(scale * rng.normal(size=(3, n, n)), jnp.float32) for n in sizes)


def _image(levels, chroma=1.0):
    return np.asarray(image_parameters.image(levels, "pyramid", jnp.float32(chroma), SPACE))


@pytest.mark.parametrize("coarse", [1, 2, 7, 20])
def test_upsampling_is_numpys_linear_interpolation(coarse):
    level = np.random.default_rng(1).normal(size=(3, coarse, coarse)).astype(np.float32)
    centres = (np.arange(coarse) + 0.5) / coarse
    wanted = (np.arange(20) + 0.5) / 20

    def along(axis, values):
        return np.apply_along_axis(lambda v: np.interp(wanted, centres, v), axis, values)

    ours = image_parameters._upsample(jnp.asarray(level), 20)
    np.testing.assert_allclose(ours, along(2, along(1, level)), atol=1e-5)


def test_levels_halve_down_from_the_image():
    assert image_parameters.pyramid_sizes(100) == [100, 50, 25, 13, 7]


def test_zero_parameters_are_the_mean_colour():
    zero = jax.tree.map(jnp.zeros_like, _levels())
    np.testing.assert_allclose(_image(zero), 0.0, atol=1e-3)


def test_images_fill_the_box_and_stay_inside():
    low, high = (np.asarray(bound) for bound in SPACE.bounds())
    wild = _image(_levels(scale=30.0))
    assert np.all(wild >= low) and np.all(wild <= high)
    assert np.any(wild < low + 1) and np.any(wild > high - 1)


def test_without_chroma_the_channels_rise_and_fall_together():
    low, high = (np.asarray(bound) for bound in SPACE.bounds())

    def logits(image):
        share = (image - low) / (high - low)
        return np.log(share / (1 - share)) - np.log(-low / high)

    grey = logits(_image(_levels(), chroma=0.0))
    np.testing.assert_allclose(grey, grey[..., :1].repeat(3, -1), atol=1e-3)
    full, part = logits(_image(_levels(), 1.0)), logits(_image(_levels(), 0.25))
    np.testing.assert_allclose(part.mean(-1), full.mean(-1), atol=1e-3)
    colour = full - full.mean(-1, keepdims=True)
    np.testing.assert_allclose(part - part.mean(-1, keepdims=True), 0.25 * colour, atol=1e-3)


def test_initial_noise_has_the_deviation_asked_for():
    pixels = image_parameters.initial(jax.random.key(0), "pixels", 10.0, SPACE)
    assert float(jnp.std(pixels)) == pytest.approx(10.0, rel=0.1)
    levels = image_parameters.initial(jax.random.key(0), "pyramid", 6.0, SPACE)
    assert 0.5 < float(np.std(_image(levels))) < 6.0
