"""Errors that a person can mend. Each message is one sentence; a script prints it and exits."""

import os
from pathlib import Path


class InputError(ValueError):
    """Unusable input: a path, an option or a file."""


class ImageError(InputError):
    """One image file cannot be used; the message begins with its path."""


class OutputError(InputError):
    """A file cannot be written.

    path: the file, as text that can be printed. reason: the operating system's. advice: what stays,
    and what to do.
    """

    def __init__(self, path: str, reason: str, advice: str) -> None:
        super().__init__(f"{path} cannot be written ({reason}); {advice}")
        self.path, self.reason, self.advice = path, reason, advice


class Unreachable(InputError):
    """A bucket that does not give a file, for a reason that is not the file's."""


class NotFinite(RuntimeError):
    """A loss stopped being a number; what was good before that is kept."""


class Collapsed(RuntimeError):
    """A training that can no longer come to anything; what was good before that is kept."""


def one_line(error: BaseException, length: int = 300) -> str:
    """The error's message on one line, cut where it is long: another library's may be anything."""
    text = " ".join(str(error).split())
    return text if len(text) <= length else f"{text[:length]}..."


def shown(path: str | Path) -> str:
    """The path as text that can be printed, also when its bytes are not valid UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")
