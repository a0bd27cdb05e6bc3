"""A folder of shards: what makes a run resumable, whenever its processes are killed.

KIND.json says of what it is, from the start; records/ says which shards are done, each by a file
written after its shard; manifest.json, at the end, that all are. Every file is written beside its
place and renamed. Each process has names of its own for what is unfinished, and a lock.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from posenet_jax.data.shard_plan import ShardPlan
from posenet_jax.errors import InputError
from posenet_jax.image_files import shown
from posenet_jax.run_files import (
    COUNT,
    FILE_NAME,
    SHA256,
    brief,
    checksummed,
    file_sha256,
    read_json,
    schema_fault,
)

MANIFEST = "manifest.json"

LEFT_OUT = [{"name": str, "reason": str}]
"""Schema of the images that a record or manifest says were left out."""
SHARD = {"file": FILE_NAME, "images": COUNT, "bytes": COUNT, "sha256": SHA256}
"""Schema of a shard in a manifest, and of the beginning of its record."""

_RECORDS = "records"
# A size is memory: a larger one must be asked for, not found in a file.
_SIZE = range(1, 2**17 + 1)


@dataclasses.dataclass(frozen=True)
class ShardFolder:
    """One process's view of the folder.

    kind: what is made, "extraction" or "inversion". process: its name among those that share it.
    """

    path: Path
    kind: str
    process: str

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """This process's share to itself; what a killed run had begun is removed.

        Raises InputError where another run holds it.
        """
        (self.path / _RECORDS).mkdir(parents=True, exist_ok=True)
        lock = self.path / f".{self.process}.lock"
        with open(lock, "wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                problem = f"another {self.kind} is at work on this share of {shown(self.path)}"
                raise InputError(problem) from error
            for leftover in self.path.rglob(f".*.{self.process}.partial"):
                leftover.unlink()
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)

    def agreed(
        self, wanted: dict[str, Any], default_sizes: dict[str, int], devices: int
    ) -> tuple[dict[str, Any], ShardPlan]:
        """What is made here: what the folder says, else what is wanted, written down.

        Sizes that are 0 are those of the folder, else the default ones. Raises InputError, naming
        the first difference, where another run's results are there, and where sizes do not divide.
        """
        default = wanted | {name: wanted[name] or size for name, size in default_sizes.items()}
        # Before anything is written, and again, as sizes not chosen are those of the folder.
        _plan(default, devices)
        path = self.path / f"{self.kind}.json"
        if os.path.lexists(path):
            found = read_json(path, {}, remedy="choose another folder")
        else:
            found = default
            self.write_json(path.name, found)
        for name, value in wanted.items():
            free = name in default_sizes and not value
            if not free and found.get(name) != value:
                raise InputError(
                    f"{shown(self.path)} holds an {self.kind} with {name} {brief(found.get(name))},"
                    f" not {brief(value)}; choose another folder"
                )
        asked = {name for name in default_sizes if wanted[name]}
        sizes = {name: COUNT if name in asked else _SIZE for name in default_sizes}
        if fault := schema_fault(found, sizes | {"images": COUNT}):
            raise InputError(f"{shown(path)} cannot be used: {fault}; choose another folder")
        return found, _plan(found, devices)

    def pending(
        self, files: dict[int, str], is_whole: Callable[[int, dict[str, Any]], bool]
    ) -> tuple[list[int], list[dict[str, Any]]]:
        """(numbers of the shards that are not done, records of those that are) of these shards.

        is_whole: whether a shard, by its number and record, is what was written in all else.
        """
        records = {number: self.record(file) for number, file in files.items()}
        done = {n: record for n, record in records.items() if record and is_whole(n, record)}
        return [number for number in files if number not in done], list(done.values())

    def record(self, file: str) -> dict[str, Any] | None:
        """Of a shard that is done, else None; None too where its file is not what was written."""
        try:
            record = read_json(self.path / _record(file), SHARD | {"left_out": LEFT_OUT})
            whole = (self.path / file).stat().st_size == record["bytes"]
        except (OSError, InputError):
            return None
        return record if whole and record["file"] == file else None

    def write_shard(
        self, file: str, write: Callable[[Path], object], images: int, facts: dict[str, Any]
    ) -> None:
        """Puts what `write` writes in its place, and then its record, which holds the facts too."""
        with self._written(file, write) as beside:
            digest, size = file_sha256(beside), beside.stat().st_size
        record = {"file": file, "images": images, "bytes": size, "sha256": digest}
        self.write_json(_record(file), record | facts)

    def write_manifest(self, content: dict[str, Any], records: Sequence[dict[str, Any]]) -> None:
        """The content and a list of all shards, in order."""
        columns = ("file", "images", "bytes", "sha256")
        shards = [{name: record[name] for name in columns} for record in records]
        self.write_json(MANIFEST, content | {"shards": shards})

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """A file of the folder, by its path in it; with a checksum, see `run_files`."""
        text = json.dumps(checksummed(content), indent=1, ensure_ascii=False, allow_nan=False)
        self.write_file(name, lambda path: path.write_text(text + "\n", encoding="utf-8"))

    def write_file(self, name: str, write: Callable[[Path], object]) -> None:
        """A file of the folder, or of one in it: what `write` writes where it is told."""
        with self._written(name, write):
            pass

    @contextlib.contextmanager
    def _written(self, name: str, write: Callable[[Path], object]) -> Iterator[Path]:
        """The file as written beside its place, to which it then goes."""
        path = self.path / name
        beside = path.with_name(f".{path.name}.{self.process}.partial")
        try:
            beside.parent.mkdir(exist_ok=True)
            write(beside)
            yield beside
            # Renamed once it is on the disk: else, after a power cut, the name may be all of it.
            with open(beside, "rb") as file:
                os.fsync(file.fileno())
            os.replace(beside, path)
        except OSError as error:
            beside.unlink(missing_ok=True)
            reason = error.strerror or str(error)
            raise InputError(
                f"{shown(path)} cannot be written ({reason}); what is done stays, and the same"
                " command goes on from there"
            ) from error


def _plan(identity: dict[str, Any], devices: int) -> ShardPlan:
    return ShardPlan(*(identity[name] for name in ShardPlan._fields)).check(devices)


def _record(file: str) -> str:
    return f"{_RECORDS}/{file}.json"
