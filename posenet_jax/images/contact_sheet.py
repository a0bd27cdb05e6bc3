"""A page of images with labels: examples in lines and blocks, each with its columns side by side.

Images are uint8, RGB or grey. The same inputs give the same pixels.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from posenet_jax.images.preprocessing import as_rgb
from posenet_jax.io.files import write_jpeg, write_png

# In pixels. The resolution is a power of two, so that a size in inches is exact and the page is
# not a pixel short.
_DPI = 128
_MARGIN, _GAP, _ROW_GAP, _BLOCK_GAP, _LINE = 12, 4, 8, 20, 16
_LEAST_WIDTH = 96
_PROPORTION = 4 / 3


def contact_sheet(
    columns: Mapping[str, np.ndarray],
    *,
    row_labels: Sequence[str] | None = None,
    cell_labels: Mapping[str, Sequence[str]] | None = None,
    title: str = "",
) -> np.ndarray:
    """Examples side by side, e.g. original | reconstruction, as one page, uint8 [H, W, 3].

    Example i is the i-th image of every column; examples fill the page line by line, in as many
    blocks as make it well proportioned. Pixels are shown unaltered (tiny images: a whole number of
    times larger). Characters the font lacks become "?"; what does not fit is cut.

    columns: heading -> uint8 [N, H, W, 3], or grey [N, H, W, 1]; all of one size.
    row_labels: N texts, each below its example.
    cell_labels: heading -> N texts, each below its image.
    """
    stacks = _magnified_stacks(columns)
    count, height, width = stacks[0].shape[:3]
    cells, rows = dict(cell_labels or {}), [] if row_labels is None else [row_labels]
    if unknown := sorted(set(cells) - set(columns)):
        raise ValueError(f"cell labels must be for {list(columns)}; received {unknown}")
    if wrong := [len(texts) for texts in [*rows, *cells.values()] if len(texts) != count]:
        raise ValueError(f"every list of labels must have {count} entries; received {wrong}")
    page = _page(count, len(stacks), height, width, bool(title), bool(cells), bool(rows))
    texts = _headings(page, list(columns), title)
    for j, name in enumerate(columns):
        left = j * page.column_step
        texts += _labels(page, cells.get(name, ()), left, height, width)
    for labels in rows:
        texts += _labels(page, labels, 0, page.row_step - _ROW_GAP - _LINE, page.block_width)
    return _typeset(_montage(page, stacks), texts)


@dataclasses.dataclass(frozen=True)
class _Page:
    """Where examples stand on a page, in pixels; x to the right, y down."""

    count: int
    blocks: int
    block_width: int
    column_step: int
    row_step: int
    top: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        rows = -(-self.count // self.blocks)
        width = self.blocks * (self.block_width + _BLOCK_GAP) - _BLOCK_GAP
        return self.top + rows * self.row_step + _MARGIN, width + 2 * _MARGIN

    def corner(self, i: int) -> tuple[int, int]:
        """x and y of the upper left corner of example i."""
        row, block = divmod(i, self.blocks)
        left = _MARGIN + block * (self.block_width + _BLOCK_GAP)
        return left, self.top + row * self.row_step


class _Text(NamedTuple):
    """A line of text: middle of its upper edge, width available to it, all in pixels."""

    x: float
    y: float
    width: float
    text: str
    pixels: int = 11


def _magnified_stacks(columns: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The columns' images, checked, and enlarged a whole number of times when tiny."""
    stacks = [np.asarray(images) for images in columns.values()]
    stacks = [as_rgb(images) if images.ndim == 4 else images for images in stacks]
    kinds = [f"{images.dtype} {list(images.shape)}" for images in stacks]
    first = stacks[0] if stacks else np.empty(0)
    if first.dtype != np.uint8 or first.ndim != 4 or first.shape[-1] != 3 or not first.size:
        raise ValueError(f"columns must be uint8 [N, H, W, 3]; received {kinds}")
    if len(set(kinds)) != 1:
        raise ValueError(f"columns must be of one shape; received {kinds}")
    times = max(1, round(_LEAST_WIDTH / first.shape[2]))
    return [images.repeat(times, axis=1).repeat(times, axis=2) for images in stacks]


def _page(count: int, columns: int, height: int, width: int, titled: bool, *lines: bool) -> _Page:
    """The page nearest to the wanted proportions with the fewest empty cells."""

    def candidate(blocks: int) -> _Page:
        return _Page(
            count=count,
            blocks=blocks,
            block_width=columns * (width + _GAP) - _GAP,
            column_step=width + _GAP,
            row_step=height + sum(lines) * _LINE + _ROW_GAP,
            top=_MARGIN + (3 if titled else 1) * _LINE,
        )

    def cost(page: _Page) -> float:
        high, wide = page.size
        return abs(math.log(wide / high / _PROPORTION)) + (-count % page.blocks) / count

    return min((candidate(blocks) for blocks in range(1, count + 1)), key=cost)


def _headings(page: _Page, names: list[str], title: str) -> list[_Text]:
    """The title and, above each block, the names of its columns."""
    width = page.size[1]
    texts = [_Text(width / 2, _MARGIN, width - 2 * _MARGIN, title, pixels=14)]
    for block in range(page.blocks):
        left, top = page.corner(block)
        for j, name in enumerate(names):
            middle = left + (j + 0.5) * page.column_step - _GAP / 2
            texts.append(_Text(middle, top - _LINE, page.column_step, name))
    return texts


def _labels(page: _Page, labels: Sequence[str], left: int, below: int, width: int) -> list[_Text]:
    """A text for each example: so far right of its corner and below it, centred in the width."""
    corners = [page.corner(i) for i in range(len(labels))]
    return [
        _Text(x + left + width / 2, y + below + _ROW_GAP / 2, width, text)
        for (x, y), text in zip(corners, labels, strict=True)
    ]


def _montage(page: _Page, stacks: list[np.ndarray]) -> np.ndarray:
    """The images on a white page, uint8 [H, W, 3]."""
    canvas = np.full((*page.size, 3), 255, np.uint8)
    height, width = stacks[0].shape[1:3]
    for i in range(page.count):
        left, top = page.corner(i)
        for j, images in enumerate(stacks):
            x = left + j * page.column_step
            canvas[top : top + height, x : x + width] = images[i]
    return canvas


def _typeset(picture: np.ndarray, texts: list[_Text]) -> np.ndarray:
    """The picture, uint8 [H, W, 3], with the texts on it. Touches no state of matplotlib's."""
    # Here, because it takes half a second that a program without pictures need not wait.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = picture.shape[:2]
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    canvas = FigureCanvasAgg(figure)
    figure.figimage(picture, origin="upper")
    for x, y, available, text, pixels in texts:
        figure.text(
            x / width,
            1 - y / height,
            _fitted(text, int(available / (0.6 * pixels))),
            fontsize=pixels * 72 / _DPI,
            fontfamily="DejaVu Sans",
            horizontalalignment="center",
            verticalalignment="top",
            parse_math=False,
        )
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def _fitted(text: str, characters: int) -> str:
    """The text in characters the font has, cut at its beginning: numbers stand at the end."""
    known = "".join(c if c.isprintable() and ord(c) < 0x530 else "?" for c in text)
    if len(known) <= characters:
        return known
    return "\N{HORIZONTAL ELLIPSIS}" + known[1 - characters :]


def image_grid(
    path: str | Path,
    columns: Mapping[str, np.ndarray],
    *,
    row_labels: Sequence[str] | None = None,
    cell_labels: Mapping[str, Sequence[str]] | None = None,
    title: str = "",
) -> None:
    """Writes the `contact_sheet` of the columns, uint8 [N, H, W, 3] or [N, H, W, 1] each.

    path: of a PNG; where it ends in .jpg, of a JPEG.
    """
    page = contact_sheet(columns, row_labels=row_labels, cell_labels=cell_labels, title=title)
    write = write_jpeg if Path(path).suffix == ".jpg" else write_png
    write(path, page)
