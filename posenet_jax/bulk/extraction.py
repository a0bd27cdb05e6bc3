"""Descriptors of any number of images, streamed to disk in shards.

Images are taken in the order of their source and cut into shards, shards into batches of one shape;
a shard depends on its own images alone. It is written under another name and renamed, then its
record in records/ says that it is done: a run killed at any moment and resumed by the same command
leaves the bytes that an undisturbed one would have. manifest.json comes last, when all are done.

Shards are dealt out to processes in turn; they have the folder in common and nothing else.
"""

import collections
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posenet_jax.bulk import extraction_shards
from posenet_jax.data.pipelines import DeviceWait
from posenet_jax.data.sources import ImageSource
from posenet_jax.data.traces import TracedSource
from posenet_jax.encoders.encoder import Encoder, Tap
from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.io import storage
from posenet_jax.shards.batches import LoadedBatch, load_batches
from posenet_jax.shards.descriptor_shards import (
    DTYPES,
    FORMATS,
    Shard,
    read_descriptors,
)
from posenet_jax.shards.folder import ShardFolder, plan_of
from posenet_jax.shards.plan import Failure, ShardPlan

__all__ = ["ExtractionConfig", "Summary", "encode", "extract", "read_descriptors"]

Array = jax.Array

_SHARD_BYTES = 8 * 2**20
_LARGEST_SHARD = 4096
# Results not fetched yet: one being computed, one waiting for it.
_IN_FLIGHT = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtractionConfig:
    """Settings of an extraction.

    batch_size: images together, a multiple of the devices; 0: 16 for each on a CPU, else 256, or
        that of the run that is resumed.
    shard_size: images a file, a multiple of batch_size; 0: for about 8 MiB, 4096 at most.
    threads: that read and decode; 0: one a core, 16 at most.
    ahead: batches ready or being read, beyond one a thread.
    process_index, process_count: this process has every `process_count`-th shard.
    """

    file_format: str = "array_record"
    dtype: str = "float32"
    batch_size: int = 0
    shard_size: int = 0
    threads: int = 0
    ahead: int = 2
    process_index: int = 0
    process_count: int = 1

    def __post_init__(self) -> None:
        for name, allowed in (("file_format", FORMATS), ("dtype", DTYPES)):
            if getattr(self, name) not in allowed:
                choice = ", ".join(allowed)
                raise InputError(f"{name} must be one of {choice}, not {getattr(self, name)!r}")
        if not 0 <= self.process_index < self.process_count:
            received = f"{self.process_index} of {self.process_count}"
            raise InputError(f"process_index must lie below process_count, not {received}")


class Summary(NamedTuple):
    """State of the folder."""

    images: int
    extracted: int  # by every process so far
    left_out: int  # likewise
    finished: bool  # whether every process has finished its shards
    new: int  # images that this run went through
    wait_share: float  # fraction of this run's time in which its devices had nothing to do


def extract(
    encoder: Encoder,
    layer: str,
    source: ImageSource,
    folder: str | Path,
    config: ExtractionConfig,
    *,
    mesh: Mesh | None = None,
    progress: Callable[[int], None] | None = None,
    report: Callable[[str], None] | None = None,
) -> Summary:
    """Writes this process's shards of descriptors, except those that are there already.

    `mesh`: of this process's devices. `progress` is told of images done, those of earlier runs
    first; `report` of each image left out, earlier runs' too. Raises InputError where the folder
    holds another extraction, where another run writes the same shards, and, at the end, where not
    one image could be read.
    """
    mesh = mesh or Mesh(np.asarray(jax.local_devices()), ("images",))
    tap = encoder.tap(layer)
    process = f"{config.process_index}-of-{config.process_count}"
    shards = ShardFolder(storage.path(folder).expanduser(), "extraction", process)
    with shards.locked():
        wanted = _identity(encoder, tap, source, config)
        identity, plan = shards.agreed(wanted, _default_sizes(wanted, mesh.size), mesh)
        own = range(config.process_index, plan.shards, config.process_count)
        pending, done = extraction_shards.pending(shards, identity, plan, own)
        traced = TracedSource(source)
        for record in shards.checked(traced, plan, done):
            _tell(record["left_out"], report)
            _count(progress, record["images"] + len(record["left_out"]))
        if pending:
            shards.reopened()
        write = functools.partial(extraction_shards.write, shards, identity, plan, traced)
        wait = _extract_shards(tap, traced, plan, pending, write, config, mesh, progress, report)
        new = sum(len(batch) for shard in pending for batch in plan.batches(shard))
        return _finish(shards, identity, plan, new, wait)


def check_images(folder: str | Path, source: ImageSource) -> None:
    """Raises InputError, naming the first, for images that changed since they were extracted.

    A source with other names or sizes than were extracted, and an extraction by a version that
    wrote no traces, cannot be checked and pass.
    """
    shards = ShardFolder(storage.path(folder).expanduser(), "extraction", "reader")
    identity = shards.identity()
    if identity is None or identity["source"] != source.fingerprint:
        return
    traced, plan = TracedSource(source), plan_of(identity)
    for shard in range(plan.shards):
        file = extraction_shards.file_name(identity, plan, shard)
        shards.check_images(traced, plan.positions(shard), file)


def encode(tap: Tap, images: np.ndarray, mesh: Mesh, dtype: str = "float32") -> tuple[Array, Array]:
    """([B, ...] descriptors, [B, C] sums over pixels of each channel) of uint8 [B, H, W, C].

    One program for each shape; B is split over the mesh's devices, which exchange nothing.
    """
    images = jax.device_put(images, NamedSharding(mesh, PartitionSpec(mesh.axis_names)))
    return _encode(tap, images, mesh, dtype)


@functools.partial(jax.jit, static_argnames=("mesh", "dtype"))
def _encode(tap: Tap, images: Array, mesh: Mesh, dtype: str) -> tuple[Array, Array]:
    def local(tap: Tap, images: Array) -> tuple[Array, Array]:
        # Below 4,104 pixels a side a sum fits: exact, which a mean in float32 would not be.
        sums = jnp.sum(images, axis=(1, 2), dtype=jnp.uint32)
        return tap(tap.preprocessing.to_network(images)).astype(dtype), sums

    split = PartitionSpec(mesh.axis_names)
    mapped = jax.shard_map(
        local, mesh=mesh, in_specs=(PartitionSpec(), split), out_specs=split, check_vma=False
    )
    return mapped(tap, images)


def _extract_shards(
    tap: Tap,
    source: ImageSource,
    plan: ShardPlan,
    pending: Sequence[int],
    write: Callable[[int, Shard, dict[str, Any]], None],
    config: ExtractionConfig,
    mesh: Mesh,
    progress: Callable[[int], None] | None,
    report: Callable[[str], None] | None,
) -> float:
    """Extracts the pending shards; returns the fraction of time in which the devices waited."""
    tap = jax.device_put(tap.prepared(), NamedSharding(mesh, PartitionSpec()))
    run = functools.partial(encode, tap, mesh=mesh, dtype=config.dtype)
    wait = DeviceWait()
    done = _Accumulator()
    in_flight: collections.deque[tuple[LoadedBatch, tuple[Array, Array]]] = collections.deque()

    def fetch() -> None:
        loaded, results = in_flight.popleft()
        done.add(loaded, *(np.asarray(result) for result in results))
        _tell(loaded.failures, report)
        if loaded.last:
            write(loaded.shard, *done.take(tap.preprocessing))
        _count(progress, len(loaded.positions))

    loading = load_batches(
        source,
        tap.preprocessing,
        plan,
        pending,
        threads=config.threads,
        ahead=config.ahead,
    )
    with contextlib.closing(wait), contextlib.closing(loading) as batches:
        for loaded in batches:
            in_flight.append((loaded, wait(run, loaded.images)))
            if len(in_flight) > _IN_FLIGHT:
                fetch()
        while in_flight:
            fetch()
        return wait.share


class _Accumulator:
    """Batches of a shard, until it is complete."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._names: list[str] = []
        self._parts: list[np.ndarray] = []
        self._failures: list[Failure] = []
        self._sums: list[int] | None = None

    def add(self, loaded: LoadedBatch, descriptors: np.ndarray, sums: np.ndarray) -> None:
        self._names += loaded.names
        self._parts.append(descriptors[loaded.good])
        self._failures += loaded.failures
        batch = sums[loaded.good].sum(axis=0, dtype=np.uint64).tolist()
        before = self._sums or [0] * len(batch)
        self._sums = [a + b for a, b in zip(before, batch, strict=True)]

    def take(self, space: Preprocessing) -> tuple[Shard, dict[str, Any]]:
        """Returns the shard and its record's facts, of images of that space."""
        shard = Shard(self._names, np.concatenate(self._parts))
        sums = self._sums or [0] * space.channels
        facts = {
            "pixels": len(shard.names) * space.height * space.width,
            "channel_sums": sums[::-1] if space.channels == 3 else sums,  # blue, green, red
            "left_out": self._failures,
        }
        self._reset()
        return shard, facts


def _finish(
    folder: ShardFolder, identity: dict[str, Any], plan: ShardPlan, new: int, wait_share: float
) -> Summary:
    """Writes the manifest where all shards are done, and returns the state of the folder."""
    pending, done = extraction_shards.pending(folder, identity, plan, range(plan.shards))
    records = list(done.values())
    extracted = sum(record["images"] for record in records)
    left_out = sum(len(record["left_out"]) for record in records)
    if not pending and not extracted:
        raise InputError(f"none of the {plan.images} images could be read")
    if not pending:
        extraction_shards.write_manifest(folder, identity, records)
    return Summary(plan.images, extracted, left_out, not pending, new, wait_share)


def _identity(
    encoder: Encoder, tap: Tap, source: ImageSource, config: ExtractionConfig
) -> dict[str, Any]:
    """Returns the facts that are equal in all runs into one folder; sizes not chosen are 0."""
    image = jax.ShapeDtypeStruct(tap.preprocessing.shape, jnp.float32)
    return {
        "layer": tap.layer,
        "encoder": encoder.name,
        "weights": encoder.fingerprint,
        "preprocessing": tap.preprocessing.to_json(),
        "source": source.fingerprint,
        "facades": getattr(source, "facades", None),
        "images": len(source),
        "shape": list(jax.eval_shape(tap.__call__, image).shape),
        "dtype": config.dtype,
        "format": config.file_format,
        "batch_size": config.batch_size,
        "shard_size": config.shard_size,
    }


def default_batch(devices: int) -> int:
    """Returns the default batch size: on a CPU as many images as its caches hold."""
    return devices * (16 if jax.default_backend() == "cpu" else 256)


def _default_sizes(identity: dict[str, Any], devices: int) -> dict[str, int]:
    batch = identity["batch_size"] or default_batch(devices)
    row_bytes = int(np.prod(identity["shape"])) * np.dtype(identity["dtype"]).itemsize
    fitting = min(_LARGEST_SHARD, _SHARD_BYTES // row_bytes) // batch * batch
    return {"batch_size": batch, "shard_size": max(batch, fitting)}


def _tell(failures: Sequence[Failure], report: Callable[[str], None] | None) -> None:
    if report:
        for failure in failures:
            report(failure["reason"])


def _count(progress: Callable[[int], None] | None, images: int) -> None:
    if progress:
        progress(images)
