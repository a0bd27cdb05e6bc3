"""Figures of the report's story: the network with a pair of views, and the loss of a descent.

Each is drawn twice, for wide screens and for those of a telephone.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from posenet_jax.report.plots import colour, new_figure, save_figure
from posenet_jax.report.story_material import Descent, Pair

_UNITS = 32  # of a descriptor a line of its picture
_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def network_figure(path: str | Path, pair: Pair, *, narrow: bool = False) -> None:
    """Writes a PNG of two views, the layers that both go through, and their descriptors."""
    if narrow:
        figure = new_figure(4.4, 6.9)
        grid = figure.add_gridspec(3, 2, height_ratios=(2.0, 1.5, 1.3))
        places = [grid[0, 0], grid[0, 1], grid[1, :], grid[2, 0], grid[2, 1]]
    else:
        figure = new_figure(13.0, 4.3)
        grid = figure.add_gridspec(2, 3, width_ratios=(1.0, 3.1, 2.0))
        places = [grid[0, 0], grid[1, 0], grid[:, 1], grid[0, 2], grid[1, 2]]
    first, second, layers, *vectors = (figure.add_subplot(place) for place in places)
    for number, axes in enumerate((first, second)):
        axes.imshow(pair.images[number], interpolation="bilinear")
        axes.set_title(f"view {number + 1}", fontsize=12)
        axes.set_axis_off()
    _layers(layers, pair.shapes)
    highest = float(np.quantile(pair.descriptors, 0.99)) or 1.0
    for number, axes in enumerate(vectors):
        values = pair.descriptors[number]
        rows = -(-len(values) // _UNITS)
        padded = np.zeros(rows * _UNITS)
        padded[: len(values)] = values
        axes.imshow(padded.reshape(rows, _UNITS), cmap="cividis", vmin=0, vmax=highest)
        words = f"descriptor {number + 1}"
        axes.set_title(words if narrow else f"{words}: {len(values)} numbers", fontsize=12)
        axes.set_axis_off()
    save_figure(path, figure)


def _layers(axes: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Draws a box for each layer, as high as its maps are wide, as wide as it has channels."""
    x, gap = 0.0, 0.55
    largest = max(shape[0] for shape in shapes.values() if len(shape) == 3)
    for number, (name, shape) in enumerate(shapes.items()):
        maps = len(shape) == 3
        high = 0.35 + 2.6 * (shape[0] / largest if maps else 1.0)
        wide = 0.25 + (shape[-1] / 400.0 if maps else 0.0)
        box = dict(facecolor=colour(number), alpha=0.8, edgecolor="none")
        axes.add_patch(_rectangle(x, -high / 2, wide, high, box))
        size = f"{shape[0]}×{shape[1]}\n×{shape[2]}" if maps else f"{shape[0]}"
        axes.text(x + wide / 2, 1.75, name, ha="center", va="bottom", fontsize=12)
        axes.text(x + wide / 2, -1.75, size, ha="center", va="top", fontsize=11)
        end = x + wide
        if number < len(shapes) - 1:
            axes.annotate("", (end + gap - 0.05, 0), (end + 0.05, 0), arrowprops=_ARROW)
        x = end + gap
    axes.set_xlim(-0.2, x - gap + 0.2)
    axes.set_ylim(-2.5, 2.3)
    axes.set_title("the same layers for both views", fontsize=12)
    axes.set_axis_off()


_ARROW = {"arrowstyle": "->", "color": "0.3", "lw": 1.4}


def _rectangle(x: float, y: float, wide: float, high: float, look: Mapping[str, Any]) -> Any:
    from matplotlib.patches import Rectangle  # slow to import, as `plots` says

    return Rectangle((x, y), wide, high, **look)


def descent_figure(path: str | Path, descent: Descent, *, narrow: bool = False) -> None:
    """Writes a PNG of the relative loss against the steps, and what another image has."""
    figure = new_figure(*((4.4, 3.2) if narrow else (6.4, 3.6)))
    axes = figure.subplots()
    steps = np.arange(1, len(descent.losses) + 1)
    axes.plot(steps, descent.losses, color=colour(0), lw=2, label="the picture so far")
    axes.axhline(descent.another, color=colour(1), ls="--", lw=1.6, label="another image")
    for done in descent.pictures:
        axes.plot(done, descent.losses[done - 1], "o", color=colour(0), ms=6)
    axes.set_yscale("log")
    ticks = [tick for tick in _TICKS if tick >= descent.losses.min()]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.set_xlabel("steps", fontsize=12)
    axes.set_ylabel("relative loss", fontsize=12)
    axes.tick_params(labelsize=11)
    axes.grid(axis="y", color="0.92", lw=0.8)
    axes.legend(frameon=False, fontsize=11)
    save_figure(path, figure)
