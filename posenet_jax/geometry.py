"""Cameras and poses. Everything here is unbatched; `vmap` it for batches.

Camera axes: x right, y down, z forward. World axes: x east, y north, z up, metres. A pose is a
camera-to-world rotation (its columns are the camera's axes in the world) and the camera's centre.
Angles are radians. Intrinsics are one horizontal field of view and square pixels.
"""

import jax
import jax.numpy as jnp

Array = jax.Array

# Columns: right, down and forward of a level camera that looks along the world's x axis.
_LEVEL = ((0.0, 0.0, 1.0), (-1.0, 0.0, 0.0), (0.0, -1.0, 0.0))


def rotation_about(axis: int, angle: Array) -> Array:
    """[3, 3] right-handed rotation by `angle` about coordinate axis 0, 1 or 2."""
    c, s = jnp.cos(angle), jnp.sin(angle)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    rotation = jnp.zeros((3, 3), c.dtype).at[axis, axis].set(1.0)
    return rotation.at[i, i].set(c).at[j, j].set(c).at[i, j].set(-s).at[j, i].set(s)


def camera_rotation(heading: Array, pitch: Array, roll: Array) -> Array:
    """[3, 3] camera-to-world rotation of a camera on the ground plane.

    heading turns the viewing direction from the world's x axis toward its y axis, pitch raises it,
    roll turns the camera clockwise about it (as seen from behind the camera).
    """
    turn = rotation_about(2, heading)
    level = jnp.asarray(_LEVEL, turn.dtype)
    return turn @ level @ rotation_about(0, pitch) @ rotation_about(2, roll)


def look_at(centre: Array, target: Array, roll: Array) -> Array:
    """[3, 3] camera-to-world rotation of a camera at `centre` that looks at `target`."""
    x, y, z = target - centre
    return camera_rotation(jnp.arctan2(y, x), jnp.arctan2(z, jnp.hypot(x, y)), roll)


def yaw_pitch_roll(rotation: Array) -> Array:
    """[3] Tait-Bryan angles of a rotation between cameras: R = R_y(yaw) R_x(pitch) R_z(roll)."""
    yaw = jnp.arctan2(rotation[0, 2], rotation[2, 2])
    pitch = -jnp.arcsin(jnp.clip(rotation[1, 2], -1.0, 1.0))
    roll = jnp.arctan2(rotation[1, 0], rotation[1, 1])
    return jnp.stack([yaw, pitch, roll])


def rotation_from_yaw_pitch_roll(angles: Array) -> Array:
    """[3, 3] rotation whose `yaw_pitch_roll` is `angles` [3]."""
    yaw, pitch, roll = angles
    return rotation_about(1, yaw) @ rotation_about(0, pitch) @ rotation_about(2, roll)


def relative_pose(
    rotation_1: Array, centre_1: Array, rotation_2: Array, centre_2: Array
) -> tuple[Array, Array]:
    """Pose of camera 2 in camera 1's frame: rotation [3, 3] and translation [3] in metres."""
    return rotation_1.T @ rotation_2, rotation_1.T @ (centre_2 - centre_1)


def relative_pose_6d(
    rotation_1: Array, centre_1: Array, rotation_2: Array, centre_2: Array
) -> Array:
    """[6] yaw, pitch, roll (radians) and translation (metres, camera 1's frame)."""
    rotation, translation = relative_pose(rotation_1, centre_1, rotation_2, centre_2)
    return jnp.concatenate([yaw_pitch_roll(rotation), translation])


def rotation_angle(rotation_1: Array, rotation_2: Array) -> Array:
    """Angle of the rotation between two rotations, in [0, pi].

    atan2 of the skew and symmetric parts is accurate at both ends, as arccos of the trace is not.
    """
    between = rotation_1.T @ rotation_2
    skew = jnp.stack(
        [
            between[2, 1] - between[1, 2],
            between[0, 2] - between[2, 0],
            between[1, 0] - between[0, 1],
        ]
    )
    return jnp.arctan2(jnp.linalg.norm(skew), jnp.trace(between) - 1.0)


def focal_length(width: int, field_of_view: Array) -> Array:
    """Pixels, for a horizontal field of view in radians across `width` pixels."""
    return 0.5 * width / jnp.tan(0.5 * field_of_view)


def pixel_rays(height: int, width: int, field_of_view: Array) -> Array:
    """[H, W, 3] directions through the pixels' centres, camera frame, z component 1."""
    focal = focal_length(width, field_of_view)
    across, down = (jnp.arange(side, dtype=jnp.float32) for side in (width, height))
    x = (across + 0.5 - 0.5 * width) / focal
    y = (down + 0.5 - 0.5 * height) / focal
    x, y = jnp.meshgrid(x, y)
    return jnp.stack([x, y, jnp.ones_like(x)], axis=-1)


def relative_poses(rotation: Array, centre: Array) -> Array:
    """[P, 6] yaw, pitch, roll (radians) and translation (metres) of view 2 in view 1's frame.

    rotation [P, 2, 3, 3] camera-to-world, centre [P, 2, 3].
    """
    return jax.vmap(relative_pose_6d)(rotation[:, 0], centre[:, 0], rotation[:, 1], centre[:, 1])


def unit(vector: Array) -> Array:
    """The vector [..., D] at length one; the zero vector stays zero, with a finite gradient."""
    return vector / jnp.sqrt(jnp.sum(jnp.square(vector), axis=-1, keepdims=True) + 1e-12)
