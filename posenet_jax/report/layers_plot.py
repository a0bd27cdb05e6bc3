"""The plot of what is left after each layer: a panel a measure, a line a network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posenet_jax.analysis.layer_retention import CHANCES
from posenet_jax.report.plots import colour, new_figure, save_figure

Rows = Sequence[Mapping[str, Any]]

_WIDE = 4  # panels a row
WORDS = {
    "chroma": "colour",
    "luminance": "light and dark",
    "octave_1": "detail, 2 to 4 cycles",
    "octave_2": "detail, 4 to 8 cycles",
    "octave_3": "detail, 8 to 16 cycles",
    "octave_4": "detail, 16 to 32 cycles",
    "texture": "texture, amount and kind",
    "own_texture": "texture told from another",
    "vanishing_edges": "edges to the vanishing point",
    "vertical_edges": "vertical edges",
    "across_edges": "other edges",
    "sky": "sky brighter at its outline",
    "R² of mean colour": "read: mean colour",
    "R² of texture energy": "read: amount of texture",
    "R² of vanishing point": "read: vanishing point",
    "R² of skyline": "read: skyline",
    "R² of depth": "read: depth",
    "R² of normals": "read: surface normals",
}
"""Measures of pictures and of probes, in words."""


def layers_figure(path: str | Path, rows: Rows, *, wide: int = _WIDE) -> None:
    """Writes a PNG of rows of `Layers.table` of one set of images, and of its probes.

    wide: panels a row.

    The untrained network of the same architecture is dashed, a wrong image of the first one dotted,
    chance a line across; bands are intervals of 95 %.
    """
    shown = {name: [row for row in rows if row["measure"] == name] for name in WORDS}
    panels = {name: own for name, own in shown.items() if own}
    high = len(panels) // wide + 1  # with room for the legend
    figure = new_figure(2.6 * wide, 1.9 * high + 0.3)
    grid = figure.subplots(high, wide, squeeze=False, sharex=True)
    for axes, (name, own) in zip(grid.flat, panels.items(), strict=False):
        _panel(axes, own)
        axes.axhline(CHANCES.get(name, 0.0), color="0.6", lw=0.8, zorder=0)
        if name.startswith("R²"):  # a probe that fails has no lower end
            axes.set_ylim(-0.25, 1.05)
        axes.set_title(WORDS[name], fontsize=10)
        axes.tick_params(labelsize=8, labelbottom=True)
        axes.grid(axis="y", color="0.92", lw=0.6)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    handles, labels = grid[0, 0].get_legend_handles_labels()
    grid.flat[-1].legend(handles, labels, loc="center", frameon=False, fontsize=8)
    figure.supylabel("1: as in the original; line across: chance", fontsize=10)
    save_figure(path, figure)


def _panel(axes: Any, rows: Rows) -> None:
    """Draws a measure of every encoder against the depth of the layer; a shared control once."""
    encoders = list(dict.fromkeys(row["encoder"] for row in rows))
    controls: list[list[float]] = []
    for number, name in enumerate(encoders):
        own = sorted((row for row in rows if row["encoder"] == name), key=lambda row: row["depth"])
        names = [row["layer"] for row in own]
        untrained = [float(row["untrained_value"]) for row in own]
        if not number:
            first = names
            _line(axes, own, "wrong_image_", "^:", "0.5", "wrong image")
            axes.set_xticks([row["depth"] for row in own], names)
        _line(axes, own, "", "o-", colour(number), _label(name, names, first))
        if untrained not in controls:
            _line(axes, own, "untrained_", "s--", colour(number), f"{name} untrained")
            controls.append(untrained)


def _label(name: str, layers: Sequence[str], first: Sequence[str]) -> str:
    """Returns an encoder's name, and its layers where they are not the first one's."""
    if layers == first:
        return name
    middle = (len(layers) + 1) // 2
    lines = [", ".join(part) for part in (layers[:middle], layers[middle:]) if part]
    return f"{name}\n(" + ",\n".join(lines) + ")"


def _line(axes: Any, rows: Rows, of: str, style: str, paint: str, label: str) -> None:
    middle, low, high = (
        np.array([row[f"{of}{part}"] for row in rows], float) for part in ("value", "low", "high")
    )
    depths = [row["depth"] for row in rows]
    axes.plot(depths, middle, style, color=paint, ms=3, lw=1.2, label=label)
    axes.fill_between(depths, low, high, color=paint, alpha=0.12, linewidth=0)
