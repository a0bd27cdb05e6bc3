"""Errors of what pose heads predict: rotation, translation, normals, matching.

P pairs of views; results are host arrays, angles in degrees.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from posenet_jax import geometry
from posenet_jax.geometry import relative_poses

Array = jax.Array


def false_positive_rate(matching: np.ndarray, differing: np.ndarray, recall: float = 0.95) -> float:
    """Share of `differing` logits that the threshold accepts which accepts `recall` of `matching`.

    It accepts what is as high: logits that are all alike tell nothing apart, and the rate is 1. So
    it is where they are no numbers.
    """
    refused = np.asarray(differing) < np.quantile(matching, 1.0 - recall)
    return float(1.0 - np.mean(refused))


class PairErrors(NamedTuple):
    """Degrees, one value a pair."""

    true_rotation: np.ndarray  # [P] the error of the identity, too
    rotation: np.ndarray  # [P]
    constant_rotation: np.ndarray  # [P] of the mean pose of these pairs: a hard comparison
    translation: np.ndarray  # [P] of the translation's direction; NaN where there is none
    constant_translation: np.ndarray  # [P]


def _degrees(angle: Array) -> np.ndarray:
    return np.degrees(np.asarray(angle, np.float64))


@jax.jit
def _rotation_angles(poses: Array, truth: Array) -> Array:
    def error(pose: Array, true_pose: Array) -> Array:
        return geometry.rotation_angle(
            geometry.rotation_from_yaw_pitch_roll(pose[:3]),
            geometry.rotation_from_yaw_pitch_roll(true_pose[:3]),
        )

    return jax.vmap(error)(poses, truth)


def rotation_errors(poses: ArrayLike, truth: ArrayLike) -> np.ndarray:
    """[P] degrees between the rotations of two sets of relative poses [P, 6]."""
    return _degrees(_rotation_angles(jnp.asarray(poses), jnp.asarray(truth)))


def normal_errors(predicted: ArrayLike, truth: ArrayLike) -> np.ndarray:
    """[P] degrees between directions [P, 3]; `predicted` need not have length one."""
    chord = jnp.linalg.norm(geometry.unit(jnp.asarray(predicted)) - truth, axis=-1)
    return _degrees(2.0 * jnp.arcsin(jnp.clip(0.5 * chord, 0.0, 1.0)))


def _translation_errors(poses: np.ndarray, truth: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(truth[:, 3:], axis=1, keepdims=True)
    moved = length > 1e-3
    direction = np.where(moved, truth[:, 3:] / np.where(moved, length, 1.0), 0.0)
    return np.where(moved[:, 0], normal_errors(poses[:, 3:], direction), np.nan)


def pair_errors(pose: np.ndarray, rotation: ArrayLike, centre: ArrayLike) -> PairErrors:
    """Errors of poses [P, 6] against cameras: rotations [P, 2, 3, 3], centres [P, 2, 3]."""
    truth = np.asarray(relative_poses(jnp.asarray(rotation), jnp.asarray(centre)))
    constant = np.broadcast_to(truth.mean(axis=0), truth.shape)
    return PairErrors(
        rotation_errors(np.zeros_like(truth), truth),
        rotation_errors(pose, truth),
        rotation_errors(constant, truth),
        _translation_errors(pose, truth),
        _translation_errors(constant, truth),
    )


def roc(matching: Sequence[float] | np.ndarray, differing: Any) -> tuple[np.ndarray, np.ndarray]:
    """(false positive rates, recalls) of all thresholds on the logits, from (0, 0) to (1, 1)."""
    positive, negative = np.sort(np.asarray(matching)), np.sort(np.asarray(differing))
    thresholds = np.unique(np.concatenate([positive, negative]))[::-1]
    recall = 1.0 - np.searchsorted(positive, thresholds, side="left") / len(positive)
    rate = 1.0 - np.searchsorted(negative, thresholds, side="left") / len(negative)
    return np.concatenate([[0.0], rate]), np.concatenate([[0.0], recall])
