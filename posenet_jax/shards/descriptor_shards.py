"""Files of descriptors: shards of ArrayRecord or safetensors, and a lazy view over all of them.

An extraction's folder holds `descriptors-images.array_record-00000-of-00196` and so on, or
`descriptors-00000-of-00196.safetensors`, and manifest.json, which names the shards once all of
them are there. ArrayRecord folders are TFDS data sets too, of one split, `images`:
`tfds.builder_from_directory(FOLDER).as_data_source("images")` gives names and descriptors.
N images, descriptors [N, ...] float32 or float16.
"""

import bisect
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, overload

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from safetensors import safe_open
from safetensors.numpy import save_file

from posenet_jax.errors import InputError, shown
from posenet_jax.io import storage
from posenet_jax.io.run_files import COUNT, file_sha256, read_json
from posenet_jax.shards import record_files
from posenet_jax.shards.folder import MANIFEST, SHARD

FORMATS = ("array_record", "safetensors")
DTYPES = ("float32", "float16")

_SPLIT = "images"
_DATASET = "descriptors"
_MANIFEST = {
    "format": FORMATS,
    "dtype": DTYPES,
    "shape": [range(1, 2**24)],
    "channel_means": [float],
    "layer": str,
    "weights": str,
    "extracted": COUNT,
    "shards": [SHARD],
}


class Shard(NamedTuple):
    """Descriptors that lie in one file."""

    names: list[str]
    descriptors: np.ndarray  # [n, ...]


class Descriptors(NamedTuple):
    """A finished extraction; nothing is read before it is asked for.

    names: of the images, a sequence of N.
    descriptors: like an array [N, ...]: shape, dtype, len, one index or a slice, iteration.
    channel_means: means of the images' pixels, 0-255, of all images together: blue, green and red,
        or as many as the encoder has channels.
    layer, weights: of what encoder, by its fingerprint. fingerprint: of this extraction.
    """

    names: Sequence[str]
    descriptors: "LazyRows"
    channel_means: tuple[float, ...]
    layer: str
    weights: str
    fingerprint: str


def shard_file(number: int, count: int, file_format: str) -> str:
    """A shard's file name."""
    if file_format == "safetensors":
        return f"{_DATASET}-{number:05d}-of-{count:05d}.safetensors"
    return record_files.record_file(_DATASET, _SPLIT, number, count)


def write_shard(path: Path, shard: Shard, file_format: str) -> None:
    """Writes a shard's file; the same shard gives the same bytes."""
    if file_format == "safetensors":
        # One metadata key: safetensors writes several in no fixed order.
        names = {"names": json.dumps(shard.names)}
        save_file({"descriptor": np.ascontiguousarray(shard.descriptors)}, path, names)
        return
    examples = (
        record_files.serialize({"name": name, "descriptor": descriptor.tobytes()})
        for name, descriptor in zip(shard.names, shard.descriptors, strict=True)
    )
    record_files.write_records(path, examples)


def write_tfds_metadata(
    folder: Path, shards: Sequence[Mapping[str, Any]], shape: Sequence[int], dtype: str
) -> None:
    """Writes the metadata that makes a folder of ArrayRecord shards a TFDS data set.

    shards: their records.
    """
    features, description = _features(shape, dtype), "Descriptors of images."
    record_files.write_metadata(folder, _DATASET, _SPLIT, features, shards, description)


def _channels(manifest: Mapping[str, Any]) -> int:
    """Returns the number of channels of the images; 3 where the manifest does not say."""
    record = manifest.get("preprocessing")
    means = record.get("means") if isinstance(record, Mapping) else None
    return len(means) if isinstance(means, list) else 3


def read_descriptors(folder: str | Path) -> Descriptors:
    """The names and descriptors of a finished extraction, in the order of its images.

    Raises InputError where there is none, or none that is finished.
    """
    folder = storage.path(folder).expanduser()
    path = folder / MANIFEST
    if not storage.exists(path):
        raise InputError(
            f"{shown(folder)} holds no finished extraction; if one was stopped, the same command"
            " again finishes it"
        )
    remedy = "remove it, and the same command that wrote it writes it again"
    manifest = read_json(path, _MANIFEST, remedy=remedy)
    channels = _channels(manifest)
    if len(manifest["channel_means"]) != channels:
        raise InputError(f"{shown(path)} cannot be used: not {channels} channel_means; {remedy}")
    reader = _READERS[manifest["format"]](folder, manifest)
    if manifest["extracted"] != reader.starts[-1]:
        counts = f"{manifest['extracted']} images extracted, {reader.starts[-1]} in the shards"
        raise InputError(f"{shown(path)} cannot be used: {counts}; {remedy}")
    return Descriptors(
        LazyNames(reader),
        LazyRows(reader, tuple(manifest["shape"]), np.dtype(manifest["dtype"])),
        tuple(manifest["channel_means"]),
        manifest["layer"],
        manifest["weights"],
        file_sha256(path)[:16],
    )


class Reader(Protocol):
    """One format's way to the rows."""

    starts: list[int]  # position of each shard's first image; then N

    def rows(self, shard: int, start: int, stop: int) -> Shard:
        """Rows of a shard. Raises InputError, naming the file, where it is damaged."""
        ...


class LazyNames(Sequence[str]):
    """Names of images, each read when it is asked for."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def __len__(self) -> int:
        return self._reader.starts[-1]

    @overload
    def __getitem__(self, position: int) -> str: ...
    @overload
    def __getitem__(self, position: slice) -> list[str]: ...
    def __getitem__(self, position: int | slice) -> str | list[str]:
        if isinstance(position, slice):
            return [self[i] for i in range(*position.indices(len(self)))]
        return _row(self._reader, position).names[0]

    def __iter__(self) -> Iterator[str]:
        for shard in whole_shards(self._reader):
            yield from shard.names


class LazyRows:
    """Descriptors, each read when it is asked for."""

    def __init__(self, reader: Reader, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self._reader = reader
        self.shape = (reader.starts[-1], *shape)
        self.dtype = dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, position: int | slice) -> np.ndarray:
        """[...] of one position, [n, ...] of a slice."""
        if isinstance(position, slice):
            rows = [self[i] for i in range(*position.indices(len(self)))]
            return np.array(rows, self.dtype).reshape((len(rows), *self.shape[1:]))
        return _row(self._reader, position).descriptors[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        for shard in whole_shards(self._reader):
            yield from shard.descriptors

    def shards(self) -> Iterator[Shard]:
        """The files one by one, names with descriptors: the fast way through all of it."""
        return whole_shards(self._reader)


def whole_shards(reader: Reader) -> Iterator[Shard]:
    """All shards that hold anything, in order."""
    for number in range(len(reader.starts) - 1):
        if count := reader.starts[number + 1] - reader.starts[number]:
            yield reader.rows(number, 0, count)


class _ShardReader:
    """Base of both formats: a shard is compared with the manifest before it is read."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        """Raises InputError for a shard that is not there or not of the size it had."""
        self._shards = manifest["shards"]
        self._files = [folder / shard["file"] for shard in self._shards]
        self._row = tuple(manifest["shape"]), np.dtype(manifest["dtype"])
        self._compared: set[int] = set()
        self.starts = [0, *itertools.accumulate(shard["images"] for shard in self._shards)]
        for shard, file in zip(self._shards, self._files, strict=True):
            size = _size(file)
            if size != shard["bytes"]:
                raise _damaged(file, f"{size} bytes, written with {shard['bytes']}")
            if shard["images"] > size:
                raise _damaged(file, f"{shard['images']} images in {size} bytes")

    def rows(self, shard: int, start: int, stop: int) -> Shard:
        file = self._files[shard]
        try:
            # Digits of a float that are damaged are another float. Once is enough: it reads all.
            if shard not in self._compared and file_sha256(file) != self._shards[shard]["sha256"]:
                raise _damaged(file, "another content than was written")
            self._compared.add(shard)
            names, descriptors = self._read(shard, start, stop)
            if not all(isinstance(name, str) for name in names) or len(names) != stop - start:
                raise _damaged(file, "not a name for each image")
            if (descriptors.shape, descriptors.dtype) != (
                (len(names), *self._row[0]),
                self._row[1],
            ):
                raise _damaged(file, f"descriptors {descriptors.dtype} {list(descriptors.shape)}")
        except InputError:
            raise
        except Exception as error:  # the formats' libraries raise errors of no common kind
            raise _damaged(file, error) from error
        return Shard(names, descriptors)

    def _read(self, shard: int, start: int, stop: int) -> Shard:
        raise NotImplementedError


class _ArrayRecordReader(_ShardReader):
    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        super().__init__(folder, manifest)
        self._features = _features(manifest["shape"], manifest["dtype"])
        self._open: tuple[int, Any] = (-1, None)

    def _read(self, shard: int, start: int, stop: int) -> Shard:
        records = self._reader(shard).read(start, stop)
        examples = [self._features.deserialize_example_np(record) for record in records]
        names = [example["name"].decode() for example in examples]
        return Shard(names, np.stack([example["descriptor"] for example in examples]))

    def _reader(self, number: int) -> Any:
        """One file open at a time, however many there are."""
        at, reader = self._open
        if at != number:
            with storage.local_copy(self._files[number]) as copy:  # which it holds open
                path = os.fspath(copy)
                reader = array_record_module.ArrayRecordReader(path, "readahead_buffer_size:0")
            self._open = number, reader
        return reader


class _SafetensorsReader(_ShardReader):
    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        super().__init__(folder, manifest)
        self._open: tuple[int, Any, list[str]] = (-1, None, [])

    def _read(self, shard: int, start: int, stop: int) -> Shard:
        tensors, names = self._reader(shard)
        return Shard(names[start:stop], tensors.get_slice("descriptor")[start:stop])

    def _reader(self, number: int) -> tuple[Any, list[str]]:
        at, tensors, names = self._open
        if at != number:
            with storage.local_copy(self._files[number]) as copy:  # which it holds open
                tensors = safe_open(copy, framework="numpy")
            names = json.loads(tensors.metadata()["names"])
            self._open = number, tensors, names
        return tensors, names


_READERS: dict[str, Any] = {"array_record": _ArrayRecordReader, "safetensors": _SafetensorsReader}


def _features(shape: Sequence[int], dtype: str) -> Any:
    # As bytes: TFDS stores numbers as lists of float32 otherwise, whatever they are.
    descriptor = tfds.features.Tensor(
        shape=tuple(shape), dtype=np.dtype(dtype).type, encoding="bytes"
    )
    return tfds.features.FeaturesDict({"name": tfds.features.Text(), "descriptor": descriptor})


def _size(file: Path) -> int:
    """In bytes; 0 for what is no file."""
    return storage.size(file) if storage.is_file(file) else 0


def _row(reader: Reader, position: int) -> Shard:
    """The one at a position, as a shard of one."""
    count = reader.starts[-1]
    index = position + count if position < 0 else position
    if not 0 <= index < count:
        raise IndexError(f"position {position} of {count} descriptors")
    shard = bisect.bisect_right(reader.starts, index) - 1
    row = index - reader.starts[shard]
    return reader.rows(shard, row, row + 1)


def _damaged(path: Path, error: object) -> InputError:
    reason = " ".join(str(error).split())[:200]
    return InputError(f"{shown(path)}: not a readable shard ({reason}); remove it and extract anew")
