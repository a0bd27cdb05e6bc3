"""Images of a source in an endless, shuffled order, in which batch number n is always the same.

What a trainer needs that goes on, after a kill, with the batches an undisturbed run would have had.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import grain
import numpy as np

from posenet_jax.data.sources import NamedImage
from posenet_jax.errors import ImageError, InputError
from posenet_jax.threads import cores

Transform = Callable[[NamedImage], dict[str, np.ndarray]]


class ImageStream:
    """stream(n): the n-th batch, what `transform` makes of its images stacked leaf by leaf.

    An image that cannot be used is replaced by the next one in the source; `report` is told once of
    each. What was read stays in memory up to `cache_bytes`. Asked for batches in order, it reads
    ahead in threads.
    """

    def __init__(
        self,
        source: Any,
        transform: Transform,
        batch_size: int,
        *,
        seed: int = 0,
        cache_bytes: int = 0,
        threads: int = 0,
        report: Callable[[ImageError], None] | None = None,
    ) -> None:
        """Raises InputError for a source without items."""
        if not len(source):
            raise InputError("a source without images has no batches")
        self._reader = _Reader(source, transform, cache_bytes, report)
        positions = grain.MapDataset.range(len(source)).shuffle(seed).repeat()
        self._batches = positions.map(self._reader).batch(batch_size, drop_remainder=True)
        self._options = grain.ReadOptions(
            num_threads=threads or min(16, cores()), prefetch_buffer_size=2 * batch_size
        )
        self._next = -1
        self._iterator: Iterator[Any] = iter(())

    def __call__(self, number: int) -> dict[str, np.ndarray]:
        """Raises InputError where not one image of the source can be read."""
        if number != self._next:
            self._iterator = iter(self._batches[number:].to_iter_dataset(self._options))
        self._next = number + 1
        return next(self._iterator)


class _Reader:
    """position → transformed item, or that of the next position that can be used."""

    def __init__(
        self, source: Any, transform: Transform, cache_bytes: int, report: Callable | None
    ) -> None:
        self._source = source
        self._transform = transform
        self._room = cache_bytes
        self._report = report
        self._cache: dict[int, dict[str, np.ndarray]] = {}
        self._failed: set[int] = set()
        self._lock = threading.Lock()

    def __call__(self, position: int) -> dict[str, np.ndarray]:
        for step in range(len(self._source)):
            found = self._read((position + step) % len(self._source))
            if found is not None:
                return found
        raise InputError(f"none of the {len(self._source)} images could be read")

    def _read(self, position: int) -> dict[str, np.ndarray] | None:
        if position in self._cache:
            return self._cache[position]
        if position in self._failed:
            return None
        try:
            item = self._transform(self._source[position])
        except ImageError as error:
            with self._lock:
                new = position not in self._failed
                self._failed.add(position)
            if new and self._report:
                self._report(error)
            return None
        size = sum(array.nbytes for array in item.values())
        with self._lock:
            if size <= self._room:
                self._room -= size
                self._cache[position] = item
        return item
