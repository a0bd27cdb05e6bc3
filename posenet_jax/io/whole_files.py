"""Files that are whole or absent: written under another name, then renamed or uploaded.

A write that fails raises OutputError, which says what stays and what to do.
"""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from posenet_jax.errors import OutputError, shown
from posenet_jax.io import storage

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def written(path: Path, beside: Path, *, durable: bool = False, advice: str = "") -> Iterator[Path]:
    """Yields `beside`; the file written there then replaces the one at `path`.

    Where `path` is in a bucket a temporary file is yielded instead, and uploaded.
    durable: on the disk before it is renamed; else, after a power cut, the name may be all of it.
    advice: end of the message of an OutputError, instead of the usual one.

    Where the block raises, nothing is left beside and what stood at `path` before still stands. An
    OSError becomes an OutputError.
    """
    try:
        with _uploaded(path) if storage.is_bucket(path) else _renamed(path, beside, durable) as own:
            yield own
    except OSError as error:
        raise not_written(path, error, advice) from error


@contextlib.contextmanager
def _renamed(path: Path, beside: Path, durable: bool) -> Iterator[Path]:
    try:
        yield beside
        if durable:
            with open(beside, "rb") as file:
                os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _uploaded(path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield (file := Path(folder, path.name))
        storage.upload(file, path)


def refusal(error: BaseException) -> OSError | None:
    """Returns the operating system's error behind a library's, None where there is none.

    Libraries in other languages quote its text and give no number.
    """
    while not isinstance(error, OSError) or error.errno is None:
        for number in (*_FULL, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO):
            if os.strerror(number) in str(error):
                return OSError(number, os.strerror(number))
        cause = error.__cause__ or error.__context__
        if cause is None:
            return None
        error = cause
    return error


def not_written(path: Path, error: OSError, advice: str = "") -> OutputError:
    """The error to raise for a file, or a folder, that the operating system refused."""
    usual = "what is written already stays; "
    usual += f"{remedy(error)} or choose another folder, and run again"
    reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
    return OutputError(shown(path), reason, advice or usual)


def remedy(error: OSError) -> str:
    """Advice on what to do where the operating system refused."""
    return "make room there" if error.errno in _FULL else "make it possible"
