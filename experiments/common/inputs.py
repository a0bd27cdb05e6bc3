"""Flags that say which images a run over many of them takes."""

from absl import flags

from experiments.common import images
from experiments.common.rendered import rendered_examples
from posenet_jax import scenes
from posenet_jax.data.rendered_examples import RenderedImages
from posenet_jax.data.sources import DatasetExamples, DatasetImages, ImageSource
from posenet_jax.errors import InputError

_IMAGES = flags.DEFINE_string("images", None, "Folder, glob or file of images.")
_DATASET = flags.DEFINE_string("dataset", None, "Folder of a TFDS data set, instead of --images.")
_SPLIT = flags.DEFINE_string("split", "all", "Of the data set: all, train, train[:10%], ...")
_KIND = flags.DEFINE_enum(
    "render", None, scenes.kind_names(), "Kind of scenes to render, instead of --images."
)
_SCENES = flags.DEFINE_integer("scenes", 1000, "Rendered scenes, two views each.", lower_bound=1)
_SCENE_SEED = flags.DEFINE_integer("scene_seed", 0, "Decides the rendered scenes.", lower_bound=0)
FACADES = flags.DEFINE_string(
    "facades",
    None,
    "Folder or glob of facade photographs for rendered scenes; invented if not given.",
)
_LIMIT = flags.DEFINE_integer(
    "limit", 0, "Images at most, by name, of those that are not rendered; 0: all.", lower_bound=0
)
THREADS = flags.DEFINE_integer(
    "threads", 0, "Threads that read images; 0: one a core.", lower_bound=0
)


def number_given() -> int:
    """How many flags name images."""
    return sum(map(bool, (_IMAGES.value, _DATASET.value, _KIND.value)))


def source(output: str) -> ImageSource:
    """The images, without those in the run's output folder.

    Raises InputError where not one flag names some, or they are not there.
    """
    if number_given() != 1:
        raise InputError("give one of --images, --dataset and --render")
    if _IMAGES.value:
        return images.source(_IMAGES.value, output, _LIMIT.value)
    if _DATASET.value:
        limit = images.MAX_PIXELS.value
        examples = DatasetExamples(_DATASET.value, _SPLIT.value, max_pixels=limit)
        return DatasetImages(examples, _LIMIT.value or None)
    kind, seed = str(_KIND.value), _SCENE_SEED.value
    return RenderedImages(rendered_examples(kind, _SCENES.value, seed, FACADES.value, output))
