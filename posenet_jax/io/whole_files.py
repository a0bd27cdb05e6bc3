"""Files that are whole or absent: written under another name, then renamed.

A write that fails raises OutputError, which says what stays and what to do.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from posenet_jax.errors import OutputError, shown

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def written(path: Path, beside: Path, *, durable: bool = False, advice: str = "") -> Iterator[Path]:
    """Yields `beside`; the file written there then replaces the one at `path`.

    durable: on the disk before it is renamed; else, after a power cut, the name may be all of it.
    advice: end of the message of an OutputError, instead of the usual one.

    Where the block raises, nothing is left beside and what stood at `path` before still stands. An
    OSError becomes an OutputError.
    """
    try:
        yield beside
        if durable:
            with open(beside, "rb") as file:
                os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise not_written(path, error, advice) from error
        raise


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
