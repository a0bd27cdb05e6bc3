"""Schema of results.csv, which `invert`, `bulk_invert` and `decode` write: a line for each picture.

Tables of two runs are joined on `image`, `layer` and `restart`. The columns are the keys, what the
inversion says of itself, and the measures of `evaluation.measures`, each before its control; a cell
is empty where a run cannot tell.
"""

import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from posenet_jax.evaluation import measures
from posenet_jax.io.run_files import read_csv


class Column(NamedTuple):
    """A column of results.csv that is no measure of `MEASURES`."""

    name: str
    sentence: str
    better: str = ""


KEYS = (
    Column("position", "number of the image in the list, from 0; those left out count"),
    Column("image", "path of the file below the folder, or the name in the data set"),
    Column("layer", "inverted layer"),
    Column("method", "decoder, or inversion (`decode` alone)"),
    Column("restart", "number of the start, from 0; more than one with `--restarts`"),
)
INVERSION = (
    Column("steps", "steps of the last start"),
    Column("starts", "starts from noise: 2 where the first was not finite"),
    Column("status", "reason of the end: out of steps, converged, stalled, not finite"),
    Column("loss", "objective of the best iterate, with its priors", "low"),
    Column(
        "relative_loss",
        "fidelity: ‖φ(x) − φ(x₀)‖ / (‖φ(x)‖ + ‖φ(x₀)‖), eq. 3 of the paper, of the best iterate",
        "low",
    ),
    Column("descriptor_error", "‖φ(x) − φ(x₀)‖ / ‖φ(x₀)‖, about twice the relative loss", "low"),
)
"""Columns of an inversion; empty for a decoder's pictures."""


def header(*, method: bool = False) -> list[str]:
    """Returns the names of the columns in order. method: of a table that compares methods."""
    fixed = [column.name for column in (*KEYS, *INVERSION) if method or column.name != "method"]
    return [*fixed, *measures.columns()]


def line(
    *,
    position: int,
    image: str,
    layer: str,
    figures: Mapping[str, Any],
    restart: int = 0,
    method: str | None = None,
) -> dict[str, Any]:
    """Returns a line of the table, None where the figures lack a column."""
    keys = {"position": position, "image": image, "layer": layer, "restart": restart}
    if method is not None:
        keys["method"] = method
    return dict.fromkeys(header(method=method is not None)) | keys | dict(figures)


def summary(values: Mapping[str, Sequence[float] | np.ndarray]) -> list[str]:
    """Returns lines for a person: of each measure the median, the worst 1 % and the control's.

    values: numbers of the columns; a measure that is not there, or all NaN, is left out.
    """
    lines = [f"{'':29}{'median':>10}{'worst 1 %':>11}{'control':>10}"]
    for name, label, better, control in _summarised():
        if not _any(values, name):
            continue
        numbers = np.asarray(values[name], np.float64)
        ends = _median(numbers), _quantile(numbers, 99 if better == "low" else 1)
        other = f"{_median(np.asarray(values[control])):10.4f}" if _any(values, control) else ""
        lines.append(f"  {label:27}{ends[0]:10.4f}{ends[1]:11.4f}{other}")
    return lines


def summary_of(path: str | Path, *, remedy: str) -> list[str]:
    """Returns the `summary` of a results.csv, whose numbers alone are held in memory.

    Raises InputError where it is damaged; remedy: what to do then.
    """
    names = "relative_loss", *measures.columns()
    values = {name: array.array("d") for name in names}
    for row in read_csv(path, names, remedy=remedy):
        for name, column in values.items():
            column.append(row.number(name))
    return summary(values)


def markdown() -> str:
    """Returns the table of all columns that the documentation shows."""
    words = {"low": "lower", "high": "higher", "": "–"}
    rows = [(c.name, c.sentence, c.better) for c in (*KEYS, *INVERSION)]
    for measure in measures.MEASURES:
        rows.append((measure.name, measure.sentence, measure.better))
        if measure.control:
            rows.append((measure.control.name, measure.control.sentence, ""))
    lines = [f"| `{name}` | {sentence} | {words[better]} |" for name, sentence, better in rows]
    return "\n".join(["| column | what it says | better |", "|---|---|---|", *dict.fromkeys(lines)])


def _summarised() -> list[tuple[str, str, str, str]]:
    """Returns (column, label, better, column of the control) of all that a summary shows."""
    fidelity = ("relative_loss", "relative loss, iterate", "low", "other_relative_loss")
    return [
        fidelity,
        *(
            (m.name, f"{m.label}, {m.unit}" if m.unit else m.label, m.better, m.control.name)
            if m.control
            else (m.name, m.label, m.better, "")
            for m in measures.MEASURES
        ),
    ]


def _any(values: Mapping[str, Any], name: str) -> bool:
    return name in values and not np.isnan(np.asarray(values[name], np.float64)).all()


def _median(numbers: np.ndarray) -> float:
    return float(np.nanmedian(numbers))


def _quantile(numbers: np.ndarray, percent: float) -> float:
    """Returns a value that occurs, so that one infinite among them makes no NaN."""
    return float(np.nanpercentile(numbers, percent, method="nearest"))
