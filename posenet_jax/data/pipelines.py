"""Grain pipelines: batches from a source, shuffled, repeatable, resumable, shared by processes.

B images or pairs a batch. Files are read and decoded in threads, ahead of what is asked for, so
that a device has its next batch when it is done with the last; `DeviceWait` measures whether.

    batches = pipelines.Batches(FolderImages(PHOTOS), pipelines.images(space), config)
    for batch in batches: ...
    state = batches.state()  # plain values; in another process: batches.restore(state)
"""

import concurrent.futures
import dataclasses
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Self

import grain
import jax
import numpy as np

from posenet_jax.data.sources import NamedImage
from posenet_jax.data.street_view_pairs import PairArrays
from posenet_jax.errors import ImageError, InputError
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.threads import cores

Item = Any
Batch = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """How a source becomes batches.

    batch_size: of this process.
    seed: of the shuffling, a new order each epoch; None: in the source's order.
    epochs: times through the source; None: without end.
    process_index, process_count: of an epoch's order this process has every `process_count`-th
        item, so that the processes' shares are disjoint and together complete.
    drop_remainder: leave out a last batch that is not full.
    threads: that read and decode; 0: one a core, 16 at most.
    ahead: batches that may lie ready.
    """

    batch_size: int
    seed: int | None = 0
    epochs: int | None = None
    process_index: int = 0
    process_count: int = 1
    drop_remainder: bool = True
    threads: int = 0
    ahead: int = 2

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more, not {self.batch_size!r}")
        if not 0 <= self.process_index < self.process_count:
            share = f"{self.process_index!r} of {self.process_count!r}"
            raise ValueError(f"process_index must lie below process_count, not {share}")


class Batches:
    """An iterator over batches: the items that `transform` makes, stacked leaf by leaf.

    An item whose image cannot be used is left out and the next one takes its place; `report` is
    told, once an epoch, from the thread that read it. InputError is raised, by the iteration, once
    as many items in a row have failed as the source has.
    """

    def __init__(
        self,
        source: Any,
        transform: Callable[[Item], Any],
        config: PipelineConfig,
        *,
        report: Callable[[ImageError], None] | None = None,
    ) -> None:
        """`source`: see `sources`; anything with a length and items by position will do."""
        if not len(source):
            raise InputError("a source without items has no batches")
        self._config = config
        self._identity = _identity(source, config)
        reader = _Reader(source, transform, report)
        positions = grain.MapDataset.range(len(source))
        if config.seed is not None:
            positions = positions.shuffle(_mixed(config.seed))
        # The shares are cut from a common order, and each epoch orders anew.
        share = positions[config.process_index :: config.process_count].repeat(config.epochs)
        ahead = config.ahead * config.batch_size
        threads = min(config.threads or min(16, cores()), max(ahead, 1))
        read = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
        self._iterator = iter(
            share.map(reader)
            .to_iter_dataset(read)
            .batch(config.batch_size, drop_remainder=config.drop_remainder)
        )

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        return next(self._iterator)

    def state(self) -> dict[str, Any]:
        """Plain values, for JSON: restored, the iteration goes on after the last batch given."""
        return {"pipeline": self._identity, "iterator": self._iterator.get_state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state` was taken.

        Raises InputError if that was of another source, seed, batch size or share, or is damaged.
        Files of other contents under the same names and sizes are the same source here: see
        `traces.source_facts`.
        """
        taken = state.get("pipeline") if isinstance(state, Mapping) else None
        if not isinstance(taken, Mapping) or "iterator" not in state:
            raise InputError("this is no state of a pipeline")
        for name, value in self._identity.items():
            if taken.get(name) != value:
                raise InputError(
                    f"the pipeline's state was taken with {name} {taken.get(name)!r}, not {value!r}"
                )
        try:
            self._iterator.set_state(state["iterator"])
        except Exception as error:  # what Grain raises on another state than its own is anything
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputError(f"the pipeline's state cannot be restored ({reason})") from error


def images(preprocessing: Preprocessing) -> Callable[[NamedImage], dict[str, np.ndarray]]:
    """Transform of `FolderImages`, `DatasetImages`: {"image": uint8 RGB [size, size, 3]}."""

    def transform(item: NamedImage) -> dict[str, np.ndarray]:
        return {"image": preprocessing.resize(item.image)}

    return transform


def rendered_pairs(preprocessing: Preprocessing) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Transform of `DatasetExamples` of rendered scenes: the fields of `PairArrays`, and more.

    weight: float32 [], 0 where something stands between a camera and the target, else 1.
    """

    def transform(example: dict[str, Any]) -> dict[str, Any]:
        views = [preprocessing.resize(view) for view in example["image"]]
        pair = PairArrays(
            np.stack(views), example["rotation"], example["centre"], example["camera_normal"][0]
        )
        return pair._asdict() | {"weight": np.float32(np.all(example["visible"]))}

    return transform


class DeviceWait:
    """Measures for which share of the time a device has nothing to do.

    Call the steps through it: `result = wait(step, batch)`. From the moment at which the last
    result was complete to the next call the device waits; how long the host waits while the device
    is busy does not count. The first call starts the clock, the last result stops it.
    """

    def __init__(self) -> None:
        self._watcher = concurrent.futures.ThreadPoolExecutor(1)
        self._done: concurrent.futures.Future[float] | None = None
        self._start = 0.0
        self._idle = 0.0

    def __call__(self, step: Callable[..., Any], *arguments: Any) -> Any:
        now = time.perf_counter()
        if self._done is None:
            self._start = now
        elif self._done.done():
            self._idle += max(0.0, now - self._done.result())
        result = step(*arguments)
        self._done = self._watcher.submit(_when_ready, result)
        return result

    @property
    def share(self) -> float:
        """Fraction of the time up to the last result, which is waited for; 0 at first."""
        if self._done is None:
            return 0.0
        return self._idle / max(self._done.result() - self._start, 1e-9)

    def close(self) -> None:
        """Ends the thread that watches."""
        self._watcher.shutdown()


def _when_ready(result: Any) -> float:
    jax.block_until_ready(result)
    return time.perf_counter()


class _Reader:
    """position → transformed item; None, which Grain leaves out, where it cannot be used."""

    def __init__(self, source: Any, transform: Callable[[Item], Any], report: Any) -> None:
        self._source = source
        self._transform = transform
        self._report = report
        self._lock = threading.Lock()
        self._failed_in_a_row = 0

    def __call__(self, position: int) -> Any:
        try:
            item = self._transform(self._source[position])
        except ImageError as error:
            self._failed(error)
            return None
        self._failed_in_a_row = 0
        return item

    def _failed(self, error: ImageError) -> None:
        with self._lock:
            self._failed_in_a_row += 1
            failed = self._failed_in_a_row
        if failed > len(self._source):
            raise InputError(f"no image left to be read; the last failure: {error}") from error
        if self._report:
            self._report(error)


def _mixed(seed: int) -> int:
    """A seed whose successors are no other seed's: Grain adds the epoch's number to it."""
    return int(np.random.SeedSequence(seed).generate_state(1)[0])


def _identity(source: Any, config: PipelineConfig) -> dict[str, Any]:
    """Facts that a state is only good for."""
    return {
        "source": getattr(source, "fingerprint", None),
        "items": len(source),
        "seed": config.seed,
        "epochs": config.epochs,
        "batch_size": config.batch_size,
        "process_index": config.process_index,
        "process_count": config.process_count,
    }
