"""Plots of a search of hyper-parameters."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import NullFormatter

from posenet_jax.bulk.search import Range, Stage, columns_of
from posenet_jax.evaluation import measures
from posenet_jax.report.plots import colour, new_figure, save_figure

_COLOURS = "viridis_r"
_COLOURED: dict[str, Any] = {"color": colour(0), "lw": 0.8, "alpha": 0.6}
_GREY: dict[str, Any] = {"color": "0.6", "lw": 0.2, "alpha": 0.15}


def _labels(columns: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Returns {column: label} of the loss, and of the measures that these trials have."""
    shown = (m for m in measures.shown_in("trial_plots") if np.isfinite(columns[m.name]).any())
    return {"relative_loss": "relative loss"} | {m.name: m.label for m in shown}


def loss_figure(path: str | Path, stage: Stage, columns: Mapping[str, np.ndarray]) -> None:
    """Writes a PNG: every measure against every hyper-parameter, a dot a trial.

    Colour is the score; a line marks Table 1's value, a ring its own trial where it is there.
    """
    labels = _labels(columns)
    rows, wide = len(labels), len(stage.ranges)
    figure = new_figure(max(4.8, 2.3 * wide), 2.3 * rows)
    panels = figure.subplots(rows, wide, sharex="col", sharey="row", squeeze=False)
    printed = columns["trial"] == 0
    # The best are drawn last, on top.
    order = np.argsort(-columns["score"], kind="stable")
    for i, (measure, label) in enumerate(labels.items()):
        for j, (name, numbers) in enumerate(stage.ranges.items()):
            axes, x, y = panels[i, j], _shown(name, columns), columns[measure]
            dots = axes.scatter(
                x[order], y[order], s=4, c=columns["score"][order], cmap=_COLOURS, vmin=0, vmax=1
            )
            axes.axvline(_shown(name, columns_of(stage.recipe)), color="0.5", lw=0.8, zorder=0)
            axes.plot(x[printed], y[printed], "o", mfc="none", mec=colour(1), ms=7)
            if numbers.scale != "linear":
                axes.set_xscale("log")
                # Where a search has narrowed to less than a decade these would overlap.
                axes.xaxis.set_minor_formatter(NullFormatter())
            if i == rows - 1:
                axes.set_xlabel(_axis_label(name, numbers), fontsize=9)
            if not j:
                axes.set_ylabel(label, fontsize=9)
            axes.tick_params(labelsize=8)
    figure.colorbar(dots, ax=panels, label="score, 0 is best", aspect=40, pad=0.01)
    save_figure(path, figure)


def parallel_figure(path: str | Path, stage: Stage, columns: Mapping[str, np.ndarray]) -> None:
    """Writes a PNG: a line a trial through all its hyper-parameters and measures.

    The best twentieth is in colour, Table 1 in black.
    """
    measured = _labels(columns)
    names = [*stage.ranges, *measured]
    scaled, ends = [], []
    for name in names:
        numbers = stage.ranges.get(name)
        values = _shown(name, columns)
        low, high = _ends(numbers, values)
        logarithmic = numbers is not None and numbers.scale != "linear"
        to_axis = np.log if logarithmic else np.asarray
        span = to_axis(high) - to_axis(low) or 1.0
        scaled.append((to_axis(values) - to_axis(low)) / span)
        ends.append((low, high))
    lines = np.stack(scaled, axis=1)
    figure = new_figure(1.5 * len(names), 4.4)
    axes = figure.add_subplot()
    order = np.argsort(-columns["score"], kind="stable")
    best = set(order[-max(1, len(order) // 20) :].tolist())
    places = np.arange(len(names))
    for row in order:
        style = _COLOURED if row in best else _GREY
        axes.plot(places, lines[row], **style)
    axes.plot(places, lines[columns["trial"] == 0].T, color="k", lw=1.5)
    for place, (low, high) in enumerate(ends):
        axes.axvline(place, color="0.3", lw=0.8)
        axes.annotate(f"{high:.3g}", (place, 1.02), ha="center", fontsize=8)
        axes.annotate(f"{low:.3g}", (place, -0.05), ha="center", fontsize=8)
    labels = [measured.get(n) or _axis_label(n, stage.ranges[n]) for n in names]
    axes.set_xticks(places, labels, rotation=20, fontsize=8)
    axes.set(yticks=[], ylim=(-0.08, 1.08))
    save_figure(path, figure)


def _shown(name: str, columns: Mapping[str, Any]) -> Any:
    """Returns a column as drawn: numbers near one as their distance from it."""
    return 1.0 - columns[name] if name.startswith("beta") else columns[name]


def _ends(numbers: Range | None, values: np.ndarray) -> tuple[float, float]:
    if numbers is None:
        finite = values[np.isfinite(values)]
        return float(finite.min()), float(finite.max())
    if numbers.scale == "from_one":
        return 1.0 - numbers.high, 1.0 - numbers.low
    return numbers.low, numbers.high


def _axis_label(name: str, numbers: Range) -> str:
    label = name.replace("_", " ")
    return f"1 - {label}" if numbers.scale == "from_one" else label
