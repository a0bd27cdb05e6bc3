"""A script with one more measure than the package has, registered and nothing else.

python -m measure_child MODULE ARGUMENTS
"""

import runpy
import sys

from posenet_jax.evaluation import measures
from posenet_jax.evaluation.measures import Control, Measure

BRIGHTNESS = Measure(
    "brightness",
    lambda context: context.pictures.mean(axis=(1, 2, 3)),
    Control(
        "original_brightness",
        lambda context: context.originals.mean(axis=(1, 2, 3)),
        "control: the original's own",
        needs=frozenset({"originals"}),
    ),
    "mean brightness",
    "mean of the picture's values",
    unit="levels",
)


def main(module: str, *arguments: str) -> None:
    before = measures.MEASURES
    measures.MEASURES = (*before, BRIGHTNESS)
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        measures.MEASURES = before


if __name__ == "__main__":
    main(*sys.argv[1:])
