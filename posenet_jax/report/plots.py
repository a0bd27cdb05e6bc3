"""Matplotlib figures made without its global state or a display, and the colours of them all.

`COLOURS` are those of Okabe & Ito (2008), which the colour-blind tell apart as well.
"""

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from posenet_jax.io.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Blue, vermilion, green, purple, orange, sky, black."""


def colour(number: int) -> str:
    """Returns the colour of the line of this number; after the last comes the first."""
    return COLOURS[number % len(COLOURS)]


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
