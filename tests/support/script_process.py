"""Runs the project's scripts as a person does, but for their imports, which are done once.

`start` begins a process of its own, forked from one that has imported what scripts import: that
takes longer than most of what the tests have them do. `run` has one process run script after
script, so that what one has traced the next need not: most of a short run is tracing, which nothing
on disk can save. Each has its own flags, modules of `experiments`, environment, warnings and
output; devices and optimisation are the process's.
"""

import atexit
import contextlib
import gc
import multiprocessing
import multiprocessing.connection
import os
import resource
import runpy
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Mapping
from multiprocessing.util import Finalize
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from absl import app, flags
from absl.testing import flagsaver

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

    def __init__(
        self, command: list[str], quick: bool, folder: Path, environment: Mapping[str, str]
    ) -> None:
        self._command = command
        self._folder = tempfile.TemporaryDirectory()
        self._said = [Path(self._folder.name) / name for name in ("stdout", "stderr")]
        for path in self._said:
            path.touch()
        args = command, quick, str(folder), dict(environment), *map(str, self._said)
        self._process = _FORKS.Process(target=_main, args=args)
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


def start(
    module: str,
    *arguments: object,
    quick: bool = True,
    folder: Path = ROOT,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Running:
    """Begins `python -m MODULE ARGUMENTS` in a folder, with these variables set.

    quick: compiled without most optimisations. Not for tests that compare what a script makes with
    what the session makes, to the last bit: random weights too are rounded otherwise.
    """
    return Running([module, *map(str, arguments)], quick, folder, environment)


def run(
    script: str,
    *arguments: object,
    quick: bool = True,
    folder: Path = ROOT,
    timeout: float = 550,
) -> subprocess.CompletedProcess:
    """What `python -m experiments.SCRIPT ARGUMENTS` said and returned; the rest as for `start`."""
    given = {"quick": quick, "folder": folder, "timeout": timeout}
    return run_module(f"experiments.{script}", *arguments, **given)


def run_module(
    module: str,
    *arguments: object,
    quick: bool = True,
    folder: Path = ROOT,
    timeout: float = 550,
) -> subprocess.CompletedProcess:
    """The same of `python -m MODULE ARGUMENTS`, of a module that leaves the package as it was."""
    command = [module, *map(str, arguments)]
    return _Runner.of(quick, _devices(command)).run(command, folder, timeout)


def _devices(command: list[str]) -> str:
    """Number of CPU devices that a command asks for: a process has them for good."""
    asked = [flag.partition("=")[2] for flag in command if flag.startswith("--cpu_devices=")]
    return asked[-1] if asked else "as many as there are cores"


class _Runner(NamedTuple):
    """A process that runs one script after the other."""

    process: multiprocessing.process.BaseProcess
    connection: multiprocessing.connection.Connection

    @classmethod
    def of(cls, quick: bool, devices: str) -> "_Runner":
        """The one of these settings, begun where there is none; the eldest of three ends."""
        settings = quick, devices
        found = _RUNNERS.pop(settings, None)
        if found is None or found.connection.closed or not found.process.is_alive():
            if len(_RUNNERS) > 1:
                _RUNNERS.pop(next(iter(_RUNNERS))).end()
            ours, theirs = multiprocessing.Pipe()
            process = _FORKS.Process(target=_serve, args=(theirs, quick))
            process.start()
            theirs.close()
            found = cls(process, ours)
        _RUNNERS[settings] = found
        return found

    def run(self, command: list[str], where: Path, timeout: float) -> subprocess.CompletedProcess:
        with tempfile.TemporaryDirectory() as folder:
            said = [Path(folder) / name for name in ("stdout", "stderr")]
            self.connection.send((command, str(where), *map(str, said)))
            late = not self.connection.poll(timeout)
            try:
                code, last = (None, True) if late else self.connection.recv()
            except EOFError:  # the process has ended, as by a signal
                code, last = None, True
            if code is None:
                self.process.kill()
            if last:
                self.end()
            texts = [path.read_text() for path in said]
        if late:
            raise subprocess.TimeoutExpired(command, timeout, *texts)
        code = self.process.exitcode if code is None else code
        return subprocess.CompletedProcess(command, code, *texts)

    def end(self) -> None:
        self.connection.close()
        self.process.join()


_RUNNERS: dict[tuple[bool, str], _Runner] = {}
_MOST = 3 * 2**20  # KiB of memory after which a process runs no further script


def _end_all() -> None:
    while _RUNNERS:
        _RUNNERS.popitem()[1].end()


Finalize(None, _end_all, exitpriority=100)  # before multiprocessing waits for them


def _serve(connection: multiprocessing.connection.Connection, quick: bool) -> None:
    """Runs scripts until the other end is closed, or programs have taken much memory."""
    _settle(quick)
    app.define_help_flags()  # which absl does once in a process: they are not a script's own
    last = False
    with contextlib.suppress(EOFError):
        while not last:
            command, folder, *said = connection.recv()
            _redirect(*said)
            os.chdir(folder)
            code = _exit_code(command)
            last = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > _MOST
            connection.send((code, last))


def _exit_code(command: list[str]) -> int:
    """Runs a script as the interpreter does, and leaves what scripts change as it was."""
    environment, code = dict(os.environ), 0
    with flagsaver.flagsaver(), warnings.catch_warnings():
        try:
            _run(command)
        except SystemExit as end:
            code = end.code
        except BaseException:
            traceback.print_exc()
            code = 1
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for name in [name for name in sys.modules if name.partition(".")[0] == "experiments"]:
        del sys.modules[name]
    os.environ.clear()
    os.environ.update(environment)
    flags.FLAGS.unparse_flags()
    os.chdir(ROOT)
    gc.collect()
    return int(code or 0)


def _main(
    command: list[str],
    quick: bool,
    folder: str,
    environment: Mapping[str, str],
    stdout: str,
    stderr: str,
) -> None:
    _redirect(stdout, stderr)
    _settle(quick)
    os.chdir(folder)
    os.environ.update(environment)
    try:
        _run(command)
    finally:
        import jax

        atexit._run_exitfuncs()  # as a process would that is no fork
        # By which JAX waits for the others; since Python 3.13 forks forget what was registered.
        jax.distributed.shutdown()


def _redirect(stdout: str, stderr: str) -> None:
    for descriptor, path in ((1, stdout), (2, stderr)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, descriptor)
        os.close(file)


def _settle(quick: bool) -> None:
    import jax

    jax.config.update("jax_disable_most_optimizations", quick)
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))


def _run(command: list[str]) -> None:
    sys.argv = command
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)
