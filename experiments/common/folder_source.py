"""Image files as a source: those of a folder, a glob, or a single one."""

from typing import TYPE_CHECKING

from . import buckets, options
from .source import Given, Source

if TYPE_CHECKING:
    from posenet_jax.data.sources import FolderImages


def _open(given: Given) -> "FolderImages":
    from . import images

    return images.source(given.value, given.output, given.limit)


FOLDER = Source("images", options.IMAGES, _open, define=buckets.string)
