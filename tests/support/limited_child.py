"""A script whose files can have so many bytes and no more: as near to a full disk as runs anywhere.

From the moment at which it writes results, where it has such a folder: what it compiles is kept.

python -m limited_child BYTES MODULE ARGUMENTS
"""

import resource
import runpy
import sys

from posenet_jax.io.output_folder import OutputFolder


def _limit(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def main(limit: str, module: str, *arguments: str) -> None:
    begin = OutputFolder.begin
    OutputFolder.begin = lambda folder: (_limit(int(limit)), begin(folder))[1]
    if module in ("training_child", "experiments.build_dataset"):
        _limit(int(limit))
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        OutputFolder.begin = begin
        _limit(resource.RLIM_INFINITY)


if __name__ == "__main__":
    main(*sys.argv[1:])
