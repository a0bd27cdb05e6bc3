"""Images of a source cut into shards and batches, read in threads while the devices work."""

import functools
from collections.abc import Generator, Sequence
from typing import NamedTuple

import grain
import numpy as np

from posenet_jax.data.sources import ImageSource
from posenet_jax.errors import ImageError
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.shards.plan import Failure, ShardPlan
from posenet_jax.threads import cores


class LoadedBatch(NamedTuple):
    """A batch of images, and which of its rows could be read."""

    shard: int
    last: bool  # whether it is the last of its shard
    positions: range  # numbers of its images in the source
    images: np.ndarray  # [B, height, width, C] uint8; zero where there is none
    good: np.ndarray  # [B] bool
    names: list[str]  # names of the images that could be read
    failures: list[Failure]


def load_batches(
    source: ImageSource,
    preprocessing: Preprocessing,
    plan: ShardPlan,
    pending: Sequence[int],
    *,
    threads: int = 0,
    ahead: int = 2,
) -> Generator[LoadedBatch, None, None]:
    """Yields the batches of the pending shards in order.

    threads: that read and decode; 0: one a core, 16 at most. ahead: batches ready or being read,
    beyond one a thread; no more than that is held.
    """
    parts = _Parts(plan, pending)
    if not len(parts):
        return
    load = functools.partial(_load, source, preprocessing, plan.batch_size)
    threads = threads or min(16, cores())
    read = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + ahead)
    iterator = iter(grain.MapDataset.source(parts).map(load).to_iter_dataset(read))
    try:
        yield from iterator
    finally:
        iterator.close()


class _Parts:
    """The batches to be read, as (shard, whether its last, positions), counted and not listed."""

    def __init__(self, plan: ShardPlan, pending: Sequence[int]) -> None:
        self._plan = plan
        self._pending = pending
        self._per_shard = plan.shard_size // plan.batch_size
        last = len(plan.batches(pending[-1])) if pending else 0
        self._length = max(len(pending) - 1, 0) * self._per_shard + last

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[int, bool, range]:
        row, part = divmod(index, self._per_shard)
        shard = self._pending[row]
        batches = self._plan.batches(shard)
        return shard, part == len(batches) - 1, batches[part]


def _load(
    source: ImageSource,
    preprocessing: Preprocessing,
    batch_size: int,
    part: tuple[int, bool, range],
) -> LoadedBatch:
    shard, last, positions = part
    images = np.zeros((batch_size, *preprocessing.shape), np.uint8)
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
    return LoadedBatch(shard, last, positions, images, good, names, failures)
