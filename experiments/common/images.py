"""How every script lists and reads image files; what is left out is said once, on stderr."""

import os
import sys
from collections.abc import Collection
from pathlib import Path

import jax
from jax.sharding import Mesh
from tqdm.auto import tqdm

from posenet_jax import scenes
from posenet_jax.data import training_pairs
from posenet_jax.data.sources import FolderImages
from posenet_jax.errors import ImageError, InputError, shown
from posenet_jax.images import image_files
from posenet_jax.images.image_list import ImageList, folder_of, list_images
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.io import storage

from . import options

# Where scripts write pictures in their output folder.
_PICTURES = ("images", "samples")


def listed(pattern: str, output: str, limit: int = 0) -> ImageList:
    """The images of a folder, a glob or a file, without those in the run's output folder.

    limit: the first so many; 0: all. Raises InputError where there is none.
    """
    found = listed_silently(pattern, output, limit)
    for sentence in found.left_out.sentences():
        tqdm.write(sentence, file=sys.stderr)
    return found


def listed_silently(pattern: str, output: str, limit: int = 0) -> ImageList:
    """The same list, for what says nothing of it, or has been said."""
    return list_images(pattern, limit=limit or None, exclude=own_folders(pattern, output))


def source(pattern: str, output: str, limit: int = 0) -> FolderImages:
    """The same, read when asked for."""
    return FolderImages(listed(pattern, output, limit), max_pixels=options.MAX_PIXELS.value)


def read(files: Collection[Path], space: Preprocessing) -> image_files.ImageSet:
    """All that can be read, resized as `space` says; the others are named."""
    found = image_files.read_images(files, space, max_pixels=options.MAX_PIXELS.value)
    for failure in found.failures:
        tell(failure)
    return found


def facade_atlases(
    facades: str | None, key: jax.Array, mesh: Mesh, output: str
) -> tuple[scenes.Atlas, scenes.Atlas, list[ImageError]]:
    """`training_pairs.facade_atlases` of a folder, a glob or a file; files left out are named."""
    files = listed(facades, output) if facades else None
    made = training_pairs.facade_atlases(files, key, mesh, max_pixels=options.MAX_PIXELS.value)
    for failure in made[-1]:
        tell(failure)
    return made


def photographs(pattern: str, mesh: Mesh, output: str) -> tuple[jax.Array, list[ImageError]]:
    """`training_pairs.load_photos` of a folder, a glob or a file; files left out are named."""
    found = training_pairs.load_photos(
        listed(pattern, output), mesh, max_pixels=options.MAX_PIXELS.value
    )
    for failure in found[-1]:
        tell(failure)
    return found


def tell(failure: object) -> None:
    """Names a file that is left out."""
    tqdm.write(f"left out: {failure}", file=sys.stderr)


def own_folders(pattern: str, output: str) -> list[str]:
    """The folders whose images are this run's, or an earlier one's with the same output folder.

    Images may lie in the output folder, but not where pictures are written.
    """
    top, own = _place(folder_of(pattern)), _place(output)
    if top != own and os.path.commonpath([top, own]) == own:
        return [os.path.join(output, name) for name in _PICTURES]
    return [output]


def _place(path: str | Path) -> str:
    """Where a path leads; one in a bucket as if the bucket were a folder of the disk."""
    if storage.is_bucket(path):
        return os.path.normpath(f"/{path}")
    return os.path.realpath(os.path.expanduser(path))


def refuse_own(folder: str | Path, output: str) -> None:
    """Raises InputError for a folder in which the run, or an earlier one, writes."""
    place = _place(folder)
    own = map(_place, own_folders(str(folder), output))
    if any(os.path.commonpath([place, each]) == each for each in own):
        problem = f"{shown(folder)} is where pictures of the output folder {shown(output)} lie"
        raise InputError(f"{problem}; choose another for output")
