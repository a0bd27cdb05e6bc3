"""Plots of what encoders keep that were trained in different ways, and of what is kept when."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from posenet_jax.analysis.layer_retention import CHANCES
from posenet_jax.report.layers_plot import WORDS
from posenet_jax.report.plots import colour, new_figure, save_figure

Rows = Sequence[Mapping[str, Any]]

_WIDE = 4  # panels a row
_SPAN = 0.64  # of the points of one place, whose neighbours are 1 away


def trainings_figure(path: str | Path, rows: Rows) -> None:
    """Writes a PNG of rows of trainings.csv of one set of images: a panel a measure.

    Tasks stand side by side, what pairs were like is told by colours, a point is a seed with its
    interval of 95 % over images; encoders of whose training nothing is known stand at the end.
    Dashed: the untrained network; dotted: a wrong image, in the mean of all encoders.
    """
    trained = [row for row in rows if row["tasks"]]
    last = {
        one["run"]: max(r["steps"] for r in trained if r["run"] == one["run"]) for one in trained
    }
    shown = [row for row in rows if row["steps"] == last.get(row["run"])]
    places = list(dict.fromkeys(_place(row) for row in shown))
    kinds = list(dict.fromkeys(_kind(row) for row in shown if row["tasks"]))
    panels, figure, grid = _panels(shown)
    numbers = Counter((_place(row), row["measure"]) for row in shown)
    apart = _SPAN / max(1, max(numbers.values()) - 1)  # between points of one place
    for number, (name, own) in enumerate(panels.items()):
        axes = grid.flat[number]
        _controls(axes, name, own)
        taken: dict[str, int] = {}
        for row in own:
            place = _place(row)
            taken[place] = taken.get(place, 0) + 1
            kind = kinds.index(_kind(row)) if row["tasks"] else len(kinds)
            x = places.index(place) + apart * (taken[place] - 1)
            label = kinds[kind] if row["tasks"] else "bundled"
            spread = [[row["value"] - row["low"]], [row["high"] - row["value"]]]
            axes.errorbar(
                x, row["value"], spread, fmt="o", ms=3, lw=1, color=colour(kind), label=label
            )
        ticks = [i + apart * (taken.get(p, 1) - 1) / 2 for i, p in enumerate(places)]
        lowest = number + _WIDE >= len(panels)
        named = places if lowest else [""] * len(places)
        axes.set_xticks(ticks, named, fontsize=7, rotation=30, ha="right", rotation_mode="anchor")
    _finish(path, figure, grid, len(panels))


def learning_figure(path: str | Path, rows: Rows) -> None:
    """Writes a PNG of what is kept after so many steps, of runs that kept weights on the way.

    The untrained network stands at the left, before the first step that was kept. Nothing is
    written where no run kept any.
    """
    steps = {run: {r["steps"] for r in rows if r["run"] == run} for run in {r["run"] for r in rows}}
    shown = [row for row in rows if len(steps[row["run"]]) > 1]
    if not shown:
        return
    runs = list(dict.fromkeys(row["run"] for row in shown))
    panels, figure, grid = _panels(shown)
    first = min(row["steps"] for row in shown) / 2
    for axes, (name, own) in zip(grid.flat, panels.items(), strict=False):
        _controls(axes, name, own)
        for number, run in enumerate(runs):
            line = sorted((row for row in own if row["run"] == run), key=lambda row: row["steps"])
            x = [first, *(row["steps"] for row in line)]
            ends = {
                end: [line[0][f"untrained_{end}"], *(row[end] for row in line)]
                for end in ("value", "low", "high")
            }
            axes.plot(x, ends["value"], "o-", ms=3, lw=1.2, color=colour(number), label=run)
            axes.fill_between(
                x, ends["low"], ends["high"], color=colour(number), alpha=0.12, linewidth=0
            )
        axes.set_xscale("log")
        marked = sorted({row["steps"] for row in own})[::3]
        axes.set_xticks([first, *marked], ["0", *marked])
        axes.minorticks_off()
    figure.supxlabel("training step", fontsize=10)
    _finish(path, figure, grid, len(panels))


def _kind(row: Mapping[str, Any]) -> str:
    robust = f", robust to {row['robust_radius']:g}" if row["robust_radius"] else ""
    return f"{row['pairs']}{robust}"


def _place(row: Mapping[str, Any]) -> str:
    return row["tasks"] or row["encoder"]


def _panels(rows: Rows) -> tuple[dict[str, Rows], Any, Any]:
    """Rows by measure, and a figure with a panel for each and one for the legend."""
    shown = {name: [row for row in rows if row["measure"] == name] for name in WORDS}
    panels: dict[str, Rows] = {name: own for name, own in shown.items() if own}
    high = len(panels) // _WIDE + 1
    figure = new_figure(2.8 * _WIDE, 2.0 * high + 0.3)
    return panels, figure, figure.subplots(high, _WIDE, squeeze=False)


def _controls(axes: Any, name: str, rows: Rows) -> None:
    """Draws chance, the untrained network and a wrong image across a panel."""
    axes.axhline(CHANCES.get(name, 0.0), color="0.6", lw=0.8, zorder=0)
    axes.axhline(rows[0]["untrained_value"], color="0.4", ls="--", lw=1, label="untrained")
    wrong = sum(row["wrong_image_value"] for row in rows) / len(rows)
    axes.axhline(wrong, color="0.4", ls=":", lw=1, label="wrong image")
    axes.set_title(WORDS[name], fontsize=10)
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", color="0.92", lw=0.6)
    if name.startswith("R²"):  # a probe that fails has no lower end
        axes.set_ylim(-0.25, 1.05)


def _finish(path: str | Path, figure: Any, grid: Any, panels: int) -> None:
    for axes in grid.flat[panels:]:
        axes.set_axis_off()
    handles, labels = grid[0, 0].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    grid.flat[-1].legend(unique.values(), unique.keys(), loc="center", frameon=False, fontsize=8)
    figure.supylabel("1: as in the original; line across: chance", fontsize=10)
    save_figure(path, figure)
