"""Builds a TFDS data set, as ArrayRecord, of rendered scenes or of images in a folder.

    posenet-jax build_dataset --source=streets --scenes=10000 --out=DATASETS
    posenet-jax build_dataset --source=photographs --images=PHOTOS --out=DATASETS
    posenet-jax build_dataset --source=street_view --images=3D_Street_View --out=DATASETS

An interrupted run leaves no data set but a folder `incomplete.*`; the next run names it and is
refused without --restart. Exit code: 0; 1 if some files could not be used (they are named, the
others are in the data set); 2 if none was built.
"""

import sys

from absl import flags

from .common import buckets, options, runtime

_SOURCE = options.kind(
    "source",
    None,
    "Contents of the data set: rendered streets, cars or rooms; photographs; or street_view, the"
    " 3D_Street_View data set.",
    further={"photographs": "photos", "street_view": "street_view"},
    required=True,
)
_OUT = buckets.string(
    "out", None, "Folder of data sets in which the new one is made.", required=True
)
_IMAGES = options.images()
_COUNT = flags.DEFINE_integer(
    "scenes", 10_000, "Scenes to render, two views of each.", lower_bound=1
)
_SEED = options.seed()
_SIZE = options.size()
_FACADES = options.facades()
_RESTART = flags.DEFINE_bool(
    "restart", False, "Remove the data set that is there, finished or not, and build it anew."
)

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse(renamed={"count": "scenes"})

import tensorflow_datasets as tfds

from posenet_jax import scenes
from posenet_jax.data import dataset_writing, tfds_builder
from posenet_jax.errors import InputError, shown
from posenet_jax.io.files import prepare_output

from .common import images, progress, rendered


def _rendered(**hooks) -> tfds_builder.RenderedScenes:
    examples = rendered.rendered_examples(
        _SOURCE.value, _COUNT.value, _SEED.value, _FACADES.value, _OUT.value, _SIZE.value or 100
    )
    return tfds_builder.RenderedScenes(scenes=examples, **hooks)


def main() -> int:
    """Builds and returns the exit code."""
    if (_SOURCE.value in scenes.kind_names()) == bool(_IMAGES.value):
        wanted = "takes no --images" if _IMAGES.value else "needs --images"
        raise InputError(f"--source={_SOURCE.value} {wanted}")
    tfds.disable_progress_bar()
    with progress.bar(None, "example") as bar:
        size, max_pixels = _SIZE.value, options.MAX_PIXELS.value
        hooks = {
            "data_dir": _OUT.value,
            "progress": bar.update,
            "report": lambda error: bar.write(f"left out: {error}", file=sys.stderr),
        }
        if _SOURCE.value == "photos":
            files = images.listed(str(_IMAGES.value), _OUT.value)
            builder = tfds_builder.Photographs(
                images=files, size=size, max_pixels=max_pixels, **hooks
            )
            bar.total = len(builder)
        elif _SOURCE.value == "street_view":
            builder = tfds_builder.StreetView(
                images=_IMAGES.value, size=size, max_pixels=max_pixels, **hooks
            )
        else:
            builder = _rendered(**hooks)
            bar.total = _COUNT.value
        prepare_output(_OUT.value)
        new = dataset_writing.build(builder, restart=_RESTART.value)
    splits = {name: split.num_examples for name, split in sorted(builder.info.splits.items())}
    counts = ", ".join(f"{count} {name}" for name, count in splits.items())
    left_out = builder.info.metadata["left_out"]
    print(f"{'wrote' if new else 'already there:'} {shown(builder.folder)}: {counts}; ", end="")
    print(f"left out: {left_out}")
    return 1 if left_out else 0


if __name__ == "__main__":
    runtime.run(main)
