"""A source of images from outside: stripes. Runs a script that knows it, and is told nothing else.

python -m stripes_source MODULE ARGUMENTS
"""

import functools
import runpy
import sys

import numpy as np
from absl import flags

from experiments.common.source import Given, Option, Source
from experiments.common.sources import SOURCES


class Stripes:
    """As many images, each of another width of stripes; the second cannot be read."""

    def __init__(self, count: int, contrast: int) -> None:
        self.count, self.contrast, self.fingerprint = count, contrast, f"{count} {contrast}"

    def __len__(self) -> int:
        return self.count

    def name(self, position: int) -> str:
        return f"stripes/{position + 1}-wide"

    def __getitem__(self, position):
        from posenet_jax.data.sources import NamedImage
        from posenet_jax.errors import ImageError

        if position == 1:
            raise ImageError(f"{self.name(1)}: torn")
        row = self.contrast * (np.arange(120) // (position + 1) % 2)
        return NamedImage(self.name(position), np.tile(row.astype(np.uint8)[:, None], (90, 1, 3)))


def _open(given: Given) -> Stripes:
    return Stripes(given.value, given.options["contrast"])


_COUNT = functools.partial(flags.DEFINE_integer, lower_bound=1)
_CONTRAST = Option("contrast", 200, "Grey levels of the lighter stripes.", _COUNT)
_HELP = "Number of striped images to take instead of files."
SOURCES["stripes"] = Source("stripes", _HELP, _open, (_CONTRAST,), _COUNT)

if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
