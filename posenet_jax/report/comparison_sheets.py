"""Contact sheets of methods that make pictures of the same descriptors, and of their draws."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from posenet_jax.decoders.decoding import Decoder
from posenet_jax.evaluation import image_sets
from posenet_jax.evaluation.method_comparison import Compared, Method
from posenet_jax.images.contact_sheet import image_grid
from posenet_jax.metrics import detail_map

GRID = "grid.png"
PLACES = "places.png"

_USUAL = 85.0  # grey level of as much detail as anywhere on average


def file_names(decoders: Sequence[Decoder]) -> list[str]:
    """Names of the sheets of `pages`, known before anything is decoded."""
    return [GRID, PLACES, *(_drawn(decoder.name) for decoder in decoders if decoder.noise)]


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
    each, and the draws of each decoder that reads noise. Of all pictures: how much fine detail
    stands where (`metrics.detail_map`), in which marks at given places show. own: name of the
    layer's own decoder, `decoder` in its heading, and with which names of others begin.
    """
    first = slice(0, shown)
    columns, labels = {"original": originals[first]}, {}
    places = {"original": _places(originals)}
    sheets: dict[str, Callable[[Path], None]] = {}
    for name, method in methods.items():
        heading = name.removeprefix(own).lstrip("-") or "decoder"
        heading = name if heading in (*methods, *columns) else heading
        columns[heading] = method.pictures[first]
        places[heading] = _places(method.pictures)
        labels[heading] = [f"{value:.1f} dB" for value in compared.column(name, "psnr")[first]]
        if len(method.draws) > 1:
            drawn = image_sets.draw_columns(method.draws[:, first], originals[first])
            sheets[_drawn(name)] = functools.partial(image_grid, columns=drawn)
    grid = functools.partial(image_grid, columns=columns, cell_labels=labels, title=title)
    where = f"detail of {len(originals)} images"
    sheets[PLACES] = functools.partial(image_grid, columns=places, title=where)
    return {**sheets, GRID: grid}


def _places(pictures: np.ndarray) -> np.ndarray:
    """Grey page [1, H, W, 3] of where detail stands in a set."""
    levels = np.clip(_USUAL * detail_map(pictures), 0, 255).round().astype(np.uint8)
    return np.repeat(levels[None, :, :, None], 3, axis=-1)


def _drawn(name: str) -> str:
    return f"draws-{name}.png"
