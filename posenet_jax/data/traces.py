"""Traces of files, by which a resumed run notices that one has changed.

A trace is the times at which a file, and its entry in the file system, last changed, as they were
when it was listed, and a digest of its content, as it was just before it was read. Equal times are
trusted. Others are not held against a file, as a copied folder has others: its content decides.
"""

import hashlib
import operator
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, SupportsIndex, runtime_checkable

import numpy as np

from posenet_jax.data.sources import ImageSource, NamedImage
from posenet_jax.images.image_list import DIGEST_BYTES, file_digest
from posenet_jax.io import storage
from posenet_jax.threads import map_in_threads

_TRACE = np.dtype([("times", "<i8", 2), ("digest", "u1", DIGEST_BYTES)])


@runtime_checkable
class Traceable(Protocol):
    """N things that are read from files."""

    @property
    def times(self) -> np.ndarray:
        """[N, 2] int64, nanoseconds: last changes of each file's content and of its entry."""
        ...

    def digest(self, position: int) -> bytes:
        """16 bytes that another content would not have; zeros where it cannot be read."""
        ...


class Checked(NamedTuple):
    """Outcome of a check of files against their traces."""

    changed: list[int]  # positions
    touched: bool  # whether any had other times
    traces: np.ndarray  # [n], of now; their digests are those of before where times were equal


class Tracer:
    """Traces of N files."""

    def __init__(self, files: Traceable) -> None:
        self._files = files
        self._digests = np.zeros((len(files.times), DIGEST_BYTES), np.uint8)

    def note(self, position: int) -> None:
        """To be called before a file is read: if it changes in between, its digest will not fit."""
        self._digests[position] = np.frombuffer(self._files.digest(position), np.uint8)

    def take(self, positions: range) -> np.ndarray:
        """[n] traces of files that were noted."""
        return self._traces(positions, self._digests[positions.start : positions.stop])

    def check(self, positions: range, before: np.ndarray) -> Checked:
        """Finds the files that are not those of earlier traces [n], taken at the same positions.

        What are no such traces are compared with nothing.
        """
        if before.dtype != _TRACE or len(before) != len(positions):
            return Checked([], False, before)
        now = self._traces(positions, before["digest"])
        rows = np.flatnonzero((now["times"] != before["times"]).any(axis=1)).tolist()
        digests = map_in_threads(self._files.digest, [positions[row] for row in rows])
        changed = [
            positions[row]
            for row, digest in zip(rows, digests, strict=True)
            if digest != before["digest"][row].tobytes()
        ]
        return Checked(changed, bool(rows), now)

    def _traces(self, positions: range, digests: np.ndarray) -> np.ndarray:
        traces = np.zeros(len(positions), _TRACE)
        traces["times"] = self._files.times[positions.start : positions.stop]
        traces["digest"] = digests
        return traces


class TracedSource:
    """An ImageSource that notes what is read of it. tracer: None where it cannot be traced."""

    def __init__(self, source: ImageSource) -> None:
        self._source = source
        # A source that says it has other images than its list cannot be traced by the list.
        traceable = isinstance(source, Traceable) and len(source.times) == len(source)
        self.tracer = Tracer(source) if traceable else None  # type: ignore[arg-type]

    @property
    def fingerprint(self) -> str:
        """That of the source."""
        return self._source.fingerprint

    def __len__(self) -> int:
        return len(self._source)

    def name(self, position: int) -> str:
        """That of the source."""
        return self._source.name(position)

    def __getitem__(self, position: SupportsIndex) -> NamedImage:
        if self.tracer:
            self.tracer.note(operator.index(position))
        return self._source[position]

    def take(self, positions: range) -> np.ndarray | None:
        """[n] traces of images that were read; None where the source cannot be traced."""
        return self.tracer.take(positions) if self.tracer else None


class SourceFacts(NamedTuple):
    """Facts about a source that a run notes which reads it again and again.

    fingerprint: of all names and sizes. content: digest of what is in the files, or in some of them
    where `whole` is not true; None where they cannot be traced. times: digest of all files' times.
    """

    fingerprint: str
    content: str | None = None
    times: str | None = None
    whole: bool = True


def source_facts(source: ImageSource, most: int = 8192) -> SourceFacts:
    """Facts about a source, of which at most so many files, spread evenly over it, are read."""
    if not isinstance(source, Traceable) or len(source.times) != len(source):
        return SourceFacts(source.fingerprint, getattr(source, "facades", None))
    count = len(source)
    positions = np.unique(np.linspace(0, count - 1, min(most, count)).astype(int)).tolist()
    content = _joined(map_in_threads(source.digest, positions))
    times = hashlib.sha256(source.times.tobytes()).hexdigest()[:16]
    return SourceFacts(source.fingerprint, content, times, len(positions) == count)


def read_traces(path: Path) -> np.ndarray:
    """Traces as `np.save` wrote them; none where the file is absent or damaged."""
    try:
        # Mapped: a damaged header's shape is held against the file's size, and takes no memory.
        with storage.local_copy(path) as copy:
            return np.array(np.load(copy, mmap_mode="r"))
    except (OSError, ValueError, EOFError):
        return np.zeros(0, _TRACE)


def content_digest(files: Sequence[Path]) -> str:
    """16 hexadecimal digits that files of other contents, or in another order, would not have."""
    return _joined(map_in_threads(file_digest, files))


def _joined(digests: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for own in digests:
        digest.update(own)
    return digest.hexdigest()[:16]
