"""Inversion of images of any height, width, channels and range; oracles: closed forms, SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import diversity, engine, objective, recipes, solver

KEY = jax.random.key(3)
RNG = np.random.default_rng(0)
SHAPE = 9, 13, 1
DEPTH = Preprocessing.of_range(2.0, 10.0, size=SHAPE[:2])  # metres
LEVELS = Preprocessing(means=(127.5,), size=SHAPE[:2])
MATRIX = RNG.normal(0, 0.02, (12, SHAPE[0] * SHAPE[1])).astype(np.float32)
WAVES = recipes.QUICK.replace(steps=12)


def of_levels(image):
    return jax.nn.softplus(jnp.asarray(MATRIX) @ image.ravel())


def of_metres(image):
    return of_levels((image - 6.0) * (255.0 / 8.0))


TARGETS = np.stack([np.asarray(of_levels(x)) for x in RNG.normal(0, 50, (2, *SHAPE))])


def invert(phi, space, recipe=WAVES, **options):
    return engine.invert(phi, TARGETS, key=KEY, recipe=recipe, space=space, slots=2, **options)


def test_a_range_of_values_changes_nothing_but_the_units():
    """Grey, not square: an encoder of metres, and the same one written for grey levels."""
    metres, levels = invert(of_metres, DEPTH), invert(of_levels, LEVELS)
    assert metres.image.shape == (2, *SHAPE)
    np.testing.assert_allclose(metres.image, 6.0 + levels.image * (8.0 / 255.0), atol=1e-3)
    np.testing.assert_allclose(metres.loss, levels.loss, rtol=1e-3)
    found = np.stack([np.asarray(of_metres(image)) for image in metres.image])
    errors = np.linalg.norm(found - TARGETS, axis=1) / np.linalg.norm(TARGETS, axis=1)
    np.testing.assert_allclose(metres.descriptor_error, errors, rtol=1e-3)
    alone = solver.solve(
        of_metres, TARGETS[1], key=jax.random.fold_in(KEY, 1), recipe=WAVES, space=DEPTH
    )
    np.testing.assert_allclose(alone.image, metres.image[1], atol=1e-3)


def test_a_start_is_in_the_encoders_units():
    start = np.stack([np.full(SHAPE, 3.0), np.full(SHAPE, 8.0)]).astype(np.float32)
    recipe = recipes.WARM.replace(steps=2)
    found = invert(of_metres, DEPTH, recipe, start=start)
    assert np.all(np.abs(found.image - start) < 1.0)
    with pytest.raises(InputError, match=r"start must be finite, \[2, 9, 13, 1\]"):
        invert(of_metres, DEPTH, recipe, start=start[:, :8])


def test_a_grey_picture_costs_what_the_same_costs_in_colour():
    grey = jnp.asarray(RNG.normal(0, 50, SHAPE), jnp.float32)
    costs = [
        objective.loss(image, jnp.ones(4), jnp.ones(4), recipes.CALIBRATED)
        for image in (grey, jnp.repeat(grey, 3, axis=-1))
    ]
    assert float(costs[0]) == pytest.approx(float(costs[1]), rel=1e-5)


def test_light_and_dark_is_scipys_blur_by_the_shorter_side():
    image = RNG.normal(0, 50, (30, 50, 2)).astype(np.float32)
    blurred = ndimage.gaussian_filter(np.float64(image.mean(-1)), 30 / 25)
    found = diversity.light_and_dark(image)
    np.testing.assert_allclose(found, (blurred - blurred.mean()) / 32.0, atol=1e-4)
