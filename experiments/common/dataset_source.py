"""TFDS data set as a source: every view of every example."""

from typing import TYPE_CHECKING

from . import buckets
from .source import Given, Option, Source

if TYPE_CHECKING:
    from posenet_jax.data.sources import DatasetImages


def _open(given: Given) -> "DatasetImages":
    from posenet_jax.data.sources import DatasetExamples, DatasetImages, dataset_folder

    from . import images

    folder = dataset_folder(given.value)
    images.refuse_own(folder, given.output)
    examples = DatasetExamples(folder, given.options["split"], max_pixels=given.max_pixels)
    return DatasetImages(examples, given.limit or None)


DATASET = Source(
    "dataset",
    "Folder of a TFDS data set, instead of --images.",
    _open,
    (
        Option(
            "split", "all", "Part of the data set, as TFDS names it: all, train, train[:10%], ..."
        ),
    ),
    define=buckets.string,
)
