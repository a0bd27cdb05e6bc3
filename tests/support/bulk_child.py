"""A bulk inversion in a process of its own, to be killed in the middle.

Prints a line whenever the slots have been looked at.

python -m bulk_child ENCODER IMAGES OUT STEPS CHANGES

CHANGES: fields of the recipe, as JSON.
"""

import dataclasses
import functools
import json
import sys

import jax

jax.config.update("jax_num_cpu_devices", 2)

from posenet_jax.bulk import bulk_inversion  # noqa: E402
from posenet_jax.data.sources import FolderImages  # noqa: E402
from posenet_jax.encoders import weights  # noqa: E402
from posenet_jax.inversion import recipes  # noqa: E402


def main(name: str, images: str, out: str, steps: str, changes: str) -> None:
    recipe = dataclasses.replace(recipes.CALIBRATED, steps=int(steps), **json.loads(changes))
    config = bulk_inversion.BulkConfig(
        restarts=2, slots=4, batch_size=2, shard_size=4, pictures=True
    )
    encoder = weights.load_encoder(name)
    source = FolderImages(images)
    progress = functools.partial(print, flush=True)
    bulk_inversion.invert_all(
        encoder, "fc5", source, out, recipe, config, judge=encoder, progress=progress
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
