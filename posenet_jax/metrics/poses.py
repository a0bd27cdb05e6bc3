"""Errors of what pose heads predict: rotation, translation, normals, matching.

P pairs of views; results are host arrays, angles in degrees.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from posenet_jax import geometry
from posenet_jax.geometry import relative_poses

Pose = Float[Array, "6"]
DevicePoses = Float[Array, "pairs 6"]
Angle = Float[Array, ""]
Angles = Float[Array, "pairs"]
Degrees = Float[np.ndarray, "pairs"]
Poses = Float[np.ndarray, "pairs 6"]
PosesLike = Float[ArrayLike, "pairs 6"]
Directions = Float[ArrayLike, "pairs 3"]
Rotations = Float[ArrayLike, "pairs 2 3 3"]
Centres = Float[ArrayLike, "pairs 2 3"]
Logits = Float[np.ndarray, "_"]
Curve = Float[np.ndarray, "thresholds"]


def false_positive_rate(matching: Logits, differing: Logits, recall: float = 0.95) -> float:
    """Share of `differing` logits that the threshold accepts which accepts `recall` of `matching`.

    It accepts what is as high: logits that are all alike tell nothing apart, and the rate is 1. So
    it is where they are no numbers.
    """
    refused = np.asarray(differing) < np.quantile(matching, 1.0 - recall)
    return float(1.0 - np.mean(refused))


class PairErrors(NamedTuple):
    """Degrees, one value a pair."""

    true_rotation: Degrees  # the error of the identity, too
    rotation: Degrees
    constant_rotation: Degrees  # of the mean pose of these pairs: a hard comparison
    translation: Degrees  # of the translation's direction; NaN where there is none
    constant_translation: Degrees


def _degrees(angle: Angles) -> Degrees:
    return np.degrees(np.asarray(angle, np.float64))


@jax.jit
def _rotation_angles(poses: DevicePoses, truth: DevicePoses) -> Angles:
    def error(pose: Pose, true_pose: Pose) -> Angle:
        return geometry.rotation_angle(
            geometry.rotation_from_yaw_pitch_roll(pose[:3]),
            geometry.rotation_from_yaw_pitch_roll(true_pose[:3]),
        )

    return jax.vmap(error)(poses, truth)


def rotation_errors(poses: PosesLike, truth: PosesLike) -> Degrees:
    """[P] degrees between the rotations of two sets of relative poses [P, 6]."""
    return _degrees(_rotation_angles(jnp.asarray(poses), jnp.asarray(truth)))


def normal_errors(predicted: Directions, truth: Directions) -> Degrees:
    """[P] degrees between directions [P, 3]; `predicted` need not have length one."""
    chord = jnp.linalg.norm(geometry.unit(jnp.asarray(predicted)) - truth, axis=-1)
    return _degrees(2.0 * jnp.arcsin(jnp.clip(0.5 * chord, 0.0, 1.0)))


def _translation_errors(poses: Poses, truth: Poses) -> Degrees:
    length = np.linalg.norm(truth[:, 3:], axis=1, keepdims=True)
    moved = length > 1e-3
    direction = np.where(moved, truth[:, 3:] / np.where(moved, length, 1.0), 0.0)
    return np.where(moved[:, 0], normal_errors(poses[:, 3:], direction), np.nan)


def pair_errors(pose: Poses, rotation: Rotations, centre: Centres) -> PairErrors:
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


def yaw_correlation(pose: Poses, rotation: Rotations, centre: Centres) -> float:
    """Pearson's correlation of predicted with true yaw, in [-1, 1]; NaN where either is constant.

    A network that answers with the mean has nearly the constant's errors and a correlation of zero;
    one that mistakes left for right has less than zero. Errors alone do not tell them apart.
    """
    predicted, true = _yaws(pose, rotation, centre)
    if not np.ptp(predicted) or not np.ptp(true):
        return float("nan")
    return float(np.corrcoef(predicted, true)[0, 1])


def yaw_slope(pose: Poses, rotation: Rotations, centre: Centres) -> float:
    """Slope of the line through zero of predicted over true yaw, by least squares; NaN where no
    camera turns.

    1 where answers are as large as the turns; below it a network answers too small, as one does
    that learnt from small turns.
    """
    predicted, true = _yaws(pose, rotation, centre)
    energy = np.dot(true, true)
    return float(np.dot(predicted, true) / energy) if energy else float("nan")


def _yaws(pose: Poses, rotation: Rotations, centre: Centres) -> tuple[np.ndarray, np.ndarray]:
    """Returns predicted and true yaws [P], radians."""
    truth = np.asarray(relative_poses(jnp.asarray(rotation), jnp.asarray(centre)))
    return np.asarray(pose, np.float64)[:, 0], truth[:, 0].astype(np.float64)


def roc(matching: Sequence[float] | Logits, differing: Any) -> tuple[Curve, Curve]:
    """(false positive rates, recalls) of all thresholds on the logits, from (0, 0) to (1, 1)."""
    positive, negative = np.sort(np.asarray(matching)), np.sort(np.asarray(differing))
    thresholds = np.unique(np.concatenate([positive, negative]))[::-1]
    recall = 1.0 - np.searchsorted(positive, thresholds, side="left") / len(positive)
    rate = 1.0 - np.searchsorted(negative, thresholds, side="left") / len(negative)
    return np.concatenate([[0.0], rate]), np.concatenate([[0.0], recall])
