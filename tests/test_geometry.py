"""Cameras and poses against SciPy's rotations and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posenet_jax import geometry

ANGLES = np.random.default_rng(0).uniform(-1.2, 1.2, (20, 3)).astype(np.float32)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rotation_about_an_axis_is_scipys(axis):
    expected = Rotation.from_euler("xyz"[axis], 0.7).as_matrix()
    np.testing.assert_allclose(geometry.rotation_about(axis, 0.7), expected, atol=1e-6)


def test_yaw_pitch_roll_is_scipys_intrinsic_yxz():
    ours = jax.vmap(geometry.rotation_from_yaw_pitch_roll)(jnp.asarray(ANGLES))
    expected = Rotation.from_euler("YXZ", ANGLES).as_matrix()
    np.testing.assert_allclose(ours, expected, atol=2e-6)
    np.testing.assert_allclose(jax.vmap(geometry.yaw_pitch_roll)(ours), ANGLES, atol=2e-5)


def test_rotation_angle_is_scipys_magnitude_at_both_ends():
    vectors = np.array([[1e-4, 0, 0], [0.3, -0.2, 0.9], [0, 3.1415, 0], [2.0, 1.0, -1.0]])
    rotations = Rotation.from_rotvec(vectors)
    ours = jax.vmap(geometry.rotation_angle, (None, 0))(
        jnp.eye(3), jnp.asarray(rotations.as_matrix(), jnp.float32)
    )
    np.testing.assert_allclose(ours, rotations.magnitude(), atol=1e-5)


def test_heading_pitch_and_roll_turn_the_way_they_say():
    level = geometry.camera_rotation(0.0, 0.0, 0.0)
    np.testing.assert_allclose(level[:, 2], [1, 0, 0], atol=1e-6)  # forward: east
    np.testing.assert_allclose(level[:, 1], [0, 0, -1], atol=1e-6)  # down
    north = geometry.camera_rotation(jnp.pi / 2, 0.0, 0.0)
    np.testing.assert_allclose(north[:, 2], [0, 1, 0], atol=1e-6)
    assert geometry.camera_rotation(0.0, 0.3, 0.0)[2, 2] > 0  # looks up
    assert geometry.camera_rotation(0.0, 0.0, 0.3)[2, 0] < 0  # right side dips


def test_look_at_puts_the_target_on_the_axis():
    centre, target = jnp.array([1.0, -2.0, 1.6]), jnp.array([7.0, 5.0, 4.0])
    seen = geometry.look_at(centre, target, 0.1).T @ (target - centre)
    np.testing.assert_allclose(seen, [0, 0, np.linalg.norm(target - centre)], atol=1e-5)


def test_relative_pose_maps_points_of_camera_2_into_camera_1():
    rotations = jax.vmap(geometry.rotation_from_yaw_pitch_roll)(jnp.asarray(ANGLES[:2]))
    centres = jnp.array([[1.0, 2.0, 3.0], [-4.0, 0.5, 2.0]])
    rotation, translation = geometry.relative_pose(
        rotations[0], centres[0], rotations[1], centres[1]
    )
    point = jnp.array([0.3, -0.7, 5.0])
    world = rotations[1] @ point + centres[1]
    expected = rotations[0].T @ (world - centres[0])
    np.testing.assert_allclose(rotation @ point + translation, expected, atol=1e-5)


def test_pixel_rays_span_the_field_of_view():
    rays = np.asarray(geometry.pixel_rays(50, 100, jnp.deg2rad(90.0)))
    # Outermost centres lie half a pixel, a hundredth of the half width, inside the edge at 45°.
    assert rays[0, -1, 0] == pytest.approx(0.99, abs=1e-5)
    np.testing.assert_allclose(rays[10, 20, :2], -rays[-11, -21, :2], atol=1e-6)
    steps = np.diff(rays[0, :, 0]), np.diff(rays[:, 0, 1])
    np.testing.assert_allclose(np.concatenate(steps), 0.02, atol=1e-5)  # square pixels
