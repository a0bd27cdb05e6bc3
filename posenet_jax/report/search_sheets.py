"""Contact sheets of a search of hyper-parameters: pictures of its trials, a line a trial."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from posenet_jax.bulk.search import Stage
from posenet_jax.data.sources import DatasetExamples
from posenet_jax.images.contact_sheet import image_grid
from posenet_jax.report import search_plots

_SHOWN = 24

TITLES = {
    "best": "best by score",
    "least_loss": "least relative loss",
    "spread": "from the best by score to the last",
}
"""Titles of the sheets by name."""
FILES = ("loss.png", "parallel.png", *(f"{name}.png" for name in TITLES))


def pages(
    stage: Stage,
    *,
    folder: str | Path,
    originals: np.ndarray,
    columns: Mapping[str, np.ndarray],
    title: str,
) -> dict[str, Callable[[Path], None]]:
    """Returns functions that draw the search's plots and sheets, by the names of their files.

    Arguments are those of `sheet`; `FILES` has the names.
    """
    figures = (search_plots.loss_figure, search_plots.parallel_figure)
    draw = functools.partial(
        sheet, folder=folder, originals=originals, columns=columns, title=title
    )
    plots = [functools.partial(figure, stage=stage, columns=columns) for figure in figures]
    return dict(
        zip(FILES, [*plots, *(functools.partial(draw, name=n) for n in TITLES)], strict=True)
    )


def sheet(
    path: str | Path,
    *,
    name: str,
    folder: str | Path,
    originals: np.ndarray,
    columns: Mapping[str, np.ndarray],
    title: str,
) -> None:
    """Writes a sheet of TITLES as PNG.

    folder: of the trials' bulk inversion. originals: uint8 [n, H, W, 3] that it inverted. columns:
    [T] of its trials. title: said before the sheet's own.
    """
    pictures, count = DatasetExamples(folder), len(originals)
    rows = _chosen(columns)[name]
    shown = [originals] + [
        np.stack([pictures[int(row) * count + i]["image"][0] for i in range(count)]) for row in rows
    ]
    labels = ["originals"] + [
        f"{columns['trial'][row]}: loss {columns['relative_loss'][row]:.3f},"
        f" judge {columns['judge_relative_loss'][row]:.3f},"
        f" spectrum {columns['spectral_deviation'][row]:.1f}"
        for row in rows
    ]
    by_image = {f"image {i + 1}": np.stack([each[i] for each in shown]) for i in range(count)}
    image_grid(path, by_image, row_labels=labels, title=f"{title}, {TITLES[name]}")


def _chosen(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the trials' rows in each sheet."""
    by_score = np.argsort(columns["score"], kind="stable")
    by_loss = np.argsort(np.where(columns["not_finite"] > 0, np.inf, columns["relative_loss"]))
    return {
        "best": by_score[:_SHOWN],
        "least_loss": by_loss[:_SHOWN],
        "spread": by_score[np.linspace(0, len(by_score) - 1, _SHOWN).astype(int)],
    }
