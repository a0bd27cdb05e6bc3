"""Descriptors of any number of images, streamed to disk in shards.

Images are taken in the order of their source and cut into shards, shards into batches of one shape;
a shard depends on its own images alone. It is written beside its place and renamed, then its record
in records/ says that it is done: a run killed at any moment and begun again with the same command
leaves the bytes that an undisturbed one would have. manifest.json comes last, when all are done.

Shards are dealt out to processes in turn; processes share the folder and nothing else.
"""

import collections
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grain
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posenet_jax.data.pipelines import DeviceWait
from posenet_jax.data.sources import ImageSource
from posenet_jax.data.threads import cores
from posenet_jax.descriptor_shards import DTYPES, FORMATS, Shard, read_descriptors, shard_file
from posenet_jax.errors import ImageError, InputError
from posenet_jax.extraction_folder import ExtractionFolder, Failure
from posenet_jax.weights import Encoder, Tap

__all__ = ["ExtractionConfig", "Summary", "encode", "extract", "read_descriptors"]

Array = jax.Array

_SHARD_BYTES = 8 * 2**20
_LARGEST_SHARD = 4096
# Results that the device may owe: one being computed, one waiting for it.
_IN_FLIGHT = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtractionConfig:
    """How to extract.

    batch_size: images together, a multiple of the devices; 0: 32 for each on a CPU, else 256, or
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
            share = f"{self.process_index} of {self.process_count}"
            raise InputError(f"process_index must lie below process_count, not {share}")


class Summary(NamedTuple):
    """What stands in the folder."""

    images: int
    extracted: int  # by every process so far
    left_out: int  # likewise
    finished: bool  # all processes have done their shares
    new: int  # images that this run went through
    wait_share: float  # of this run's time, in which its devices had nothing to do


class _Plan(NamedTuple):
    """Which images go together."""

    images: int
    batch_size: int
    shard_size: int
    file_format: str

    @property
    def shards(self) -> int:
        return -(-self.images // self.shard_size)

    def file(self, shard: int) -> str:
        return shard_file(shard, self.shards, self.file_format)

    def batches(self, shard: int) -> list[range]:
        """The positions of a shard's batches; only the last of all may be short."""
        stop = min((shard + 1) * self.shard_size, self.images)
        starts = range(shard * self.shard_size, stop, self.batch_size)
        return [range(start, min(start + self.batch_size, stop)) for start in starts]


class _Loaded(NamedTuple):
    """A batch of images as they came."""

    shard: int
    last: bool  # of its shard
    positions: range  # of its images
    images: np.ndarray  # [B, size, size, 3] uint8; zero where there is none
    good: np.ndarray  # [B] bool
    names: list[str]  # of the good ones
    failures: list[Failure]


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
    """Writes the descriptors of this process's share, but for the shards that are there already.

    `mesh`: of this process's devices. `progress` is told of images done, those of earlier runs
    first; `report` of each image left out, earlier runs' too. Raises InputError where the folder
    holds another extraction, where another run is at work on the same share, and, at the end, where
    not one image could be read.
    """
    mesh = mesh or Mesh(np.asarray(jax.local_devices()), ("images",))
    tap = encoder.tap(layer)
    share = f"{config.process_index}-of-{config.process_count}"
    shards = ExtractionFolder(Path(folder).expanduser(), share)
    with shards.locked():
        wanted = _identity(encoder, tap, source, config)
        defaults = _default_sizes(wanted, mesh.size)
        # Before anything is written, and again, as sizes not chosen are those of the folder.
        _checked_plan(defaults | {name: size for name, size in wanted.items() if size}, mesh.size)
        identity = shards.agreed(wanted, defaults)
        plan = _checked_plan(identity, mesh.size)
        pending = []
        for shard in range(config.process_index, plan.shards, config.process_count):
            record = shards.record(plan.file(shard))
            if record is None:
                pending.append(shard)
            else:
                _tell(record["left_out"], report)
                _count(progress, record["images"] + len(record["left_out"]))
        wait = _extract_shards(tap, source, plan, pending, shards, config, mesh, progress, report)
        new = sum(len(batch) for shard in pending for batch in plan.batches(shard))
        return _finish(shards, identity, plan, new, wait)


def encode(tap: Tap, images: np.ndarray, mesh: Mesh, dtype: str = "float32") -> tuple[Array, Array]:
    """([B, ...] descriptors, [B, 3] sums of the pixels' red, green, blue) of uint8 [B, H, W, 3].

    One program for each shape; B is split over the mesh's devices, which exchange nothing.
    """
    images = jax.device_put(images, NamedSharding(mesh, PartitionSpec(mesh.axis_names)))
    return _encode(tap, images, mesh, dtype)


@functools.partial(jax.jit, static_argnames=("mesh", "dtype"))
def _encode(tap: Tap, images: Array, mesh: Mesh, dtype: str) -> tuple[Array, Array]:
    def local(tap: Tap, images: Array) -> tuple[Array, Array]:
        # Below 4,104 pixels a side a sum fits: exact, which a mean in float32 would not be.
        sums = jnp.sum(images.astype(jnp.uint32), axis=(1, 2))
        return tap(tap.preprocessing.to_network(images)).astype(dtype), sums

    split = PartitionSpec(mesh.axis_names)
    mapped = jax.shard_map(
        local, mesh=mesh, in_specs=(PartitionSpec(), split), out_specs=split, check_vma=False
    )
    return mapped(tap, images)


def _extract_shards(
    tap: Tap,
    source: ImageSource,
    plan: _Plan,
    pending: Sequence[int],
    folder: ExtractionFolder,
    config: ExtractionConfig,
    mesh: Mesh,
    progress: Callable[[int], None] | None,
    report: Callable[[str], None] | None,
) -> float:
    """Goes through the pending shards; the share of time in which the devices waited."""
    tap = jax.device_put(tap, NamedSharding(mesh, PartitionSpec()))
    run = functools.partial(encode, tap, mesh=mesh, dtype=config.dtype)
    wait = DeviceWait()
    done = _Accumulator()
    owed: collections.deque[tuple[_Loaded, tuple[Array, Array]]] = collections.deque()

    def settle() -> None:
        loaded, results = owed.popleft()
        done.add(loaded, *(np.asarray(result) for result in results))
        _tell(loaded.failures, report)
        if loaded.last:
            shard, facts = done.take(tap.preprocessing.size)
            folder.write_shard(plan.file(loaded.shard), shard, plan.file_format, facts)
        _count(progress, len(loaded.positions))

    with (
        contextlib.closing(wait),
        contextlib.closing(_batches(source, tap, plan, pending, config)) as batches,
    ):
        for loaded in batches:
            owed.append((loaded, wait(run, loaded.images)))
            if len(owed) > _IN_FLIGHT:
                settle()
        while owed:
            settle()
        return wait.share


def _batches(
    source: ImageSource, tap: Tap, plan: _Plan, pending: Sequence[int], config: ExtractionConfig
) -> Generator[_Loaded, None, None]:
    """The batches of the pending shards in order, read in threads, so many ahead and no more."""
    parts = _Parts(plan, pending)
    if not len(parts):
        return
    load = functools.partial(_load, source, tap.preprocessing, plan.batch_size)
    threads = config.threads or min(16, cores())
    read = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + config.ahead)
    iterator = iter(grain.MapDataset.source(parts).map(load).to_iter_dataset(read))
    try:
        yield from iterator
    finally:
        iterator.close()


class _Parts:
    """The batches to be read, as (shard, whether its last, positions), counted and not listed."""

    def __init__(self, plan: _Plan, pending: Sequence[int]) -> None:
        self._plan = plan
        self._pending = pending
        self._per_shard = plan.shard_size // plan.batch_size
        last = len(plan.batches(pending[-1])) if pending else 0
        self._length = max(len(pending) - 1, 0) * self._per_shard + last

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[int, bool, range]:
        place, part = divmod(index, self._per_shard)
        batches = self._plan.batches(self._pending[place])
        return self._pending[place], part == len(batches) - 1, batches[part]


def _load(
    source: ImageSource, preprocessing: Any, batch_size: int, part: tuple[int, bool, range]
) -> _Loaded:
    shard, last, positions = part
    images = np.zeros((batch_size, preprocessing.size, preprocessing.size, 3), np.uint8)
    good = np.zeros(batch_size, bool)
    names, failures = [], []
    for row, position in enumerate(positions):
        try:
            name, image = source[position]
        except ImageError as error:
            failures.append({"name": source.name(position), "reason": str(error)})
            continue
        images[row], good[row] = preprocessing.resize(image), True
        names.append(name)
    return _Loaded(shard, last, positions, images, good, names, failures)


class _Accumulator:
    """A shard in the making."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._names: list[str] = []
        self._parts: list[np.ndarray] = []
        self._failures: list[Failure] = []
        self._sums = [0, 0, 0]

    def add(self, loaded: _Loaded, descriptors: np.ndarray, sums: np.ndarray) -> None:
        self._names += loaded.names
        self._parts.append(descriptors[loaded.good])
        self._failures += loaded.failures
        batch = sums[loaded.good].sum(axis=0, dtype=np.uint64).tolist()
        self._sums = [a + b for a, b in zip(self._sums, batch, strict=True)]

    def take(self, size: int) -> tuple[Shard, dict[str, Any]]:
        """The shard and what its record says besides; images are `size` pixels a side."""
        shard = Shard(self._names, np.concatenate(self._parts))
        facts = {
            "pixels": len(shard.names) * size * size,
            "channel_sums": self._sums[::-1],  # blue, green, red
            "left_out": self._failures,
        }
        self._reset()
        return shard, facts


def _finish(
    folder: ExtractionFolder, identity: dict[str, Any], plan: _Plan, new: int, wait_share: float
) -> Summary:
    """The manifest, by whichever process finds all shards done."""
    records = [folder.record(plan.file(shard)) for shard in range(plan.shards)]
    done = [record for record in records if record is not None]
    extracted = sum(record["images"] for record in done)
    left_out = sum(len(record["left_out"]) for record in done)
    finished = len(done) == plan.shards
    if finished and not extracted:
        raise InputError(f"none of the {plan.images} images could be read")
    if finished:
        folder.write_manifest(identity, done)
    return Summary(plan.images, extracted, left_out, finished, new, wait_share)


def _identity(
    encoder: Encoder, tap: Tap, source: ImageSource, config: ExtractionConfig
) -> dict[str, Any]:
    """What two runs into one folder must have in common; sizes not chosen are 0."""
    size = tap.preprocessing.size
    image = jax.ShapeDtypeStruct((size, size, 3), jnp.float32)
    return {
        "layer": tap.layer,
        "encoder": encoder.name,
        "weights": encoder.fingerprint,
        "preprocessing": tap.preprocessing.to_json(),
        "source": source.fingerprint,
        "images": len(source),
        "shape": list(jax.eval_shape(tap.__call__, image).shape),
        "dtype": config.dtype,
        "format": config.file_format,
        "batch_size": config.batch_size,
        "shard_size": config.shard_size,
    }


def _default_sizes(identity: dict[str, Any], devices: int) -> dict[str, int]:
    batch = identity["batch_size"] or devices * (32 if jax.default_backend() == "cpu" else 256)
    row_bytes = int(np.prod(identity["shape"])) * np.dtype(identity["dtype"]).itemsize
    fitting = min(_LARGEST_SHARD, _SHARD_BYTES // row_bytes) // batch * batch
    return {"batch_size": batch, "shard_size": max(batch, fitting)}


def _checked_plan(identity: dict[str, Any], devices: int) -> _Plan:
    plan = _Plan(*(identity[name] for name in ("images", "batch_size", "shard_size", "format")))
    if plan.batch_size % devices:
        sizes = f"{plan.batch_size} for {devices} devices"
        raise InputError(f"batch_size must be a multiple of the devices' number; it is {sizes}")
    if plan.shard_size % plan.batch_size:
        sizes = f"{plan.shard_size} for {plan.batch_size}"
        raise InputError(f"shard_size must be a multiple of batch_size; it is {sizes}")
    return plan


def _tell(failures: Sequence[Failure], report: Callable[[str], None] | None) -> None:
    if report:
        for failure in failures:
            report(failure["reason"])


def _count(progress: Callable[[int], None] | None, images: int) -> None:
    if progress:
        progress(images)
