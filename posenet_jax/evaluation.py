"""How good an encoder is on held-out pairs: figures in degrees and rates, constants beside them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posenet_jax import geometry, losses
from posenet_jax.encoder import HeadOutputs
from posenet_jax.preprocessing import Preprocessing
from posenet_jax.training import Pairs, TrainConfig, predict, relative_poses
from posenet_jax.weights import PoseScale

Array = jax.Array


def _degrees(angle: Array) -> np.ndarray:
    return np.degrees(np.asarray(angle, np.float64))


def rotation_errors(poses: Array | np.ndarray, truth: Array) -> np.ndarray:
    """[P] degrees between the rotations of two sets of relative poses [P, 6]."""

    def error(pose, true_pose):
        return geometry.rotation_angle(
            geometry.rotation_from_yaw_pitch_roll(pose[:3]),
            geometry.rotation_from_yaw_pitch_roll(true_pose[:3]),
        )

    return _degrees(jax.vmap(error)(poses, truth))


def normal_errors(predicted: Array, truth: Array) -> np.ndarray:
    """[P] degrees between normals [P, 3]; `predicted` need not have length one."""
    chord = jnp.linalg.norm(losses.unit(predicted) - truth, axis=-1)
    return _degrees(2.0 * jnp.arcsin(jnp.clip(0.5 * chord, 0.0, 1.0)))


def _predict_all(
    params: Any, pairs: Pairs, config: TrainConfig, space: Preprocessing, mesh: Mesh, batch: int
) -> tuple[np.ndarray, HeadOutputs, np.ndarray, np.ndarray]:
    """What `predict` says of all pairs, on the host."""
    count = pairs.image.shape[0]
    if count % batch:
        raise ValueError(f"{count} pairs do not fill batches of {batch}")
    over_devices = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    parts = []
    for start in range(0, count, batch):
        image = jax.device_put(pairs.image[start : start + batch], over_devices)
        parts.append(jax.device_get(predict(params, image, config=config, space=space, mesh=mesh)))
    return jax.tree.map(lambda *xs: np.concatenate(xs), *parts)


def evaluate(
    params: Any,
    pairs: Pairs,
    scale: PoseScale,
    *,
    config: TrainConfig,
    space: Preprocessing,
    mesh: Mesh,
    batch: int = 32,
) -> dict[str, float]:
    """Held-out figures of parameters in training units on `pairs` (host arrays).

    Rotation and normal errors are medians in degrees, beside those of the identity and of the
    constant that suits these pairs best (so that the comparison is a hard one); `fpr95_hard` and
    `fpr95_easy` are false positive rates at 95 % recall against another target of the same scene
    and against another scene; `active_share` is the share of the descriptor's units above zero in
    an image, `dead_share` that of units above zero in none.
    """
    descriptors, outputs, hard, easy = _predict_all(params, pairs, config, space, mesh, batch)
    posed = np.asarray(pairs.pose_weight) > 0
    matched = np.asarray(pairs.match_weight) > 0
    scale = jax.tree.map(jnp.asarray, jax.device_get(scale))
    truth = relative_poses(pairs.rotation, pairs.centre)
    errors = rotation_errors(scale.restore(outputs.pose), truth)[posed]
    identity = rotation_errors(jnp.zeros_like(truth), truth)[posed]
    mean = rotation_errors(jnp.broadcast_to(truth[posed].mean(0), truth.shape), truth)[posed]
    mean_normal = jnp.broadcast_to(pairs.normal[posed].mean(0), pairs.normal.shape)
    active = np.asarray(descriptors > 0).reshape((-1, descriptors.shape[-1]))
    return {
        "rotation_error": float(np.median(errors)),
        "rotation_error_identity": float(np.median(identity)),
        "rotation_error_constant": float(np.median(mean)),
        "normal_error": float(np.median(normal_errors(outputs.normal, pairs.normal)[posed])),
        "normal_error_constant": float(np.median(normal_errors(mean_normal, pairs.normal)[posed])),
        "fpr95_hard": float(losses.false_positive_rate(outputs.match[matched], hard[matched])),
        "fpr95_easy": float(losses.false_positive_rate(outputs.match[matched], easy[matched])),
        "active_share": float(active.mean()),
        "dead_share": float((~active.any(axis=0)).mean()),
    }
