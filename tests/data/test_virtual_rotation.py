"""Virtual rotations: resampling against SciPy, and pairs whose rotation the pictures bear out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from posenet_jax import geometry
from posenet_jax.data import virtual_rotation
from posenet_jax.data.virtual_rotation import VirtualRotation
from posenet_jax.scenes import DevelopmentConfig


@pytest.fixture(scope="module")
def photo():
    noise = np.random.default_rng(0).normal(size=(120, 150, 3))
    smooth = ndimage.gaussian_filter(noise, (6, 6, 0))
    return np.clip(128 + 900 * smooth, 0, 255).astype(np.uint8)


def _homography(shape, rotation, photo_fov, view_fov, size):
    """[size, size] rows and columns in the photograph, by K R K⁻¹ in float64."""
    height, width = shape
    focal = 0.5 * width / np.tan(photo_fov / 2)
    view = 0.5 * size / np.tan(view_fov / 2)
    inner = np.array([[focal, 0, width / 2 - 0.5], [0, focal, height / 2 - 0.5], [0, 0, 1]])
    outer = np.array([[view, 0, size / 2 - 0.5], [0, view, size / 2 - 0.5], [0, 0, 1]])
    v, u = np.mgrid[:size, :size]
    pixels = (
        np.stack([u, v, np.ones_like(u)], -1)
        @ (inner @ np.asarray(rotation, float) @ np.linalg.inv(outer)).T
    )
    return pixels[..., 1] / pixels[..., 2], pixels[..., 0] / pixels[..., 2]


@pytest.mark.parametrize("angles", [(0.0, 0.0, 0.0), (0.1, -0.05, 0.08), (0.5, 0.3, 0.0)])
def test_resampling_is_scipys_bilinear_interpolation_of_the_homography(photo, angles):
    rotation = geometry.rotation_from_yaw_pitch_roll(jnp.array(angles))
    ours = virtual_rotation.resample(jnp.asarray(photo, jnp.float32), rotation, 1.1, 0.7, 40)
    rows, columns = _homography((120, 150), rotation, 1.1, 0.7, 40)
    expected = np.stack(
        [
            ndimage.map_coordinates(
                photo[..., c].astype(float), [rows, columns], order=1, mode="nearest"
            )
            for c in range(3)
        ],
        -1,
    )
    np.testing.assert_allclose(ours, expected, atol=0.05)


def test_identity_at_the_same_field_of_view_is_the_photograph(photo):
    square = photo[:, :120]
    same = virtual_rotation.resample(jnp.asarray(square, jnp.float32), jnp.eye(3), 1.0, 1.0, 120)
    np.testing.assert_allclose(same, square, atol=0.02)


@pytest.mark.parametrize("difference", [0.0, 1.0])
def test_a_pairs_relative_rotation_carries_one_view_onto_the_other(photo, difference):
    alike = DevelopmentConfig(automatic=(0.0, 0.0), noise=0.0, difference=0.0)
    config = VirtualRotation(size=60, development=alike, view_difference=difference)
    sample = jax.jit(virtual_rotation.sample_photo_pair, static_argnames="config")
    for seed in range(3):
        pair = sample(jax.random.key(seed), jnp.asarray(photo), config)
        between = np.asarray(pair.rotation[0]).T @ np.asarray(pair.rotation[1])
        first_fov, second_fov = map(float, pair.field_of_view)
        assert (first_fov == second_fov) == (difference == 0.0)
        rows, columns = _homography((60, 60), between, first_fov, second_fov, 60)
        inside = (rows > 1) & (rows < 58) & (columns > 1) & (columns < 58)
        assert inside.mean() > 0.2
        first = np.asarray(pair.image[0], float)
        predicted = ndimage.map_coordinates(first[..., 0], [rows, columns], order=1)
        error = np.abs(predicted - np.asarray(pair.image[1], float)[..., 0])[inside]
        unrelated = np.abs(first[..., 0] - np.asarray(pair.image[1], float)[..., 0])[inside]
        # One view of two scales is the sharper.
        assert np.median(error) < (8.0 if difference else 4.0) < 20.0 < np.median(unrelated)


def test_views_differ_within_a_pair_and_between_keys(photo):
    config = VirtualRotation(size=32)
    one, same, other = (
        virtual_rotation.sample_photo_pair(jax.random.key(k), jnp.asarray(photo), config)
        for k in (1, 1, 2)
    )
    assert one.image.dtype == jnp.uint8 and one.image.shape == (2, 32, 32, 3)
    np.testing.assert_array_equal(one.image, same.image)
    assert not np.array_equal(one.image[0], one.image[1])
    assert not np.array_equal(one.image, other.image)
