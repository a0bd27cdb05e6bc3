"""A map over a stream in threads: order kept, memory bounded."""

import collections
import concurrent.futures
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
S = TypeVar("S")


def cores() -> int:
    """That this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def map_in_threads(
    function: Callable[[T], S], items: Iterable[T], *, threads: int | None = None
) -> Iterator[S]:
    """Results in the order of the items, at most four a thread under way or waiting.

    What `function` raises is raised here, in its turn.
    """
    count = threads or min(16, cores())
    waiting: collections.deque[concurrent.futures.Future[S]] = collections.deque()
    pool = concurrent.futures.ThreadPoolExecutor(count)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 4 * count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
