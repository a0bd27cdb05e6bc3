"""Lists of image files in few bytes each, so that a million of them weigh as little as their names.

Files are found as `image_files.find_images` finds them: by extension, hidden ones left out.
"""

import glob
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from posenet_jax.errors import InputError
from posenet_jax.image_files import EXTENSIONS, shown


class ImageList:
    """Paths below a folder, sorted by their bytes.

    fingerprint: 16 hexadecimal digits of a SHA-256 of every path's part below the folder and every
    file's size: another list of files has another one, wherever the folder lies.
    """

    def __init__(self, folder: str, paths: list[bytes]) -> None:
        self.folder = folder
        self._names = b"".join(paths)
        self._ends = np.cumsum(np.array([len(path) for path in paths], np.int64))
        digest = hashlib.sha256()
        for path in paths:
            digest.update(b"%d %s\0" % (_size(os.path.join(os.fsencode(folder), path)), path))
        self.fingerprint = digest.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self._ends)

    def name(self, position: int) -> str:
        """The path below the folder, as text that can be printed."""
        return shown(os.fsdecode(self._below(position)))

    def path(self, position: int) -> Path:
        """The file."""
        return Path(self.folder, os.fsdecode(self._below(position)))

    def _below(self, position: int) -> bytes:
        if not 0 <= position < len(self):
            raise IndexError(f"position {position} of a list of {len(self)}")
        start = self._ends[position - 1] if position else 0
        return self._names[start : self._ends[position]]


def list_images(pattern: str | Path, limit: int | None = None) -> ImageList:
    """The images of a folder (searched to its depth), of a glob, or a single file, sorted.

    With `limit` the first so many. Raises InputError when nothing is there, or no image in it.
    """
    path = os.path.expanduser(os.fspath(pattern))
    if os.path.isdir(path):
        folder, found, where = path, _below(path), "in the folder"
    elif os.path.isfile(path):
        folder, name = os.path.split(path)
        found, where = iter([os.fsencode(name)]), "at"
    elif glob.has_magic(path):
        folder = _fixed_part(path)
        matches = glob.iglob(path, recursive=True)
        found = (os.fsencode(os.path.relpath(match, folder or ".")) for match in matches)
        where = "for the pattern"
    else:
        raise InputError(f"{shown(path)}: no such file or folder")
    images = sorted({name for name in found if _looks_like_an_image(name)})
    if glob.has_magic(path) and not os.path.exists(path):
        root = os.fsencode(folder)
        images = [name for name in images if not os.path.isdir(os.path.join(root, name))]
    if not images:
        kinds = ", ".join(extension[1:] for extension in EXTENSIONS)
        raise InputError(f"no images {where} {shown(path)}; their names must end in one of {kinds}")
    return ImageList(folder, images[:limit])


def _below(folder: str) -> Iterator[bytes]:
    """Files below a folder by their paths in it, hidden folders left out."""
    top = os.fsencode(folder)

    def refuse(error: OSError) -> None:
        raise InputError(f"{shown(error.filename)}: cannot be listed ({error.strerror})") from error

    for parent, folders, names in os.walk(top, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(b".")]
        within = os.path.relpath(parent, top)
        yield from names if within == b"." else (os.path.join(within, name) for name in names)


def _fixed_part(pattern: str) -> str:
    """The folder of a glob down to its first wildcard."""
    folder = pattern
    while glob.has_magic(folder):
        folder = os.path.dirname(folder)
    return folder


def _looks_like_an_image(path: bytes) -> bool:
    name = os.path.basename(path)
    extension = os.fsdecode(os.path.splitext(name)[1]).lower()
    return extension in EXTENSIONS and not name.startswith(b".")


def _size(path: bytes) -> int:
    """Bytes; -1 for what cannot be asked: reading it will say why."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1
