"""Contact sheets of methods that make pictures of the same descriptors, and of their draws."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from posenet_jax.decoders.decoding import Decoder
from posenet_jax.evaluation import image_sets
from posenet_jax.evaluation.method_comparison import Compared, Method
from posenet_jax.images.contact_sheet import image_grid

GRID = "grid.png"


def file_names(decoders: Sequence[Decoder]) -> list[str]:
    """Names of the sheets of `pages`, known before anything is decoded."""
    return [GRID, *(_drawn(decoder.name) for decoder in decoders if decoder.noise)]


def pages(
    methods: Mapping[str, Method],
    originals: np.ndarray,
    compared: Compared,
    *,
    shown: int,
    title: str,
    own: str = "",
) -> dict[str, Callable[[Path], None]]:
    """Returns functions that draw the sheets, by the names of their files.

    Of the first `shown` originals, uint8 RGB [N, H, W, 3]: all methods side by side, PSNR under
    each, and the draws of each decoder that reads noise. own: name of the layer's own decoder,
    `decoder` in its heading, and with which names of others begin.
    """
    first = slice(0, shown)
    columns, labels = {"original": originals[first]}, {}
    sheets: dict[str, Callable[[Path], None]] = {}
    for name, method in methods.items():
        heading = name.removeprefix(own).lstrip("-") or "decoder"
        heading = name if heading in (*methods, *columns) else heading
        columns[heading] = method.pictures[first]
        labels[heading] = [f"{value:.1f} dB" for value in compared.column(name, "psnr")[first]]
        if len(method.draws) > 1:
            drawn = image_sets.draw_columns(method.draws[:, first], originals[first])
            sheets[_drawn(name)] = functools.partial(image_grid, columns=drawn)
    grid = functools.partial(image_grid, columns=columns, cell_labels=labels, title=title)
    return {**sheets, GRID: grid}


def _drawn(name: str) -> str:
    return f"draws-{name}.png"
