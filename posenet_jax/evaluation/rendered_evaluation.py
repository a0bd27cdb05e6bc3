"""Accuracy of an encoder on sets of rendered streets that it has not seen."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from posenet_jax import scenes
from posenet_jax.data import training_pairs
from posenet_jax.data.training_pairs import RenderedPairs
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.errors import InputError
from posenet_jax.evaluation import pose_evaluation
from posenet_jax.evaluation.pose_evaluation import Evaluation

Array = jax.Array

_TOGETHER = 64  # pairs rendered together, on all devices in total
# Field of view of the paper's cameras and of the 3D_Street_View data set.
_PAPER_VIEW = math.radians(89.75)


class RenderedSet(NamedTuple):
    """Streets to render, and the number of pairs of views."""

    config: scenes.SceneConfig
    pairs: int
    targets: bool = True  # whether views show one, to be matched and to have a normal


def rendered_sets(size: int, pairs: int, largest_angle: float) -> dict[str, RenderedSet]:
    """Returns the sets by name: `rendered`, and half as many pairs as the paper's cameras see them,
    and as those do that look along the street.

    size: of the images, pixels. pairs: a multiple of 64, or 8, 16 or 32. largest_angle: at the
    target between the two views, radians. Raises InputError for another number of pairs.
    """
    if pairs % _TOGETHER and pairs not in (8, 16, 32):
        raise InputError(
            f"pairs must be a multiple of {_TOGETHER}, or 8, 16 or 32, received {pairs}"
        )
    together = min(_TOGETHER, pairs)
    wide = scenes.SceneConfig(height=size, width=size, angle_between=(0.0, largest_angle))
    paper = dataclasses.replace(wide, field_of_view=(_PAPER_VIEW, _PAPER_VIEW))
    half = max(1, pairs // 2 // together) * together
    along = dataclasses.replace(wide, chance_along=1.0)
    return {
        "rendered": RenderedSet(wide, pairs),
        "rendered_report_view": RenderedSet(paper, half),
        "rendered_along": RenderedSet(along, half, targets=False),
    }


def evaluate(
    encoder: Encoder,
    atlas: scenes.Atlas,
    sets: Mapping[str, RenderedSet],
    *,
    key: Array,
    mesh: Mesh,
    readings: int = 1,
    progress: Callable[[int], object] | None = None,
) -> dict[str, Evaluation]:
    """Renders and evaluates each set, with the same random numbers.

    readings: of a pose, as for `pose_evaluation.predict`. progress: as in `drawn`.
    """
    evaluations = {}
    for name, (config, count, targets) in sets.items():
        source = RenderedPairs(atlas, config, min(_TOGETHER, count), mesh)
        pairs = training_pairs.drawn(source, key, count, progress=progress)
        if not targets:
            none = jnp.zeros_like(pairs.match_weight)
            pairs = dataclasses.replace(pairs, match_weight=none, normal_weight=none)
        evaluations[name] = pose_evaluation.evaluate_rendered(
            encoder, pairs, mesh, readings=readings
        )
    return evaluations
