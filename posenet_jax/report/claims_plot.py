"""The plot of the paper's claims: a panel a claim, a line a set of images, verdicts as marks."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posenet_jax.report.plots import colour, new_figure, save_figure
from posenet_jax.scenes.kinds import KINDS

Rows = Sequence[Mapping[str, Any]]

_WIDE = 2  # panels a row
_PROBED = "R² of "  # how measures of probes begin
_SERIES = (
    ("", "trained", "o"),
    ("untrained_", "untrained", "s"),
    ("wrong_image_", "wrong image", "^"),
)
_MARKS = {"supported": "✓", "not supported": "✗", "undecided": "?"}
_AXES = {
    "chroma": "correlation of colour with the original",
    "octave_4": "coherence at 16 to 32 cycles an image",
    "texture": "correlation of band amplitudes, beside the set's mean",
    "own_texture": "nearer to its own texture (chance: 0.5)",
    "vanishing_edges": "correlation of where those edges lie",
    "vanishing_edges-vertical_edges": "difference of the correlations of edges",
    "sky": "probability that sky is the brighter (chance: 0.5)",
    "luminance": "correlation of light and dark with the original",
    _PROBED: "R² of a linear probe (0: always the mean)",
}


def claims_figure(path: str | Path, rows: Rows) -> None:
    """Writes a PNG of the rows of `claims`: each value with its interval of 95 %, beside controls.

    The claims that probes decide share a panel, a line each.
    """
    panels: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        probed = row["measure"].startswith(_PROBED)
        claim = row["claim"].replace("they are kept", "and")  # beside the claim before
        title = f"read by probes from {_set_name(row)}" if probed else claim
        panels.setdefault((title, _PROBED if probed else row["measure"]), []).append(row)
    lines = [
        dict(itertools.islice(panels.items(), i, i + _WIDE)) for i in range(0, len(panels), _WIDE)
    ]
    heights = [max(map(len, line.values())) for line in lines]
    figure = new_figure(5.6 * _WIDE, 0.9 + 0.32 * sum(heights) + 0.85 * len(lines))
    ratios = [height + 1 for height in heights]
    grid = figure.subplots(len(lines), _WIDE, squeeze=False, sharex=True, height_ratios=ratios)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, ((title, measure), shown) in zip(grid.flat, panels.items(), strict=False):
        _panel(axes, shown, measure == _PROBED)
        axes.set_title(title, fontsize=11, loc="left", fontweight="bold")
        axes.set_xlabel(_AXES.get(measure, measure), fontsize=10)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    marks = ", ".join(f"{mark} {verdict}" for verdict, mark in _MARKS.items())
    figure.legend(
        handles, labels, loc="outside upper center", ncols=3, fontsize=10, title=f"claim: {marks}"
    )
    save_figure(path, figure)


def _panel(axes: Any, rows: Rows, probed: bool) -> None:
    """Draws a line for each row, and its verdict at the right."""
    places = np.arange(len(rows))[::-1]
    for number, (of, label, marker) in enumerate(_SERIES):
        middle, low, high = (
            np.array([row[f"{of}{part}"] for row in rows], float)
            for part in ("value", "low", "high")
        )
        height = places + 0.22 - 0.22 * number
        axes.hlines(height, low, high, color=colour(number), lw=1.6)
        axes.plot(middle, height, marker, color=colour(number), ms=4.5, label=label)
    names = [row["claim"] if probed else f"{_set_name(row)} ({row['count']})" for row in rows]
    axes.set_yticks(places, names, fontsize=10)
    axes.tick_params(axis="x", labelsize=9, labelbottom=True)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    for place, row in zip(places, rows, strict=True):
        end = (1.02, place)
        mark = _MARKS[row["verdict"]]
        axes.annotate(mark, end, xycoords=axes.get_yaxis_transform(), va="center", fontsize=12)
    axes.grid(axis="y", color="0.92", lw=0.6)
    axes.axvline(0.0, color="0.6", lw=0.8, zorder=0)


def _set_name(row: Mapping[str, Any]) -> str:
    """Returns what a row's images are, in words."""
    kinds = {kind.written: kind.name for kind in KINDS.values()}
    return kinds.get(row["images"], row["images"]).replace("_", " ")
