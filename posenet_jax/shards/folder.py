"""A folder of shards, by which a run is resumed whenever its processes were killed.

KIND.json says what the run is, from the start; records/ says which shards are done, each by a file
written after its shard, and of which images each is (`traces`); manifest.json says, at the end,
that all are done. Every file is written under another name and renamed. Each process has names of
its own for unfinished files, and a lock.

In a bucket files are uploaded whole, in the same order, and there is no lock: a process owns its
shards by its number alone. Two that were given the same number write the same bytes over each
other's, and nothing is lost but time.
"""

import contextlib
import dataclasses
import fcntl
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from posenet_jax.data.traces import Checked, TracedSource, read_traces
from posenet_jax.errors import InputError, shown
from posenet_jax.io import storage, whole_files
from posenet_jax.io.run_files import (
    COUNT,
    FILE_NAME,
    SHA256,
    brief,
    checksummed,
    file_sha256,
    read_json,
    schema_fault,
)
from posenet_jax.shards.plan import ShardPlan
from posenet_jax.threads import map_in_threads

MANIFEST = "manifest.json"

LEFT_OUT = [{"name": str, "reason": str}]
"""Schema of the images that a record or manifest says were left out."""
SHARD = {"file": FILE_NAME, "images": COUNT, "bytes": COUNT, "sha256": SHA256}
"""Schema of a shard in a manifest, and of the beginning of its record."""

_RECORDS = "records"
# A size is memory: a larger one must be asked for, not found in a file.
_SIZE = range(1, 2**17 + 1)
_OF_FINISHED = (MANIFEST, "dataset_info.json")
_OF_OTHERS = (*_OF_FINISHED, "results.csv", "run.json", "unfinished.json")
_EXPLAINED = {
    "source": " (images of other names or sizes)",
    "facades": " (the contents of --facades)",
    "lpips": " (the SqueezeNet of --feature_networks)",
}
# Facts that the first versions did not write.
_ADDED_LATER = ("facades", "lpips")
_GOES_ON = "what is done stays, and the same command goes on from there"


@dataclasses.dataclass(frozen=True)
class ShardFolder:
    """One process's view of the folder.

    kind: "extraction" or "inversion". process: its name among those that write to the folder.
    """

    path: Path
    kind: str
    process: str

    @property
    def at_once(self) -> int:
        """Number of files to be read or written together: a bucket takes a while for each."""
        return 16 if storage.is_bucket(self.path) else 1

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds this process's lock; unfinished files of a killed run are removed.

        In a bucket there is neither. Raises InputError where another run holds it.
        """
        if storage.is_bucket(self.path):
            yield
            return
        lock = self.path / f".{self.process}.lock"
        try:
            (self.path / _RECORDS).mkdir(parents=True, exist_ok=True)
            file = open(lock, "wb")
        except OSError as error:
            raise whole_files.not_written(lock, error, _GOES_ON) from error
        with file:
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
        self, wanted: dict[str, Any], default_sizes: dict[str, int], mesh: Mesh
    ) -> tuple[dict[str, Any], ShardPlan]:
        """Returns the folder's own description and plan; in a new folder, writes the wanted ones.

        Sizes that are 0 are those of the folder, else the default ones. Facts that an older version
        did not write are not compared. Raises InputError, naming the first difference, where
        another run's results are there, where the run was begun on other devices, and where sizes
        do not divide.
        """
        identity = self.identity()
        if identity is None:
            sizes = {name: wanted[name] or size for name, size in default_sizes.items()}
            identity = wanted | sizes | {"devices": mesh.size}
            plan = plan_of(identity).check(mesh.size)  # before anything is written
            self.write_json(f"{self.kind}.json", identity)
            return identity, plan
        for name, value in wanted.items():
            free = name in default_sizes and not value
            theirs = identity.get(name, value if name in _ADDED_LATER else None)
            if not free and theirs != value:
                raise InputError(
                    f"{shown(self.path)} holds an {self.kind} with {name} {brief(theirs)}, not"
                    f" {brief(value)}{_EXPLAINED.get(name, '')}; choose another folder"
                )
        asked = {name for name in default_sizes if wanted[name]}
        ranges = {name: COUNT if name in asked else _SIZE for name in default_sizes}
        if fault := schema_fault(identity, ranges | {"images": COUNT}):
            where = shown(self.path / f"{self.kind}.json")
            raise InputError(f"{where} cannot be used: {fault}; choose another folder")
        self._check_devices(identity, default_sizes, mesh)
        return identity, plan_of(identity).check(mesh.size)

    def identity(self) -> dict[str, Any] | None:
        """Returns the folder's description of itself; None where no run has written to it."""
        path = self.path / f"{self.kind}.json"
        if storage.exists(path):
            plan = dict.fromkeys(ShardPlan._fields, COUNT)
            return read_json(path, plan, remedy="choose another folder")
        for name in _OF_OTHERS:
            if storage.exists(self.path / name):
                problem = f"{shown(self.path)} holds {name} of another run"
                raise InputError(f"{problem}; choose another folder")
        return None

    def amended(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Adds facts to the folder's description of itself, which is returned."""
        identity = (self.identity() or {}) | facts
        self.write_json(f"{self.kind}.json", identity)
        return identity

    def _check_devices(
        self, identity: dict[str, Any], default_sizes: dict[str, int], mesh: Mesh
    ) -> None:
        """Raises InputError where a run cannot resume on so many devices, and says on how many.

        On other devices the same program rounds otherwise. CPU devices can be had in any number;
        of others a run takes what there is, if its sizes divide.
        """
        before, cpu = identity.get("devices"), mesh.devices.flat[0].platform == "cpu"
        common = math.gcd(*(identity[name] for name in default_sizes if name != "shard_size"))
        if before == mesh.size or (common % mesh.size == 0 and not (cpu and before)):
            return
        usable = before or max(n for n in range(1, mesh.size + 1) if common % n == 0)
        sizes = ", ".join(f"{name} {identity[name]}" for name in default_sizes)
        on = f"on {_devices(before)}, " if before else ""
        remedy = f"give --cpu_devices={usable}" if cpu else f"let it see {_devices(usable)}"
        raise InputError(
            f"the {self.kind} in {shown(self.path)} was begun {on}with {sizes}, not on"
            f" {_devices(mesh.size)} as here: {remedy}, or choose another folder"
        )

    def checked(
        self, source: TracedSource, plan: ShardPlan, done: Mapping[int, dict[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        """Yields the records of shards that are done, each when its images have been compared.

        Raises InputError after the last, naming the first image that has changed since its shard
        was written. Shards without traces, which older versions wrote, are not compared.
        """
        changed: dict[str, list[int]] = {}
        for shard, record in done.items():
            if positions := self._changed(source, plan.positions(shard), record["file"]):
                changed[record["file"]] = positions
            yield record
        if changed:
            file, positions = next(iter(changed.items()))
            others = sum(map(len, changed.values())) - 1
            more = f" ({others} more have changed, in {len(changed)} shards)" if others else ""
            raise InputError(
                f"{source.name(positions[0])} is not the image any more that"
                f" {shown(self.path / file)} was made of{more}: put it back, remove that file so"
                " that it is made anew, or choose another folder"
            )

    def check_images(self, source: TracedSource, positions: range, file: str) -> None:
        """Raises InputError, naming the first, for images of a shard that are not what was read."""
        checked = self._checked(source, positions, file)
        if checked and checked.changed:
            raise InputError(
                f"{source.name(checked.changed[0])} is not the image any more that"
                f" {shown(self.path / file)} was made of: put it back, or make that anew"
            )

    def _changed(self, source: TracedSource, positions: range, file: str) -> list[int]:
        checked = self._checked(source, positions, file)
        if not checked:
            return []
        if checked.touched and not checked.changed:
            self._write_traces(file, checked.traces)  # so that the next start need not read them
        return checked.changed

    def _checked(self, source: TracedSource, positions: range, file: str) -> Checked | None:
        """None where there are no traces, or none can be taken."""
        before = read_traces(self.path / _traces(file))
        return source.tracer.check(positions, before) if source.tracer and len(before) else None

    def _write_traces(self, file: str, traces: np.ndarray) -> None:
        content = io.BytesIO()
        np.save(content, traces)
        self.write_file(_traces(file), lambda path: path.write_bytes(content.getvalue()))

    def reopened(self, *tables: str) -> None:
        """Removes the files that say that all shards are done, and tables of all of them."""
        for name in (*_OF_FINISHED, *tables):
            storage.remove(self.path / name)

    def pending(
        self, files: dict[int, str], is_whole: Callable[[int, dict[str, Any]], bool]
    ) -> tuple[list[int], dict[int, dict[str, Any]]]:
        """Returns (numbers of the shards that are not done, records of those that are).

        is_whole: whether a shard, by its number and record, is complete in all else.
        """

        def whole(number: int) -> dict[str, Any] | None:
            record = self.record(files[number])
            return record if record and is_whole(number, record) else None

        records = dict(zip(files, map_in_threads(whole, files, threads=self.at_once), strict=True))
        done = {number: record for number, record in records.items() if record}
        return [number for number in files if number not in done], done

    def record(self, file: str) -> dict[str, Any] | None:
        """Record of a finished shard; None where it is not finished or its file has changed.

        Raises OSError where a bucket does not say.
        """
        try:
            record = read_json(self.path / _record(file), SHARD | {"left_out": LEFT_OUT})
            whole = storage.size(self.path / file) == record["bytes"]
        except (OSError, InputError) as error:
            for cause in (error, error.__cause__):
                if isinstance(cause, storage.Unanswered):
                    raise cause from None
            return None
        return record if whole and record["file"] == file else None

    def write_shard(
        self,
        file: str,
        write: Callable[[Path], object],
        images: int,
        facts: dict[str, Any],
        traces: np.ndarray | None = None,
    ) -> None:
        """Writes a shard by `write`, the traces of its images, if there are any, and then its
        record, which holds the facts too.
        """
        with self._written(file, write) as beside:
            digest, size = file_sha256(beside), beside.stat().st_size
        if traces is not None:
            self._write_traces(file, traces)
        record = {"file": file, "images": images, "bytes": size, "sha256": digest}
        self.write_json(_record(file), record | facts)

    def write_manifest(self, content: dict[str, Any], records: Sequence[dict[str, Any]]) -> None:
        """The content and a list of all shards, in order."""
        columns = ("file", "images", "bytes", "sha256")
        shards = [{name: record[name] for name in columns} for record in records]
        self.write_json(MANIFEST, content | {"shards": shards})

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Writes a file of the folder, by its path in it; with a checksum, see `run_files`."""
        text = json.dumps(checksummed(content), indent=1, ensure_ascii=False, allow_nan=False)
        self.write_file(name, lambda path: path.write_text(text + "\n", encoding="utf-8"))

    def write_file(self, name: str, write: Callable[[Path], object]) -> None:
        """Writes a file of the folder, by its path in it. write: called with a temporary path."""
        with self._written(name, write):
            pass

    @contextlib.contextmanager
    def _written(self, name: str, write: Callable[[Path], object]) -> Iterator[Path]:
        """Yields the path of the file as written, which is renamed at the end of the block."""
        path = self.path / name
        beside = path.with_name(f".{path.name}.{self.process}.partial")
        with whole_files.written(path, beside, durable=True, advice=_GOES_ON) as draft:
            draft.parent.mkdir(exist_ok=True)
            write(draft)
            yield draft


def _devices(count: int) -> str:
    return f"{count} device{'s' if count > 1 else ''}"


def plan_of(identity: dict[str, Any]) -> ShardPlan:
    """Returns the shards and batches of a run, by its folder's description."""
    return ShardPlan(*(identity[name] for name in ShardPlan._fields))


def _record(file: str) -> str:
    return f"{_RECORDS}/{file}.json"


def _traces(file: str) -> str:
    return f"{_RECORDS}/{file}.traces.npy"
