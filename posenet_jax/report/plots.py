"""Matplotlib figures made without its global state or a display."""

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from posenet_jax.io.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure; inches."""
    # Slow to import, and no use to those who only compute.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(path: str | Path, figure: "Figure") -> None:
    """Writes a PNG, whole or not at all."""

    # Without the version in the file, the same numbers give the same bytes for longer.
    def write(file: BinaryIO) -> None:
        figure.savefig(file, dpi=150, format="png", metadata={"Software": None})

    write_atomically(path, write)
