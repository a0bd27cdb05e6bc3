"""Pillow's pixel limit and warnings, out of the way while this package reads a file.

Pillow has one pixel limit for the whole process, and tells of odd files by `warnings.warn`, whose
filters are the process's too. Here a limit given by the caller decides, and exceptions tell.
`warnings.catch_warnings` would not do: in threads it loses filters or leaves its own behind.
"""

import contextlib
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from PIL import Image

_lock = threading.Lock()
_thread = threading.local()


class _PillowInThisThread:
    """Module pattern of a warnings filter: Pillow's modules, in a thread that reads a file."""

    def match(self, module: str) -> bool:
        return getattr(_thread, "reading", 0) > 0 and module.startswith("PIL.")


# As `warnings.filterwarnings` would write them, which takes the pattern as text only.
_FILTERS: list[Any] = [
    ("ignore", None, category, _PillowInThisThread(), 0)
    for category in (UserWarning, Image.DecompressionBombWarning)
]


class _Process:
    """Settings of the whole process while a file is read."""

    readers = 0
    large_readers = 0  # those that Pillow's limit would stop
    limit: int | None = None  # Pillow's, to be put back after them


@contextlib.contextmanager
def reading(max_pixels: int) -> Iterator[None]:
    """In this thread Pillow warns of nothing and lets images of up to `max_pixels` pixels pass.

    Its limit is lifted, for every thread, only while a file is read with a `max_pixels` that
    exceeds it. When the last reader leaves, limit and filters are what they were.
    """
    large = _enter(max_pixels)
    _thread.reading = getattr(_thread, "reading", 0) + 1
    try:
        yield
    finally:
        _thread.reading -= 1
        _leave(large)


def _enter(max_pixels: int) -> bool:
    """Whether Pillow's limit, which is twice the number it gives, would stop this reader."""
    with _lock:
        _Process.readers += 1
        if any(entry not in warnings.filters for entry in _FILTERS):
            _set_filters([*_FILTERS, *_others()])
        limit = _Process.limit if _Process.large_readers else Image.MAX_IMAGE_PIXELS
        large = limit is not None and max_pixels > 2 * limit
        if large and not _Process.large_readers:
            _Process.limit, Image.MAX_IMAGE_PIXELS = limit, None
        _Process.large_readers += large
        return large


def _leave(large: bool) -> None:
    with _lock:
        _Process.large_readers -= large
        if large and not _Process.large_readers and Image.MAX_IMAGE_PIXELS is None:
            Image.MAX_IMAGE_PIXELS = _Process.limit
        _Process.readers -= 1
        if not _Process.readers:
            _set_filters(_others())


def _others() -> list[Any]:
    return [entry for entry in warnings.filters if entry not in _FILTERS]


def _set_filters(filters: list[Any]) -> None:
    """A new list: another thread may be going through the old one.

    Warnings already shown are not forgotten for it, as the functions of `warnings` would.
    """
    warnings.filters = filters
