"""Images of a source read into memory, resized as an encoder reads them; N can be read."""

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from posenet_jax.data.sources import ImageSource, NamedImage
from posenet_jax.errors import ImageError
from posenet_jax.images.image_files import unique_names
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.threads import map_in_threads


class LoadedImages(NamedTuple):
    """Images that could be read, and the errors of the others."""

    pixels: np.ndarray  # [N, H, W, C] uint8, as `Preprocessing.resize` makes them
    names: list[str]  # in the source
    stems: list[str]  # names of files about them, no two alike, whether or not others can be read
    positions: list[int]  # in the source
    failures: list[ImageError]  # of the others


def load_images(
    source: ImageSource, preprocessing: Preprocessing, *, threads: int = 0
) -> LoadedImages:
    """Reads all images of a source that can be read. threads: 0: one a core."""
    outcomes = list(_outcomes(source, preprocessing, threads))
    read = {i: one for i, one in enumerate(outcomes) if isinstance(one, NamedImage)}
    names = [read[i].name if i in read else source.name(i) for i in range(len(outcomes))]
    stems = unique_names([Path(name) for name in names])
    pixels = np.zeros((len(read), *preprocessing.shape), np.uint8)
    for row, one in enumerate(read.values()):
        pixels[row] = one.image
    return LoadedImages(
        pixels,
        [names[i] for i in read],
        [stems[i] for i in read],
        list(read),
        [one for one in outcomes if isinstance(one, ImageError)],
    )


def readable(
    source: ImageSource,
    preprocessing: Preprocessing,
    *,
    threads: int = 0,
    report: Callable[[ImageError], None],
) -> Generator[NamedImage, None, None]:
    """Yields the images that can be read, in order. report: called with the error of each other."""
    for outcome in _outcomes(source, preprocessing, threads):
        if isinstance(outcome, ImageError):
            report(outcome)
        else:
            yield outcome


def _outcomes(
    source: ImageSource, preprocessing: Preprocessing, threads: int
) -> Iterator[NamedImage | ImageError]:
    """Yields each image, or why it cannot be read, in order."""

    def read(position: int) -> NamedImage | ImageError:
        try:
            name, image = source[position]
        except ImageError as error:
            return error
        return NamedImage(name, preprocessing.resize(image))

    return map_in_threads(read, range(len(source)), threads=threads or None)
