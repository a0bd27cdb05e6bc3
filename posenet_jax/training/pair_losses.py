"""Losses of the encoder's tasks over pairs of views, which count from one view or from either.

Arrays: P pairs, F descriptor length. Poses are z-scored (`PoseScale`).
"""

from typing import Any

import jax
import jax.numpy as jnp

from posenet_jax import geometry
from posenet_jax.data.training_pairs import Pairs, negatives, swapped
from posenet_jax.encoders import heads
from posenet_jax.encoders.heads import PoseScale
from posenet_jax.training import pose_losses

Array = jax.Array


def pair_losses(
    head_params: Any,
    descriptors: Array,
    pairs: Pairs,
    scale: PoseScale,
    *,
    both_ways: bool = False,
    turns: bool = False,
    still: Array | None = None,
) -> dict[str, Array]:
    """Mean loss of pairs with descriptors [P, 2, F] in each of the tasks, by its name.

    both_ways: whether a pair counts as seen from either view. turns: whether angles alone count of
    poses, as of photographs' turns. still: [P, 2, 6], poses from either view whose positions then
    stay (`pose_losses.turns_alone`).
    """
    here, there = (None, None) if still is None else (still[:, 0], still[:, 1])
    losses = _one_way(head_params, descriptors, pairs, scale, turns, here)
    if not both_ways:
        return losses
    others = _one_way(head_params, descriptors[:, ::-1], swapped(pairs), scale, turns, there)
    return jax.tree.map(lambda one, other: 0.5 * (one + other), losses, others)


@jax.jit
def poses_from_either_view(head_params: Any, descriptors: Array) -> Array:
    """[P, 2, 6]: poses that heads predict of view 2 seen from view 1, and the other way."""
    views = descriptors[:, 0], descriptors[:, 1]
    said = [heads.outputs(head_params, *order).pose for order in (views, views[::-1])]
    return jnp.stack(said, axis=1)


def _one_way(
    head_params: Any,
    descriptors: Array,
    pairs: Pairs,
    scale: PoseScale,
    turns: bool,
    still: Array | None,
) -> dict[str, Array]:
    first, second = descriptors[:, 0], descriptors[:, 1]
    outputs = heads.outputs(head_params, first, second)
    hard, easy = (heads.outputs(head_params, first, x).match for x in negatives(second))
    match = pose_losses.matching_loss(outputs.match, True) + 0.5 * (
        pose_losses.matching_loss(hard, False) + pose_losses.matching_loss(easy, False)
    )
    normal = pose_losses.normal_distance(outputs.normal, pairs.normal)
    return {
        "pose": _pose(outputs.pose, pairs, scale, turns, still),
        "match": pose_losses.weighted_mean(match, pairs.match_weight),
        "normal": pose_losses.weighted_mean(normal, pairs.normal_weight),
    }


def _pose(
    predicted: Array, pairs: Pairs, scale: PoseScale, turns: bool, still: Array | None
) -> Array:
    truth = geometry.relative_poses(pairs.rotation, pairs.centre)
    if turns:
        return pose_losses.turns_alone(predicted, truth, pairs.pose_weight, scale, still)
    distance = pose_losses.robust_distance(predicted, scale.normalise(truth))
    return pose_losses.weighted_mean(distance, pairs.pose_weight)
