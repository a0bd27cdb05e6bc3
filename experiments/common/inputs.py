"""Flags that say which images a run over many of them takes.

The imports stand in `source`, after flags are parsed: `--help` is to answer at once.
"""

from typing import TYPE_CHECKING

from absl import flags

from experiments.common import options

if TYPE_CHECKING:
    from posenet_jax.data.sources import ImageSource

_IMAGES = options.images()
_DATASET = flags.DEFINE_string("dataset", None, "Folder of a TFDS data set, instead of --images.")
_SPLIT = flags.DEFINE_string(
    "split", "all", "Part of the data set, as TFDS names it: all, train, train[:10%], ..."
)
_KIND = options.kind(
    "render",
    None,
    "Kind of scenes to render instead of reading --images: streets, cars or rooms.",
)
_SCENES = flags.DEFINE_integer(
    "scenes", 1000, "Scenes to render, two views of each.", lower_bound=1
)
_SCENE_SEED = flags.DEFINE_integer(
    "scene_seed", 0, "Seed of the rendered scenes, besides --seed.", lower_bound=0
)
FACADES = options.facades()
_LIMIT = options.limit()
THREADS = flags.DEFINE_integer(
    "threads", 0, "Threads that read images; 0: one a core.", lower_bound=0
)


def number_given() -> int:
    """How many flags name images."""
    return sum(map(bool, (_IMAGES.value, _DATASET.value, _KIND.value)))


def source(output: str) -> "ImageSource":
    """The images, without those in the run's output folder.

    Raises InputError where not one flag names some, or they are not there.
    """
    from experiments.common import images
    from experiments.common.rendered import rendered_examples
    from posenet_jax.data.rendered_examples import RenderedImages
    from posenet_jax.data.sources import DatasetExamples, DatasetImages
    from posenet_jax.errors import InputError

    if number_given() != 1:
        raise InputError("give one of --images, --dataset and --render")
    if _IMAGES.value:
        return images.source(_IMAGES.value, output, _LIMIT.value)
    if _DATASET.value:
        limit = options.MAX_PIXELS.value
        examples = DatasetExamples(_DATASET.value, _SPLIT.value, max_pixels=limit)
        return DatasetImages(examples, _LIMIT.value or None)
    kind, seed = str(_KIND.value), _SCENE_SEED.value
    return RenderedImages(rendered_examples(kind, _SCENES.value, seed, FACADES.value, output))
