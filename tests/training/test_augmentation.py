"""Augmentation: its parts against NumPy's, keys, ranges, and a gradient through all of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from posenet_jax.training import augmentation

SIDE = 40


@pytest.fixture(scope="module")
def image():
    return jnp.asarray(np.random.default_rng(0).uniform(-0.5, 0.5, (SIDE, SIDE, 3)), jnp.float32)


def _many(function, image, count=64):
    keys = jax.random.split(jax.random.key(7), count)
    return np.asarray(jax.jit(jax.vmap(function, (None, 0)))(image, keys))


def test_colours_change_by_an_offset_a_saturation_and_a_contrast(image):
    """Every value is offset + contrast · (grey + saturation · (value - grey)), by least squares."""
    values = np.asarray(image, np.float64)
    grey = np.broadcast_to(values.mean(axis=-1, keepdims=True), values.shape)
    columns = np.stack([np.ones(values.size), grey.ravel(), (values - grey).ravel()], axis=1)
    found = []
    for changed in _many(augmentation._recoloured, image):
        (offset, contrast, both), *_ = np.linalg.lstsq(columns, changed.ravel(), rcond=None)
        np.testing.assert_allclose(
            columns @ [offset, contrast, both], changed.ravel(), atol=1e-5, rtol=0
        )
        level = changed.mean() - values.mean()
        found.append((level, both / contrast, contrast))
    for drawn, (low, high) in zip(
        np.transpose(found), ((-0.25, 0.25), (0.0, 2.0), (0.5, 1.5)), strict=True
    ):
        assert low - 1e-4 < drawn.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < drawn.max() < high + 1e-4


def test_a_shifted_image_is_moved_by_whole_pixels_and_zero_where_nothing_was(image):
    values, found = np.asarray(image), set()
    for changed in _many(augmentation._shifted, image):
        fits = []
        for down in range(-5, 6):
            for right in range(-5, 6):
                moved = np.pad(values, [(5, 5), (5, 5), (0, 0)])
                window = moved[5 - down : 5 - down + SIDE, 5 - right : 5 - right + SIDE]
                if np.array_equal(window, changed):
                    fits.append((down, right))
        assert len(fits) == 1
        found.update(fits)
    assert len(found) > 30 and np.ptp(list(found)) == 10


def test_a_square_half_as_wide_is_hidden_about_any_place(image):
    shares = []
    for changed in _many(augmentation._hidden, image):
        zero = (changed == 0.0).all(axis=-1)
        rows, columns = zero.any(axis=1), zero.any(axis=0)
        np.testing.assert_array_equal(zero, rows[:, None] & columns[None])  # one rectangle
        np.testing.assert_array_equal(changed[~zero], np.asarray(image)[~zero])
        shares.append(zero.mean())
    assert max(shares) == pytest.approx(0.25, abs=0.02) and min(shares) < 0.12


def test_draws_are_augmented_apart_and_by_their_images_keys(image):
    made = jnp.broadcast_to(image, (2, 3, *image.shape))
    keys = jax.random.split(jax.random.key(1), 3)
    views = jax.jit(augmentation.augmented_draws)(made, keys)
    apart = np.abs(np.asarray(views.reshape((6, 1, -1)) - views.reshape((1, 6, -1)))).max(axis=-1)
    assert apart[~np.eye(6, dtype=bool)].min() > 0.05
    own = jax.jit(augmentation.augmented)(image, jax.random.fold_in(keys[2], 1))
    np.testing.assert_allclose(views[1, 2], own, atol=1e-6)
    # Half of a batch, as on another device, is that half of the whole.
    half = jax.jit(augmentation.augmented_draws)(made[:, 1:], keys[1:])
    np.testing.assert_allclose(half, views[:, 1:], atol=1e-6)


def test_parts_are_enlarged_as_by_scipy():
    """Where they lie is read from images whose pixels are their own coordinates."""
    rng, count = np.random.default_rng(2), 64
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    images = rng.normal(size=(2, count, SIDE, SIDE, 3)).astype(np.float32)
    images[..., 0], images[..., 1] = rows, columns
    keys = jax.random.split(jax.random.key(5), count)
    views = np.asarray(jax.jit(augmentation.enlarged, static_argnums=2)(images, keys, 2.0))
    factors = []
    for number in range(count):
        places = views[0, number, ..., :2]
        down, across = places[:, 0, 0], places[0, :, 1]
        factors.append([1.0 / np.diff(line)[1:-1].mean() for line in (down, across)])
        for draw in range(2):
            expected = ndimage.map_coordinates(
                images[draw, number, ..., 2], np.meshgrid(down, across, indexing="ij"), order=1
            )
            np.testing.assert_allclose(views[draw, number, ..., 2], expected, atol=1e-4)
    factors = np.asarray(factors)
    np.testing.assert_allclose(factors[:, 0], factors[:, 1], rtol=1e-3)  # squares
    assert factors.min() < 1.05 and 1.9 < factors.max() < 2.001
    centres = views[0, :, SIDE // 2, SIDE // 2, :2]
    assert np.ptp(centres[factors.mean(axis=1) > 1.5], axis=0).min() > 10


def test_the_gradient_passes_through(image):
    """Against central differences along a direction."""
    key, direction = jax.random.key(3), jax.random.normal(jax.random.key(4), image.shape)

    def value(at):
        return jnp.sum(jnp.square(augmentation.augmented(at, key)))

    slope = float(jnp.vdot(jax.jit(jax.grad(value))(image), direction))
    step = 1e-2
    difference = (value(image + step * direction) - value(image - step * direction)) / (2 * step)
    assert slope == pytest.approx(float(difference), rel=1e-2)
