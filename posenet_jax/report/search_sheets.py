"""Contact sheets of a search of hyper-parameters: pictures of its trials, a line a trial."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from posenet_jax.data.sources import DatasetExamples
from posenet_jax.images.contact_sheet import image_grid

_SHOWN = 24

TITLES = {
    "best": "best by score",
    "least_loss": "least relative loss",
    "spread": "from the best by score to the last",
}
"""Titles of the sheets by name."""


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
