"""Plots of an encoder's evaluation: rotation errors, and matching."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from posenet_jax import metrics
from posenet_jax.evaluation import pose_evaluation
from posenet_jax.evaluation.pose_evaluation import Evaluation
from posenet_jax.metrics import PairErrors
from posenet_jax.report.plots import COLOURS, new_figure, save_figure

_PUBLISHED_LABELS = {"torch": "published, Torch network", "caffenet": "published, CaffeNet"}
LABELS = {
    "strecha": "photographs (Strecha)",
    "rendered": "rendered streets",
    "rendered_report_view": "rendered, 89.75° wide",
    "rendered_along": "rendered, along the street",
    "turned": "views turned on photographs",
}
"""Labels of sets of pairs in plots; others have their names."""


def pages(evaluations: Mapping[str, Evaluation]) -> dict[str, Callable[[Path], None]]:
    """Returns functions that draw the plots of sets of pairs, `rendered` among them, by file."""
    errors = {LABELS.get(name, name): one.errors for name, one in evaluations.items()}
    rendered = evaluations["rendered"]
    match, others = rendered.match, rendered.others
    return {
        "matching.png": functools.partial(matching_figure, matching=match, others=others),
        "rotation.png": functools.partial(rotation_figure, sets=errors),
    }


def rotation_figure(path: str | Path, sets: Mapping[str, PairErrors]) -> None:
    """Writes a PNG: median rotation error against true rotation, quartiles shaded.

    One line a set of pairs; beside them the identity's error and the published networks'.
    """
    figure = new_figure(6.4, 4.4)
    axes = figure.add_subplot()
    axes.set_prop_cycle(color=COLOURS)
    for name, errors in sets.items():
        middle, low, median, high = _quartiles(errors)
        (line,) = axes.plot(middle, median, marker="o", label=f"{name}, {len(errors.rotation)}")
        axes.fill_between(middle, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    for name, table in pose_evaluation.PUBLISHED_ERRORS.items():
        label = _PUBLISHED_LABELS[name]
        axes.plot(pose_evaluation.PUBLISHED_ROTATIONS, table, "--", color="0.5", lw=1)
        end = (pose_evaluation.PUBLISHED_ROTATIONS[-1], table[-1] + 1.5)
        axes.annotate(label, end, ha="right", fontsize=8)
    axes.plot([0, 120], [0, 120], ":", color="0.3", lw=1, label="identity")
    axes.set(xlim=(0, 120), ylim=(0, 60), xlabel="true rotation, degrees")
    axes.set_ylabel("rotation error, degrees: median, quartiles")
    axes.legend(frameon=False, fontsize=8, title="pairs", title_fontsize=8)
    save_figure(path, figure)


def _quartiles(errors: PairErrors) -> np.ndarray:
    """[4, bins] middle of the true rotations, and quartiles of the errors, of bins of 5 or more."""
    bins = np.digitize(errors.true_rotation, pose_evaluation.BIN_EDGES)
    inside = [bins == index for index in range(1, len(pose_evaluation.BIN_EDGES))]
    rows = [
        (np.median(errors.true_rotation[i]), *np.quantile(errors.rotation[i], [0.25, 0.5, 0.75]))
        for i in inside
        if i.sum() >= 5
    ]
    return np.asarray(rows).reshape(-1, 4).T


def matching_figure(path: str | Path, matching: np.ndarray, others: Mapping[str, Any]) -> None:
    """Writes a PNG: recall against false positive rate, one curve for each set of other pairs.

    `matching` holds the logits of pairs that match, `others` those of pairs that do not.
    """
    figure = new_figure(4.6, 4.4)
    axes = figure.add_subplot()
    axes.set_prop_cycle(color=COLOURS)
    for name, logits in others.items():
        false_positives, recall = metrics.roc(matching, logits)
        axes.plot(false_positives, recall, label=name, drawstyle="steps-post")
    axes.axhline(0.95, color="0.5", ls="--", lw=1)
    axes.plot([0, 1], [0, 1], ":", color="0.3", lw=1, label="chance")
    axes.set(xlim=(0, 1), ylim=(0, 1.005), xlabel="false positive rate", ylabel="recall")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    save_figure(path, figure)
