"""Runs the project's scripts as a person does, but for their imports, which are done once.

Each run is a process of its own, forked from one that has imported what scripts import: that takes
longer than most of what the tests have them do. Flags, JAX's settings and devices are a run's own.
"""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]

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
        *(
            f"posenet_jax.{name}"
            for name in (
                "bulk.bulk_inversion",
                "training.decoder_training",
                "training.pose_training",
            )
        ),
    ]
)


class Running:
    """A script at work. `end` it, or its folder stays."""

    def __init__(self, command: list[str], quick: bool) -> None:
        self._command = command
        self._folder = tempfile.TemporaryDirectory()
        self._said = [Path(self._folder.name) / name for name in ("stdout", "stderr")]
        for path in self._said:
            path.touch()
        self._process = _FORKS.Process(target=_main, args=(command, quick, *map(str, self._said)))
        self._process.start()

    @property
    def at_work(self) -> bool:
        return self._process.exitcode is None

    def wait_for_lines(self, count: int) -> None:
        """Until it has printed so many lines, or has ended."""
        while self.at_work and self._said[0].read_bytes().count(b"\n") < count:
            time.sleep(0.005)

    def kill(self) -> None:
        self._process.kill()
        self.end()

    def end(self, timeout: float = 550) -> subprocess.CompletedProcess:
        """What it said and returned, once it has."""
        self._process.join(timeout)
        late = self.at_work
        if late:
            self._process.kill()
            self._process.join()
        said = [path.read_text() for path in self._said]
        self._folder.cleanup()
        if late:
            raise subprocess.TimeoutExpired(self._command, timeout, *said)
        return subprocess.CompletedProcess(self._command, self._process.exitcode, *said)


def start(module: str, *arguments: object, quick: bool = True) -> Running:
    """Begins `python -m MODULE ARGUMENTS`.

    quick: compiled without most optimisations. Not for tests that compare what a script makes with
    what the session makes, to the last bit: random weights too are rounded otherwise.
    """
    return Running([module, *map(str, arguments)], quick)


def run(script: str, *flags: object, quick: bool = True) -> subprocess.CompletedProcess:
    """What `python -m experiments.SCRIPT FLAGS` said and returned; `quick` as for `start`."""
    return start(f"experiments.{script}", *flags, quick=quick).end()


def _main(command: list[str], quick: bool, stdout: str, stderr: str) -> None:
    for descriptor, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY), descriptor)
    import jax

    jax.config.update("jax_disable_most_optimizations", quick)
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    sys.argv = command
    try:
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # as a process would that is no fork
