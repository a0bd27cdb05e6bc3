"""Runs the project's scripts as a person does, but for their imports, which are done once.

Each run is a process of its own, forked from one that has imported what scripts import: that takes
longer than most of what the tests have them do. Flags, JAX's settings and devices are a run's own.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

# The environment of scripts that are quick to compile, for tests that start them themselves.
QUICK = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}

_FORKS = multiprocessing.get_context("forkserver")
# None of `experiments`: their flags would meet.
_FORKS.set_forkserver_preload(
    [
        "grain.python",
        "matplotlib.figure",
        "orbax.checkpoint",
        "scipy.stats",
        "tensorboardX",
        "tqdm",
        *(f"posenet_jax.{name}" for name in ("bulk_inversion", "decoder_training", "training")),
    ]
)


def run(
    script: str, *flags: object, quick: bool = True, timeout: float = 550
) -> subprocess.CompletedProcess:
    """What `python -m experiments.SCRIPT FLAGS` said and returned.

    quick: compiled without most optimisations. Not for tests that compare what a script makes with
    what the session makes, to the last bit: random weights too are rounded otherwise.
    """
    command = [f"experiments.{script}", *map(str, flags)]
    with tempfile.TemporaryDirectory() as folder:
        said = [Path(folder) / name for name in ("stdout", "stderr")]
        process = _FORKS.Process(target=_main, args=(command, quick, *map(str, said)))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(command, timeout, *(p.read_bytes() for p in said))
        return subprocess.CompletedProcess(
            command, process.exitcode, *(path.read_text() for path in said)
        )


def _main(command: list[str], quick: bool, stdout: str, stderr: str) -> None:
    for descriptor, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    import jax

    jax.config.update("jax_disable_most_optimizations", quick)
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    sys.argv = command
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)
