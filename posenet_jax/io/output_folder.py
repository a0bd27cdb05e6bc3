"""A folder for the results of one run at a time.

A run says what files it will write. It takes the place of an earlier run of the same script, whose
files, and no others, are removed when its own are written; what is not known to be such a run's is
never removed, and refused where it is in the way. unfinished.json names a run's files while they
are written, run.json, the last of them, when all are there: killed at any moment, a run leaves a
folder that does not look complete, and the next one knows what to remove. In a bucket too, where
nothing keeps two runs from writing to a folder at the same time.
"""

import contextlib
import fcntl
import json
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from posenet_jax.errors import InputError, OutputError, shown
from posenet_jax.io import storage
from posenet_jax.io.files import prepare_output, write_json

RECORD = "run.json"

_UNFINISHED = "unfinished.json"


class OutputFolder:
    """The folder, from the moment at which a run claims it.

    path: the folder. failures: files that could not be written and were done without.
    """

    def __init__(self, folder: str | Path, script: str, files: Iterable[str]) -> None:
        """script: what writes here. files: all that it may write, by their paths in the folder.

        Raises InputError where the folder cannot be written to, another run is at work there, it
        holds what is not of an earlier run of the same script, or a file's name is too long.
        """
        self.path = prepare_output(folder)
        self.failures: list[OutputError] = []
        self._script = script
        self._files = list(dict.fromkeys([*files, RECORD]))
        self._held: dict[str, Path] = {}
        self._unlock = weakref.finalize(self, _unlocked, _locked(self.path))
        try:
            self._earlier = self._of_earlier_run()
            self._check_files()
        except InputError:
            self._unlock()
            raise

    def begin(self) -> None:
        """Removes an earlier run's files; call it when there is something to write."""
        notes = self.path / _UNFINISHED
        if storage.exists(self.path / RECORD):
            storage.move(self.path / RECORD, notes)  # it names them until all are gone
        for name in self._earlier:
            _remove(self.path, name)
        write_json(notes, self._notes())
        for parent in sorted({(self.path / name).parent for name in self._files}):
            storage.make_folder(parent)

    def held(self, name: str) -> Path:
        """Returns where to write a file that gets its name at the end, when all others are there.

        Written before the others, it has its space on the disk.
        """
        self._held[name] = _beside(self.path / name)
        return self._held[name]

    @contextlib.contextmanager
    def spared(self) -> Iterator[None]:
        """Notes a file that the block cannot write, in `failures`; the run goes on without it.

        Where a bucket does not answer, it would not answer for the others either: raises the error.
        """
        try:
            yield
        except OutputError as error:
            if storage.is_lost(error.__cause__):
                raise
            self.failures.append(error)

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Writes run.json, held until the end: the record, and what files are this run's."""
        write_json(self.held(RECORD), {**record, **self._notes()})

    def finish(self, on_failure: Callable[[str], None]) -> str:
        """Gives held files their names. on_failure: called with a sentence for each failure.

        Returns ", but for N of them" and what to do, or nothing where all were written.
        """
        for name, beside in sorted(self._held.items(), key=lambda item: item[0] == RECORD):
            if storage.exists(beside):
                storage.move(beside, self.path / name)
        storage.remove(self.path / _UNFINISHED)
        self._unlock()
        for failure in self.failures:
            on_failure(f"not written: {failure.path} ({failure.reason})")
        if not self.failures:
            return ""
        return f", but for {len(self.failures)} of them: {self.failures[-1].advice}"

    def _notes(self) -> dict[str, Any]:
        return {"script": self._script, "files": sorted(self._files)}

    def _check_files(self) -> None:
        """Raises InputError for one that cannot be written here, or must not be."""
        for name in self._files:
            _check_length(self.path, name)
            path = self.path / name
            taken = name not in self._earlier and storage.exists(path)
            above = [] if storage.is_bucket(path) else [*path.parents][: name.count("/")]
            for there in [path] if taken else above:
                if taken or (os.path.lexists(there) and not there.is_dir()):
                    raise InputError(
                        f"{shown(there)} is not known to be of an earlier run of {self._script};"
                        " move it away or choose another folder"
                    )

    def _of_earlier_run(self) -> set[str]:
        """Names of the files of an earlier run of this script, finished or not."""
        names: set[str] = set()
        for notes in (self.path / _UNFINISHED, self.path / RECORD):
            known = _read(notes)
            if known is None:
                continue
            if "files" not in known:
                names |= self._of_older_version()
            elif known.get("script") == self._script:
                names |= {RECORD, *filter(_is_inside, known["files"])}
            else:
                raise InputError(
                    f"{shown(self.path)} holds a run of {known.get('script')}, not of"
                    f" {self._script}; choose another folder"
                )
        return names

    def _of_older_version(self) -> set[str]:
        """Files of a run that did not note them: those that this one writes too.

        Raises InputError where there may be more: in folders within, or none of this script's.
        """
        there = {name for name in self._files if storage.exists(self.path / name)}
        within = {name.split("/")[0] for name in self._files if "/" in name}
        if there <= {RECORD} or any(_is_folder(self.path / name) for name in within):
            raise InputError(
                f"{shown(self.path)} holds a run of another script, or of an older version, which"
                " did not note its files; move it away or choose another folder"
            )
        return there


def prepare_workdir(folder: str | Path) -> Path:
    """Returns the folder of a run that is resumed by the same command; creates it if need be.

    Raises InputError where it cannot be written to, or holds the results of another script.
    """
    path = prepare_output(folder)
    for notes in (path / _UNFINISHED, path / RECORD):
        known = _read(notes) or {}
        if "files" in known:
            problem = f"{shown(path)} holds a run of {known.get('script')}"
            raise InputError(f"{problem}; choose another folder")
    return path


def _read(notes: Path) -> dict[str, Any] | None:
    """Returns a run's notes; None where there are none."""
    try:
        content = json.loads(storage.content(notes))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(
            f"{shown(notes)} cannot be read ({error}); choose another folder"
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("files", []), list):
        raise InputError(f"{shown(notes)} is not a run's record; choose another folder")
    return content


def _is_folder(path: Path) -> bool:
    return storage.exists(path) if storage.is_bucket(path) else path.is_dir()


def _unlocked(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)


def _locked(folder: Path) -> int | None:
    """Holds the folder until the process ends, where the file system has locks."""
    if storage.is_bucket(folder):
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        problem = f"another run is at work in {shown(folder)}"
        raise InputError(f"{problem}; wait for its end or choose another folder") from error
    except OSError:  # a file system without locks
        pass
    return descriptor


def _check_length(folder: Path, name: str) -> None:
    """Raises InputError for a file whose name or path the file system does not take."""
    if storage.is_bucket(folder):
        return  # which takes 1,024 bytes, more than images and layers have
    path = (folder / name).absolute()
    longest = max(map(len, map(os.fsencode, (folder / name).relative_to(folder).parts)))
    for length, limit, what in (
        (longest, _limit(folder, "PC_NAME_MAX", 255), "name"),
        (len(os.fsencode(path)), _limit(folder, "PC_PATH_MAX", 4096) - 1, "path"),
    ):
        if length > limit:
            raise InputError(
                f"{shown(name)} cannot be written to {shown(folder)}: a {what} of {length} bytes,"
                f" of {limit} at most; rename the image or choose another folder"
            )


def _limit(folder: Path, name: str, usual: int) -> int:
    try:
        return os.pathconf(folder, name)
    except (OSError, ValueError):
        return usual


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.held")


def _is_inside(name: object) -> bool:
    """Whether a noted name leads to a file in the folder: notes may have been tampered with."""
    return isinstance(name, str) and not Path(name).is_absolute() and ".." not in Path(name).parts


def _remove(folder: Path, name: str) -> None:
    """Removes a file of an earlier run, or a held one of it; then folders left empty."""
    path = folder / name
    if storage.is_bucket(folder):
        for file in (path, _beside(path)):
            storage.remove(file)
        return
    for file in (path, _beside(path)):
        if not file.is_dir():
            file.unlink(missing_ok=True)
    for parent in path.relative_to(folder).parents[:-1]:
        with contextlib.suppress(OSError):  # not empty: somebody else's files
            (folder / parent).rmdir()
