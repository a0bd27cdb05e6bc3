"""Accuracy of an encoder on pairs of views it has not seen, beside that of constant predictions.

`predict` runs a network with heads on pairs of views; `metrics.pair_errors` compares the poses with
the truth, one value a pair; `summary` and `rotation_bins` sum up. `evaluate_rendered` and
`evaluate_photographs` do all of it.
P pairs, F descriptor length; results are host arrays, angles in degrees.
"""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from posenet_jax import metrics
from posenet_jax.data.photograph_cameras import FRAME
from posenet_jax.data.photograph_pairs import PhotographPairs
from posenet_jax.data.training_pairs import Pairs, negatives
from posenet_jax.encoders.encoder import Encoder, in_batches
from posenet_jax.errors import InputError
from posenet_jax.evaluation import averaged_poses
from posenet_jax.metrics import PairErrors

Array = jax.Array

# Median rotation errors (degrees) of two published networks at these true rotations: Zamir et al.'s
# in Torch, and a CaffeNet of theirs. The bins' edges lie midway between the centres.
PUBLISHED_ROTATIONS = (4.5, 18.9, 37.8, 56.8, 75.8, 94.8, 113.8)
PUBLISHED_ERRORS = {
    "torch": (10.6, 13.9, 17.6, 18.2, 22.4, 23.5, 27.8),
    "caffenet": (3.7, 6.1, 9.4, 13.2, 19.1, 24.5, 35.8),
}
READINGS = (1, 2, 4)  # of a pose: as it is, from either view, and both of mirrored images too
WITHIN = (15, 30)  # degrees, as rotation in the wild is scored
BIN_EDGES = (0.0, 9.5, 28.4, 47.3, 66.3, 85.3, 104.3, 123.3)


class Predictions(NamedTuple):
    """Predictions of a network for pairs of views."""

    descriptors: np.ndarray  # [P, 2, F]
    pose: np.ndarray  # [P, 6] radians and metres
    normal: np.ndarray  # [P, 3] of any length
    match: np.ndarray  # [P] logit of the pair itself
    hard: np.ndarray  # [P] logit with another target of the same scene
    easy: np.ndarray  # [P] logit with another scene


@jax.jit
def _encode(encoder: Encoder, images: Array) -> Array:
    return encoder.tap("fc5")(encoder.preprocessing.to_network(images))


@jax.jit
def _head_outputs(encoder: Encoder, descriptors: Array) -> tuple[Array, ...]:
    first, second = descriptors[:, 0], descriptors[:, 1]
    pose, normal = encoder.poses(first, second), encoder.heads(first, second).normal
    return pose, normal, *(encoder.matches(first, x) for x in (second, *negatives(second)))


def check_heads(encoder: Encoder) -> None:
    """Raises InputError for an encoder that was not trained to predict poses."""
    if not encoder.predicts_poses:
        raise InputError(f"encoder {encoder.name!r} has no heads to predict poses with")


def predict(
    encoder: Encoder, image: ArrayLike, mesh: Mesh, batch: int = 128, *, readings: int = 1
) -> Predictions:
    """Predictions for pairs of views [P, 2, H, W, 3] uint8 RGB; negatives by pairing anew.

    `batch` images at a time, a multiple of the number of devices, spread over the mesh. readings:
    of each pose, whose mean counts (`averaged_poses`), one of `READINGS`. Raises InputError for an
    encoder without heads.
    """
    check_heads(encoder)
    placed = jax.device_get(encoder)
    found = descriptors(encoder, image, mesh, batch)
    predictions = Predictions(found, *jax.device_get(_head_outputs(placed, found)))
    if readings == 1:
        return predictions
    poses = [*_from_either_view(placed, found)]
    if readings == 4:
        reflected = descriptors(encoder, np.asarray(image)[..., ::-1, :], mesh, batch)
        poses += map(averaged_poses.mirrored, _from_either_view(placed, reflected))
    return predictions._replace(pose=np.asarray(averaged_poses.mean(poses)))


@jax.jit
def _from_either_view(encoder: Encoder, descriptors: Array) -> tuple[Array, Array]:
    """[P, 6], [P, 6]: two readings of the poses of view 2 in view 1's frame."""
    first, second = descriptors[:, 0], descriptors[:, 1]
    return encoder.poses(first, second), averaged_poses.inverse(encoder.poses(second, first))


def descriptors(encoder: Encoder, image: ArrayLike, mesh: Mesh, batch: int = 128) -> np.ndarray:
    """[P, 2, F] fc5 of pairs of views, as for `predict`."""
    over_devices = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    placed = jax.device_put(encoder, NamedSharding(mesh, PartitionSpec()))
    flat = np.asarray(image).reshape((-1, *np.shape(image)[2:]))

    def encode(images: np.ndarray) -> Array:
        return _encode(placed, jax.device_put(images, over_devices))

    return in_batches(encode, flat, batch).reshape((len(flat) // 2, 2, -1))


class Evaluation(NamedTuple):
    """An encoder's accuracy on a set of pairs."""

    metrics: dict[str, Any]  # as `summary` or `rotation_summary` names them
    errors: PairErrors  # of the pairs that count
    labels: Sequence[str]  # their names
    match: np.ndarray = np.zeros(0)  # logits of pairs of the same target, if they were compared
    others: Mapping[str, np.ndarray] = MappingProxyType({})  # and of pairs of different ones


def evaluate_rendered(
    encoder: Encoder, pairs: Pairs, mesh: Mesh, *, readings: int = 1
) -> Evaluation:
    """Evaluates an encoder on rendered pairs, host arrays; labels are their numbers.

    readings: as for `predict`. Raises InputError for an encoder without heads.
    """
    predictions = predict(encoder, pairs.image, mesh, readings=readings)
    posed, matched = (np.asarray(x) > 0 for x in (pairs.pose_weight, pairs.match_weight))
    return Evaluation(
        summary(predictions, pairs),
        metrics.pair_errors(predictions.pose[posed], pairs.rotation[posed], pairs.centre[posed]),
        [str(number) for number in np.flatnonzero(posed)],
        predictions.match[matched],
        {
            "another street": predictions.easy[matched],
            "the same street": predictions.hard[matched],
        },
    )


def rotation_medians(encoder: Encoder, pairs: Pairs, mesh: Mesh) -> dict[str, float]:
    """Returns the rotation's medians of `rotation_summary`, correlation and slope of yaws, over all
    pairs, whatever their weights.

    Of pairs that only turn, the direction of translation means nothing.
    """
    predictions = predict(encoder, pairs.image, mesh)
    predicted = predictions.pose, pairs.rotation, pairs.centre
    return _rotation_medians(metrics.pair_errors(*predicted)) | _yaw(*predicted)


def evaluate_photographs(
    encoder: Encoder, pairs: PhotographPairs, mesh: Mesh, *, readings: int = 1
) -> Evaluation:
    """Evaluates an encoder on pairs of photographs; labels are the names of both.

    Metrics are those of `rotation_summary` and, under `scenes`, medians of each scene. readings: as
    for `predict`. Raises InputError for an encoder without heads.
    """
    predictions = predict(encoder, pairs.image, mesh, readings=readings)
    predicted = predictions.pose, pairs.rotation, pairs.centre
    errors = metrics.pair_errors(*predicted)
    scene = np.asarray([first.split("/")[0] for first, _ in pairs.names])
    by_scene = {
        str(name): {
            "pairs": int((scene == name).sum()),
            "rotation_median_deg": float(np.median(errors.rotation[scene == name])),
            "identity_median_deg": float(np.median(errors.true_rotation[scene == name])),
        }
        for name in np.unique(scene)
    }
    found = rotation_summary(errors) | {
        **_yaw(*predicted),
        "overlap": by_overlap(errors, FRAME),
        "scenes": by_scene,
    }
    return Evaluation(found, errors, [" ".join(names) for names in pairs.names])


def table(name: str, evaluation: Evaluation) -> list[dict[str, Any]]:
    """Returns a row for each pair of a set of this name: its label, true rotation and errors."""
    columns = evaluation.errors._asdict()
    return [
        {"set": name, "pair": label} | {key: float(column[row]) for key, column in columns.items()}
        for row, label in enumerate(evaluation.labels)
    ]


def sentences(name: str, evaluated: Mapping[str, Any]) -> list[str]:
    """Returns lines for a person on the metrics of a set of this name."""
    lines = [
        f"{name}: {evaluated['pairs']} pairs, rotation {evaluated['rotation_median_deg']:.2f}"
        f" (identity {evaluated['identity_median_deg']:.1f},"
        f" constant {evaluated['constant_median_deg']:.1f})"
    ]
    if math.isfinite(evaluated.get("yaw_correlation", math.nan)):
        lines[0] += (
            f", correlation of yaws {evaluated['yaw_correlation']:.2f},"
            f" slope {evaluated['yaw_slope']:.2f}"
        )
    if "normal_median_deg" in evaluated:
        lines.append(
            f"  normal {evaluated['normal_median_deg']:.2f}, false positives at 95 % recall: "
            f"{evaluated['matching_fpr95']:.3f} other streets, "
            f"{evaluated['matching_fpr95_same_scene']:.3f} the same street"
        )
    return lines


def rotation_summary(errors: PairErrors) -> dict[str, Any]:
    """Medians in degrees, beside those of the identity and of the best constant."""
    return {
        "pairs": len(errors.rotation),
        **_rotation_medians(errors),
        **_within(errors),
        "translation_median_deg": _median(errors.translation),
        "translation_constant_median_deg": _median(errors.constant_translation),
        "bins": rotation_bins(errors),
    }


def _median(degrees: np.ndarray) -> float:
    """Returns the median of the pairs that have an error; NaN where none has, as of turns alone."""
    finite = degrees[~np.isnan(degrees)]
    return float(np.median(finite)) if finite.size else math.nan


def by_overlap(errors: PairErrors, field_of_view: float) -> dict[str, dict[str, Any]]:
    """Returns the rotation's metrics by how much of each other two frames can see.

    Large overlap: turned by less than half of the field of view (radians); small: by less than all
    of it; none: by more, as Cai et al. (Extreme Rotation Estimation using Dense Correlation
    Volumes, CVPR 2021) class pairs of 90°. A class without pairs has only their number.
    """
    turned = np.radians(errors.true_rotation) / field_of_view
    classes = {
        "large": turned < 0.5,
        "small": (turned >= 0.5) & (turned < 1.0),
        "none": turned >= 1,
    }
    return {
        name: {"pairs": int(inside.sum())}
        | (_rotation_metrics(errors, inside) if any(inside) else {})
        for name, inside in classes.items()
    }


def _rotation_metrics(errors: PairErrors, inside: np.ndarray) -> dict[str, float]:
    """Medians and fractions of some of the pairs; the constant is that of all of them."""
    some = PairErrors(*(column[inside] for column in errors))
    return _rotation_medians(some) | _within(some)


def _rotation_medians(errors: PairErrors) -> dict[str, float]:
    return {
        "rotation_median_deg": float(np.median(errors.rotation)),
        "identity_median_deg": float(np.median(errors.true_rotation)),
        "constant_median_deg": float(np.median(errors.constant_rotation)),
    }


def _yaw(pose: np.ndarray, rotation: Any, centre: Any) -> dict[str, float]:
    return {
        "yaw_correlation": metrics.yaw_correlation(pose, rotation, centre),
        "yaw_slope": metrics.yaw_slope(pose, rotation, centre),
    }


def _within(errors: PairErrors) -> dict[str, float]:
    """Fractions of pairs whose rotation error is below 15° and 30°, and the constant's."""
    return {
        f"{name}within_{limit}_deg": float(np.mean(column < limit))
        for limit in WITHIN
        for name, column in (("", errors.rotation), ("constant_", errors.constant_rotation))
    }


def rotation_bins(errors: PairErrors) -> list[dict[str, Any]]:
    """Medians by true rotation, beside the published networks' (see PUBLISHED_ERRORS)."""
    rows = []
    for i, centre in enumerate(PUBLISHED_ROTATIONS):
        low, high = BIN_EDGES[i], BIN_EDGES[i + 1]
        inside = (errors.true_rotation >= low) & (errors.true_rotation < high)
        row: dict[str, Any] = {"centre_deg": centre, "low_deg": low, "high_deg": high}
        row["pairs"] = int(inside.sum())
        row["rotation_median_deg"] = (
            float(np.median(errors.rotation[inside])) if any(inside) else None
        )
        row |= {f"published_{name}_deg": table[i] for name, table in PUBLISHED_ERRORS.items()}
        rows.append(row)
    return rows


def summary(predictions: Predictions, pairs: Pairs) -> dict[str, Any]:
    """Returns all metrics of `pairs` (host arrays); pairs of weight zero do not count.

    What no pair counts for is left out.

    `matching_fpr95` is the false positive rate at 95 % recall against another scene and
    `matching_fpr95_same_scene` against another target of the same scene; `active_share` is the
    fraction of the descriptor's units above zero in an image, `dead_share` that of units above zero
    in none.
    """
    posed, matched = np.asarray(pairs.pose_weight) > 0, np.asarray(pairs.match_weight) > 0
    faced = np.asarray(pairs.normal_weight) > 0
    active = predictions.descriptors > 0
    active = active.reshape((-1, active.shape[-1]))
    predicted = predictions.pose[posed], pairs.rotation[posed], pairs.centre[posed]
    found = rotation_summary(metrics.pair_errors(*predicted)) | _yaw(*predicted)
    if any(faced):
        found |= _normals(predictions.normal[faced], np.asarray(pairs.normal)[faced])
    if any(matched):
        found |= _matching(predictions, matched)
    return found | {
        "active_share": float(active.mean()),
        "dead_share": float((~active.any(axis=0)).mean()),
    }


def _normals(predicted: np.ndarray, normal: np.ndarray) -> dict[str, float]:
    constant = np.broadcast_to(normal.mean(axis=0), normal.shape)
    return {
        "normal_median_deg": float(np.median(metrics.normal_errors(predicted, normal))),
        "normal_constant_median_deg": float(np.median(metrics.normal_errors(constant, normal))),
    }


def _matching(predictions: Predictions, matched: np.ndarray) -> dict[str, float]:
    match, hard, easy = (
        logits[matched] for logits in (predictions.match, predictions.hard, predictions.easy)
    )
    return {
        "matching_fpr95": metrics.false_positive_rate(match, easy),
        "matching_fpr95_same_scene": metrics.false_positive_rate(match, hard),
    }
