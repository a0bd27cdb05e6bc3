"""An extraction in a process of its own, slow enough to be killed in the middle.

Prints a line for every batch.

python -m extraction_child IMAGES OUT FORMAT SECONDS
"""

import functools
import sys
import time

import jax

jax.config.update("jax_num_cpu_devices", 2)

from posenet_jax.bulk import extraction  # noqa: E402
from posenet_jax.data.sources import FolderImages, NamedImage  # noqa: E402
from posenet_jax.encoders import weights  # noqa: E402


class Slow(FolderImages):
    """Each image takes a while to read."""

    seconds = 0.0

    def __getitem__(self, position) -> NamedImage:
        time.sleep(self.seconds)
        return super().__getitem__(position)


def main(images: str, out: str, file_format: str, seconds: str) -> None:
    Slow.seconds = float(seconds)
    config = extraction.ExtractionConfig(
        file_format=file_format, batch_size=4, shard_size=8, threads=2
    )
    encoder = weights.load_encoder("compact-random-0")
    progress = functools.partial(print, flush=True)
    extraction.extract(encoder, "fc5", Slow(images), out, config, progress=progress)


if __name__ == "__main__":
    main(*sys.argv[1:])
