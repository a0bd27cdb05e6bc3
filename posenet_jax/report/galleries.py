"""Pictures as galleries of the report's page: uint8 RGB arrays in, parts of the page out."""

from collections.abc import Mapping, Sequence

import numpy as np

from posenet_jax.io.files import png
from posenet_jax.report.page import Example, Gallery, Tile


def gallery(
    columns: Mapping[str, np.ndarray],
    caption: str,
    *,
    cell_labels: Mapping[str, Sequence[str]] | None = None,
    row_labels: Sequence[str] | None = None,
    shown: int | None = None,
    line: int | None = None,
) -> Gallery:
    """Returns N examples side by side: image i of every column, with its heading and label.

    columns: heading -> uint8 RGB [N, H, W, 3]. cell_labels: heading -> N texts; row_labels: N names
    of examples. shown: examples in sight, None: all; line: pictures a line at most.
    """
    cells = cell_labels or {}
    count = len(next(iter(columns.values())))
    examples = [
        Example(
            [
                Tile(png(images[i]), name, cells[name][i] if name in cells else "")
                for name, images in columns.items()
            ],
            "" if row_labels is None else row_labels[i],
        )
        for i in range(count)
    ]
    return Gallery(examples, caption, shown, line)


def pictures(named: Mapping[str, np.ndarray], caption: str, values: Sequence[str] = ()) -> Gallery:
    """Returns one example of single pictures uint8 RGB [H, W, 3] by their labels.

    values: a text for each, below its label; none of nothing.
    """
    texts = values or [""] * len(named)
    tiles = [
        Tile(png(image), name, text)
        for (name, image), text in zip(named.items(), texts, strict=True)
    ]
    return Gallery([Example(tiles)], caption)
