"""Lines of a text file that know where they stand, so that an error can say so."""

import os
import stat
from pathlib import Path
from typing import NamedTuple

from posenet_jax.errors import InputError, shown
from posenet_jax.io import storage


class Line(NamedTuple):
    """A line that is not empty, in words."""

    where: str  # the file and the line's number, for an error to begin with
    words: list[str]


def read_lines(path: str | Path, most_bytes: int | None = None) -> list[Line]:
    """The lines of a file, empty ones left out.

    Bytes that are not UTF-8 are replaced: what they stood in is then no number and no known word.
    Raises InputError if it cannot be opened, is no file, or has more than `most_bytes`; Unreachable
    where a bucket does not say.
    """
    try:
        if not storage.is_bucket(path) and not stat.S_ISREG(os.stat(path).st_mode):
            raise InputError(f"{shown(path)}: not a file")
        if most_bytes is not None and (found := storage.size(storage.path(path))) > most_bytes:
            size = f"{found} bytes; the limit is {most_bytes}"
            raise InputError(f"{shown(path)}: too large for a file of this kind ({size})")
        with storage.opened(path, "r", encoding="utf-8", errors="replace") as file:
            numbered = [(number, line.split()) for number, line in enumerate(file, 1)]
    except storage.Unanswered as error:
        raise storage.unreachable(error) from error
    except OSError as error:
        raise InputError(f"{shown(path)}: cannot be opened ({error.strerror})") from error
    return [Line(f"{shown(path)}, line {number}", words) for number, words in numbered if words]
