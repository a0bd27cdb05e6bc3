"""Files in a folder of a bucket, chosen as those of a disk are: a folder, a pattern or one file."""

import fnmatch
import glob
import hashlib
import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from posenet_jax.errors import InputError, shown
from posenet_jax.io import storage


class BucketFile(NamedTuple):
    """A file that was listed.

    path: below the folder. excluded: the folder to be excluded that it is in. size: bytes. times:
    two numbers that another content would not have, in the place of a disk's times.
    """

    path: bytes
    excluded: str | None
    size: int
    times: tuple[int, int]


def folder_of(pattern: str) -> str:
    """The folder that is searched: itself, a file's, or a pattern's before its first wildcard."""
    folder = pattern.rstrip("/")
    if storage.is_file(folder):
        return os.path.dirname(folder)
    if not storage.exists(storage.path(folder)):
        while glob.has_magic(folder):
            folder = os.path.dirname(folder)
    return folder


def files(pattern: str, folder: str, exclude: Iterable[str]) -> list[BucketFile]:
    """Files that a pattern matches, or all of a folder, but hidden ones.

    folder: `folder_of` the pattern. exclude: folders whose files are marked.
    Raises InputError where the bucket cannot be listed.
    """
    below = pattern.rstrip("/")[len(folder) :].lstrip("/")
    single = below and storage.is_file(pattern)
    parts = [glob.escape(below)] if single else below.split("/") if below else ["**", "*"]
    marked = [name.rstrip("/") for name in exclude if storage.is_bucket(name)]
    try:
        found = storage.objects(folder, below if single else "")
    except OSError as error:
        raise InputError(f"{shown(folder)}: cannot be listed ({error.strerror})") from error
    return [
        BucketFile(
            os.fsencode(each.name),
            next((top for top in marked if f"{folder}/{each.name}".startswith(f"{top}/")), None),
            each.size,
            _times(each.version),
        )
        for each in found
        if _matches(each.name.split("/"), parts)
    ]


def _matches(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether folders and file are what a pattern's parts say, as a shell takes them."""
    if not pattern or not names:
        return not pattern and not names
    if pattern[0] == "**":
        deeper = not names[0].startswith(".") and _matches(names[1:], pattern)
        return _matches(names, pattern[1:] or ["*"]) or (len(names) > 1 and deeper)
    hidden = names[0].startswith(".") and not pattern[0].startswith(".")
    return (
        not hidden
        and fnmatch.fnmatchcase(names[0], pattern[0])
        and _matches(names[1:], pattern[1:])
    )


def _times(version: str) -> tuple[int, int]:
    first, second = np.frombuffer(hashlib.sha256(version.encode()).digest()[:16], "<i8").tolist()
    return first, second
