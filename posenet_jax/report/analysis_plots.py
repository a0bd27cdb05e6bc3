"""Plots of sensitivity, surgery and retention."""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posenet_jax.analysis import sensitivity
from posenet_jax.analysis.retention import Network, Retention
from posenet_jax.images.contact_sheet import image_grid
from posenet_jax.report.claims_plot import claims_figure
from posenet_jax.report.plots import colour, new_figure, save_figure

Rows = Sequence[Mapping[str, Any]]

_UNITS = {"yaw": ("yaw", "10° of yaw"), "other": (sensitivity.OTHER, "another scene")}
_WIDE = 4  # panels a row
_TICKS = np.array([0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5])


def sensitivity_figure(path: str | Path, rows: Rows, *, unit: str = "yaw") -> None:
    """Writes a PNG of `sensitivity.table`: a panel an intervention, displacement by layer.

    unit: what 1 is, "yaw" (10° of it) or "other" (another scene). The last encoder, the control, is
    dashed; the bands are intervals of 95 %. All panels but that of noise, the first, share a scale.
    """
    itself, words = _UNITS[unit]
    encoders = _values(rows, "encoder")
    names = [name for name in _values(rows, "intervention") if name != itself]
    high = -(-(len(names) + 1) // _WIDE)
    figure = new_figure(2.5 * _WIDE, 2.2 * high)
    panels = figure.subplots(high, _WIDE, squeeze=False)
    loud = [row for row in rows if row["intervention"] not in (itself, "noise")]
    for number, name in enumerate(names):
        axes = panels.flat[number]
        shown = [row for row in rows if row["intervention"] == name]
        for place, encoder in enumerate(encoders):
            chosen = [row for row in shown if row["encoder"] == encoder]
            control = 0 < place == len(encoders) - 1
            _profile(axes, chosen, f"ratio_to_{unit}", colour(place), control)
        _scale(axes, shown if name == "noise" else loud, f"ratio_to_{unit}")
        axes.set_title(name, fontsize=10)
        axes.tick_params(axis="y", labelsize=8)
        axes.tick_params(axis="x", labelsize=8, labelbottom=number + _WIDE >= len(names))
        # The second panel's scale is the others', the first's its own.
        axes.tick_params(axis="y", labelleft=number % _WIDE == 0 or number == 1)
    for axes in panels.flat[len(names) :]:
        axes.set_axis_off()
    lines = panels.flat[0].get_lines()[: len(encoders)]
    panels.flat[-1].legend(lines, encoders, loc="center", frameon=False, fontsize=9)
    figure.supylabel(f"displacement, 1 = that of {words}", fontsize=10)
    figure.supxlabel("layer", fontsize=10)
    save_figure(path, figure)


def _scale(axes: Any, rows: Rows, measure: str) -> None:
    """A logarithmic scale that holds all the rows' intervals, and a line at 1."""
    _, low, high = _columns(rows, measure)
    # What moves nothing at all has no place on it.
    least, most = low.min(where=low > 0, initial=1.0), high.max(where=high > 0, initial=1.0)
    ends = 0.85 * float(least), 1.15 * float(most)
    axes.set_ylim(ends)
    axes.set_yscale("log")
    ticks = _TICKS[(ends[0] < _TICKS) & (ends[1] > _TICKS)]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.grid(axis="y", color="0.92", lw=0.6)
    axes.axhline(1.0, color="0.4", lw=0.8, zorder=1)


def _profile(axes: Any, rows: Rows, measure: str, paint: str, control: bool) -> None:
    """One line over the layers, with its interval."""
    middle, low, high = _columns(rows, measure)
    places = np.arange(len(rows))
    style = "s--" if control else "o-"
    axes.plot(places, middle, style, color=paint, ms=3.5, lw=1.4)
    axes.fill_between(places, low, high, color=paint, alpha=0.2, linewidth=0)
    axes.set_xticks(places, [row["layer"] for row in rows])


def _values(rows: Rows, column: str) -> list[str]:
    """Returns the distinct values of a column, in order."""
    return list(dict.fromkeys(row[column] for row in rows))


def _columns(rows: Rows, measure: str) -> list[np.ndarray]:
    """Returns a measure's values and both ends of their intervals."""
    names = (measure, f"{measure}_low", f"{measure}_high")
    return [np.array([row[name] for row in rows], float) for name in names]


_KEPT = (
    "best units",
    "random units",
    "best units, rest at mean",
    "components",
    "random directions",
)
_PANELS = {
    "units, components or directions kept": _KEPT,
    "bits a unit": ("quantised", "on or off"),
    "noise, relative standard deviation": ("noise",),
}
_MEASURES = {
    "relative_loss": "relative loss",
    "pose_disagreement": "disagreement of the\npose heads, degrees",
    "rotation_error": "rotation error,\ndegrees",
}
_CONTROLS = {"another image": "--", "mean descriptor": ":"}


def surgery_figure(path: str | Path, rows: Rows) -> None:
    """Writes a PNG of `surgery.table`: each measure against what was kept, bits, and noise.

    Bands are intervals of 95 %; lines across, what another image's descriptor and the mean score.
    """
    measures = [name for name in _MEASURES if name in rows[0]]
    figure = new_figure(10.5, 2.4 * len(measures) + 0.3)
    panels = figure.subplots(len(measures), len(_PANELS), sharey="row", sharex="col", squeeze=False)
    for line, measure in zip(panels, measures, strict=True):
        for axes, operations in zip(line, _PANELS.values(), strict=True):
            for number, operation in enumerate(operations):
                _curve(axes, rows, operation, measure, colour(number))
            for control, style in _CONTROLS.items():
                (row,) = (row for row in rows if row["operation"] == control)
                axes.axhline(row[measure], color="0.4", ls=style, lw=1, zorder=0)
            if operations == _KEPT:
                axes.set_xscale("log", base=2)
                axes.xaxis.set_major_formatter("{x:.0f}")
            axes.set_ylim(bottom=0)
        line[0].set_ylabel(_MEASURES[measure])
    for axes, label in zip(panels[-1], _PANELS, strict=True):
        axes.set_xlabel(label)
    for axes, operations in zip(panels[0, 1:], list(_PANELS.values())[1:], strict=True):
        axes.legend(axes.get_lines()[: len(operations)], operations, frameon=False, fontsize=8)
    lines = panels[0, 0].get_lines()
    figure.legend(lines, [*_KEPT, *_CONTROLS], loc="outside upper center", ncols=7, fontsize=8)
    save_figure(path, figure)


def _curve(axes: Any, rows: Rows, operation: str, measure: str, paint: str) -> None:
    chosen = [row for row in rows if row["operation"] == operation]
    amounts = np.array([row["amount"] for row in chosen], float)
    middle, low, high = _columns(chosen, measure)
    style = "o-" if len(chosen) > 1 else "D"
    axes.plot(amounts, middle, style, color=paint, ms=3.5, lw=1.4)
    axes.fill_between(amounts, low, high, color=paint, alpha=0.2, linewidth=0)


def retention_pages(
    networks: Sequence[Network], found: Retention, rendered: Collection[str]
) -> dict[str, Callable[[Path], None]]:
    """Returns functions that draw the first network's claims, and a grid of pictures of each group.

    By the names of their files. rendered: groups of rendered scenes; the others are photographs.
    """
    first = networks[0].trained.name, networks[0].layer
    rows = [row for row in found.claims if (row["encoder"], row["layer"]) == first]
    layers = " and ".join(network.layer for network in networks)
    pages: dict[str, Callable[[Path], None]] = {
        "claims.png": functools.partial(claims_figure, rows=rows)
    }
    for group, pictures in found.pictures.items():
        kind = "Rendered" if group in rendered else "Photographs:"
        title = f"{kind} {group}, inverted from {layers}"
        pages[f"{group}.png"] = functools.partial(image_grid, columns=pictures, title=title)
    return pages
