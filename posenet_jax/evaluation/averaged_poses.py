"""Means of several readings of one relative pose: from either view, and of mirrored images.

Heads answer for an ordered pair. That the pose of view 1 seen from view 2 is the inverse of that of
view 2 seen from view 1, and that a mirrored pair turns the other way, is not built into them: the
readings err apart, and their mean errs less. Poses [P, 6] are yaw, pitch, roll (radians) and
translation (metres).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from posenet_jax import geometry

Array = jax.Array

# Reflected at the plane x = 0, a camera yaws and rolls the other way.
_MIRRORED = (-1.0, 1.0, -1.0, -1.0, 1.0, 1.0)


def inverse(poses: Array) -> Array:
    """[P, 6]: poses of view 1 in view 2's frame, of those of view 2 in view 1's."""
    back = jnp.swapaxes(_rotations(poses), -1, -2)
    centre = -jnp.einsum("pij,pj->pi", back, poses[:, 3:])
    return jnp.concatenate([jax.vmap(geometry.yaw_pitch_roll)(back), centre], axis=-1)


def mirrored(poses: Array) -> Array:
    """[P, 6]: poses between the views of pairs whose images are mirrored, left for right."""
    return poses * jnp.asarray(_MIRRORED)[None]


@jax.jit
def mean(readings: Sequence[Array]) -> Array:
    """[P, 6]: mean of readings [P, 6] of the same poses.

    Of rotations the one with the least sum of squared chordal distances: the rotation nearest to
    the mean matrix (Hartley et al. 2013, Rotation Averaging, section 5.3).
    """
    total = sum((_rotations(poses) for poses in readings), jnp.zeros(()))
    left, _, right = jnp.linalg.svd(total)
    proper = jnp.linalg.det(left @ right)
    nearest = left.at[..., -1].multiply(proper[..., None]) @ right
    centre = sum((poses[:, 3:] for poses in readings), jnp.zeros(())) / len(readings)
    return jnp.concatenate([jax.vmap(geometry.yaw_pitch_roll)(nearest), centre], axis=-1)


def _rotations(poses: Array) -> Array:
    return jax.vmap(geometry.rotation_from_yaw_pitch_roll)(poses[:, :3])
