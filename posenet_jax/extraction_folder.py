"""The folder of an extraction: what makes it resumable, whenever its processes are killed.

extraction.json says of what it is, from the start; records/ says which shards are done, each by a
file written after its shard; manifest.json names all shards, at the end. Every file is written
beside its place and renamed. Each process has names of its own for what is unfinished, and a lock.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posenet_jax import descriptor_shards
from posenet_jax.descriptor_shards import MANIFEST, Shard
from posenet_jax.errors import InputError
from posenet_jax.image_files import shown

Failure = dict[str, str]
"""Of an image left out: its `name` and, a sentence, the `reason`."""

_IDENTITY = "extraction.json"
_RECORDS = "records"
_FREE = ("batch_size", "shard_size")


@dataclasses.dataclass(frozen=True)
class ExtractionFolder:
    """One process's view of the folder. `process`: its name among those that share it."""

    path: Path
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
                problem = f"another run is extracting this share into {shown(self.path)}"
                raise InputError(problem) from error
            for leftover in self.path.rglob(f".*.{self.process}.partial"):
                leftover.unlink()
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)

    def agreed(self, wanted: dict[str, Any], default_sizes: dict[str, int]) -> dict[str, Any]:
        """What is extracted here: what the folder says, else what is wanted, written down.

        Sizes that are 0 are those of the folder, else the default ones. Raises InputError, naming
        the first difference, where another extraction is there.
        """
        path = self.path / _IDENTITY
        try:
            found = json.loads(path.read_bytes())
        except FileNotFoundError:
            found = wanted | {name: wanted[name] or default_sizes[name] for name in _FREE}
            self._write_json(path, found)
        except (OSError, ValueError) as error:
            problem = f"{shown(path)} cannot be read ({error}); choose another folder"
            raise InputError(problem) from error
        for name, value in wanted.items():
            free = name in _FREE and not value
            if not free and found.get(name) != value:
                raise InputError(
                    f"{shown(self.path)} holds an extraction with {name} {found.get(name)!r}, not"
                    f" {value!r}; choose another folder"
                )
        return found

    def record(self, file: str) -> dict[str, Any] | None:
        """Of a shard that is done, else None; None too where its file is not what was written."""
        try:
            record = json.loads(self._record_path(file).read_bytes())
            whole = (self.path / file).stat().st_size == record["bytes"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return record if whole else None

    def write_shard(self, file: str, shard: Shard, file_format: str, facts: dict[str, Any]) -> None:
        """Puts a shard in its place and then its record, which holds the facts too."""
        if not np.isfinite(shard.descriptors).all():
            dtype = shard.descriptors.dtype
            raise InputError(f"{file}: descriptors that are not finite in {dtype}; not written")
        beside = self._beside(self.path / file)
        descriptor_shards.write_shard(beside, shard, file_format)
        with open(beside, "rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        record = {
            "file": file,
            "images": len(shard.names),
            "bytes": beside.stat().st_size,
            "sha256": digest,
        }
        _put(beside, self.path / file)
        self._write_json(self._record_path(file), record | facts)

    def write_manifest(self, identity: dict[str, Any], records: Sequence[dict[str, Any]]) -> None:
        """Sums up the records of all shards, in order."""
        pixels = sum(record["pixels"] for record in records)
        sums = [sum(record["channel_sums"][c] for record in records) for c in range(3)]
        lengths = [record["images"] for record in records]
        if identity["format"] == "array_record":
            sizes = [record["bytes"] for record in records]
            descriptor_shards.write_tfds_metadata(
                self.path, lengths, sizes, identity["shape"], identity["dtype"]
            )
        columns = ("file", "images", "bytes", "sha256")
        manifest = identity | {
            "extracted": sum(lengths),
            "channel_means": [total / pixels for total in sums],
            "left_out": list(itertools.chain(*(record["left_out"] for record in records))),
            "shards": [{name: record[name] for name in columns} for record in records],
        }
        self._write_json(self.path / MANIFEST, manifest)

    def _record_path(self, file: str) -> Path:
        return self.path / _RECORDS / f"{file}.json"

    def _beside(self, path: Path) -> Path:
        return path.with_name(f".{path.name}.{self.process}.partial")

    def _write_json(self, path: Path, record: dict[str, Any]) -> None:
        beside = self._beside(path)
        text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
        beside.write_text(text + "\n", encoding="utf-8")
        _put(beside, path)


def _put(beside: Path, path: Path) -> None:
    """Renames a file once it is on the disk: else, after a power cut, the name may be all of it."""
    with open(beside, "rb") as file:
        os.fsync(file.fileno())
    os.replace(beside, path)
