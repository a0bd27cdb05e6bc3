"""Lists of image files in few bytes each, so that a million of them weigh as little as their names.

A folder is searched to its depth: `FOLDER` lists what the pattern `FOLDER/**/*` does. Images are
known by their extension; hidden files and folders are left out. Links to folders are followed, but
no folder is entered again below itself. Images in folders to be excluded, such as a run's own
output, and files of kinds that are not read are counted.
"""

import array
import collections
import fnmatch
import functools
import glob
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from posenet_jax.errors import InputError, shown
from posenet_jax.images import bucket_folder
from posenet_jax.images.image_files import EXTENSIONS
from posenet_jax.io import storage

DIGEST_BYTES = 16

# What people have among their images and expect to be read, or to be told of.
_OTHER_EXTENSIONS = frozenset(
    ".heic .heif .hif .avif .jxl .jp2 .j2k .jpf .jpx .jpm .j2c .jxr .wdp .hdp .jls .bpg .flif"
    " .psd .psb .xcf .kra .ora .ai .eps .svg .svgz .exr .hdr .pfm .dpx .cin .dds .tga .pcx .ico"
    " .cur .icns .ppm .pgm .pbm .pnm .pam .ras .sgi .qoi .dib .wmf .emf .fits .fit .dcm"
    " .dng .cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .orf .rw2 .raf .pef .srw .rwl .x3f .3fr .fff"
    " .erf .kdc .dcr .mrw .mef .mos .iiq".split()
) - frozenset(EXTENSIONS)

Identity = tuple[int, int]  # device and inode: the folder itself, whatever it is called


class LeftOut(NamedTuple):
    """Files that a list does not hold, though a person may have meant them.

    kinds: how many of each extension that is an image's and not read.
    excluded: how many images in each folder that was to be excluded.
    """

    kinds: Mapping[str, int]
    excluded: Mapping[str, int]

    def sentences(self) -> list[str]:
        """Returns messages for the user: none, one or several sentences."""
        told = []
        if self.kinds:
            ordered = sorted(self.kinds.items(), key=lambda item: (-item[1], item[0]))
            kinds = ", ".join(f"{count} {extension}" for extension, count in ordered)
            total = _counted(sum(self.kinds.values()), "file")
            told.append(f"left out {total} of kinds that are not read: {kinds}")
        for folder, count in self.excluded.items():
            images = _counted(count, "image")
            told.append(f"left out {images} in the output folder {shown(folder)}")
        return told


NOTHING = LeftOut({}, {})


class ImageList:
    """Paths below a folder, sorted by their bytes.

    left_out: files and folders beside them that are not read. listed: [N, 3] int64, sizes and times
    that came with the names, as a bucket's do; None: each file is asked.
    """

    def __init__(
        self,
        folder: str,
        paths: list[bytes],
        left_out: LeftOut = NOTHING,
        listed: np.ndarray | None = None,
    ) -> None:
        self.folder = folder
        self.left_out = left_out
        self._listed = listed
        self._names = b"".join(paths)
        self._ends = np.cumsum(np.array([len(path) for path in paths], np.int64))

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of every path's part below the folder and every file's size.

        Another list of files has another one, wherever the folder lies.
        """
        return self._looked_at[0]

    @property
    def times(self) -> np.ndarray:
        """[N, 2] int64, nanoseconds: last changes of each file's content and of its entry."""
        return self._looked_at[1]

    @functools.cached_property
    def _looked_at(self) -> tuple[str, np.ndarray]:
        """(fingerprint, times), of one look at every file."""
        digest, times = hashlib.sha256(), array.array("q")
        folder, start = os.fsencode(self.folder), 0
        for row, end in enumerate(self._ends.tolist()):
            path, start = self._names[start:end], end
            if self._listed is None:
                size, *changed = _size_and_times(os.path.join(folder, path))
            else:
                size, *changed = self._listed[row].tolist()
            digest.update(b"%d %s\0" % (size, path))
            times.extend(changed)
        return digest.hexdigest()[:16], np.array(times, np.int64).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[Path]:
        return map(self.path, range(len(self)))

    def __contains__(self, path: object) -> bool:
        return any(path == own for own in self)

    def name(self, position: int) -> str:
        """The path below the folder, as text that can be printed."""
        return shown(os.fsdecode(self._below(position)))

    def path(self, position: int) -> Path:
        """The file."""
        return storage.path(os.path.join(self.folder, os.fsdecode(self._below(position))))

    def digest(self, position: int) -> bytes:
        """The `file_digest` of the file."""
        return file_digest(self.path(position))

    def _below(self, position: int) -> bytes:
        if not 0 <= position < len(self):
            raise IndexError(f"position {position} of a list of {len(self)}")
        start = self._ends[position - 1] if position else 0
        return self._names[start : self._ends[position]]


def file_digest(path: str | Path) -> bytes:
    """16 bytes of a SHA-256 of a file's content; zeros where it cannot be read."""
    try:
        with storage.opened(path, buffering=0) as file:
            return hashlib.file_digest(file, "sha256").digest()[:DIGEST_BYTES]
    except OSError:
        return bytes(DIGEST_BYTES)


def list_images(
    pattern: str | Path, *, limit: int | None = None, exclude: Iterable[str | Path] = ()
) -> ImageList:
    """The images of a folder (searched to its depth), of a glob, or a single file, sorted.

    limit: the first so many. exclude: folders whose images are left out, whatever name they are
    reached by. `~` is the home folder. Raises InputError when nothing is there, or no image.
    """
    if storage.is_bucket(pattern):
        return _in_bucket(os.fspath(pattern), limit, exclude)
    path, folder = os.path.expanduser(os.fspath(pattern)), folder_of(pattern)
    below = os.fsencode(path[len(folder) :].lstrip(os.sep))
    entries: Iterable[tuple[bytes, str | None]]
    if os.path.isdir(path):
        entries, where = _Folder.top(folder, exclude).files([b"**", b"*"]), "in the folder"
    elif os.path.exists(path):
        entries, where = [(below, _Folder.top(folder, exclude).excluded)], "at"
    elif glob.has_magic(path) and os.path.isdir(folder or "."):
        entries = _Folder.top(folder, exclude).files(below.split(os.fsencode(os.sep)))
        where = "for the pattern"
    else:
        raise InputError(f"{shown(path)}: no such file or folder")
    images, left_out = _sorted_out(entries)
    if not images:
        raise InputError(_why_none(f"{where} {shown(path)}", left_out))
    return ImageList(folder, images[:limit], left_out)


def _in_bucket(pattern: str, limit: int | None, exclude: Iterable[str | Path]) -> ImageList:
    folder = folder_of(pattern)
    found = bucket_folder.files(pattern, folder, [os.fspath(name) for name in exclude])
    images, left_out = _sorted_out((file.path, file.excluded) for file in found)
    if not images:
        raise InputError(_why_none(f"at {pattern}", left_out))
    facts = {file.path: (file.size, *file.times) for file in found}
    listed = np.array([facts[path] for path in images[:limit]], np.int64)
    return ImageList(folder, images[:limit], left_out, listed)


def folder_of(pattern: str | Path) -> str:
    """The folder that is searched: itself, a file's, or a glob's before its first wildcard."""
    if storage.is_bucket(pattern):
        return bucket_folder.folder_of(os.fspath(pattern))
    folder = os.path.expanduser(os.fspath(pattern))
    if os.path.exists(folder):
        return folder if os.path.isdir(folder) else os.path.dirname(folder)
    while glob.has_magic(folder):
        folder = os.path.dirname(folder)
    return folder


def as_list(images: ImageList | str | Path) -> ImageList:
    """A list that is one already, or that of a folder, a glob or a single file."""
    return images if isinstance(images, ImageList) else list_images(images)


def _sorted_out(entries: Iterable[tuple[bytes, str | None]]) -> tuple[list[bytes], LeftOut]:
    """Returns (images, files left out). entries: (path, excluded folder that it is in) of files."""
    images: set[bytes] = set()
    others: dict[bytes, str] = {}  # by path: a pattern may match a file in several ways
    excluded: dict[bytes, str] = {}
    for path, folder in entries:
        extension = _extension(path)
        if extension in EXTENSIONS:
            if folder is None:
                images.add(path)
            else:
                excluded[path] = folder
        elif extension in _OTHER_EXTENSIONS and folder is None:
            others[path] = extension
    counts = (collections.Counter(each.values()) for each in (others, excluded))
    return sorted(images), LeftOut(*counts)


def _why_none(where: str, left_out: LeftOut) -> str:
    if left_out.excluded:
        folders = " and ".join(map(shown, left_out.excluded))
        return f"all images {where} are in the output folder {folders}; choose another for output"
    known = ", ".join(extension[1:] for extension in EXTENSIONS)
    told = "".join(f"; {sentence}" for sentence in left_out.sentences())
    return f"no images {where}; their names must end in one of {known}{told}"


class _Folder:
    """A folder that is searched.

    within: its path below the top one. exclude: folders to be excluded, by identity. excluded: the
    one of them that it is or lies in.
    """

    def __init__(
        self, path: bytes, within: bytes, exclude: dict[Identity, str], excluded: str | None
    ) -> None:
        self.path, self.within, self.exclude = path, within, exclude
        try:
            self.identity = _identity(path)
        except OSError as error:
            raise _unlistable(path, error) from error
        self.excluded = excluded or exclude.get(self.identity)

    @classmethod
    def top(cls, folder: str, exclude: Iterable[str | Path]) -> Self:
        """The one that a search begins with; it may lie in one to be excluded."""
        path = os.fsencode(folder)
        names = [os.path.expanduser(os.fspath(folder)) for folder in exclude]
        folders = {_identity(os.fsencode(name)): name for name in names if os.path.isdir(name)}
        above = Path(os.fsdecode(os.path.realpath(path or b"."))).parents if folders else ()
        around = (folders.get(_identity(os.fsencode(folder))) for folder in above)
        return cls(path, b"", folders, next(filter(None, around), None))

    def files(self, parts: Sequence[bytes]) -> Iterator[tuple[bytes, str | None]]:
        """(path below the top folder, folder to be excluded) of files that match a pattern's parts.

        They are those of `glob.iglob(..., recursive=True)`, loops of links apart.
        """
        part, rest = parts[0], parts[1:]
        if part == b"**":
            for folder in self._to_its_depth():
                yield from folder.files(rest or [b"*"])
        elif not rest:
            for name in _matching(self._listing[1], part):
                yield os.path.join(self.within, name), self.excluded
        elif glob.has_magic(part):
            for name in _matching(self._listing[0], part):
                yield from self._below(name).files(rest)
        elif os.path.isdir(os.path.join(self.path, part)):
            yield from self._below(part).files(rest)

    def _to_its_depth(self) -> Iterator["_Folder"]:
        """Itself and all folders below, but none again below itself: loops of links end there."""
        waiting = [(self, frozenset([self.identity]))]
        while waiting:
            folder, walked = waiting.pop()
            yield folder
            for name in _matching(folder._listing[0], b"*"):
                below = folder._below(name)
                if below.identity not in walked:
                    waiting.append((below, walked | {below.identity}))

    def _below(self, name: bytes) -> "_Folder":
        path, within = os.path.join(self.path, name), os.path.join(self.within, name)
        return _Folder(path, within, self.exclude, self.excluded)

    @functools.cached_property
    def _listing(self) -> tuple[list[bytes], list[bytes]]:
        """(names of folders, names of everything else) in it."""
        folders: list[bytes] = []
        files: list[bytes] = []
        try:
            with os.scandir(self.path or b".") as entries:
                for entry in entries:
                    (folders if _is_folder(entry) else files).append(entry.name)
        except OSError as error:
            raise _unlistable(self.path, error) from error
        return folders, files


def _identity(path: bytes) -> Identity:
    status = os.stat(path or b".")
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _unlistable(path: bytes, error: OSError) -> InputError:
    return InputError(f"{shown(os.fsdecode(path))}: cannot be listed ({error.strerror})")


def _matching(names: Iterable[bytes], pattern: bytes) -> list[bytes]:
    """Returns matching names as a shell does: hidden ones only for a pattern with a dot first."""
    matching = fnmatch.filter(names, pattern)
    hidden = pattern.startswith(b".")
    return matching if hidden else [name for name in matching if not name.startswith(b".")]


def _extension(path: bytes) -> str:
    """In lower case, with its dot; empty for a hidden file."""
    name = os.path.basename(path)
    return "" if name.startswith(b".") else os.fsdecode(os.path.splitext(name)[1]).lower()


def _size_and_times(path: bytes) -> tuple[int, int, int]:
    """Returns bytes and nanoseconds; -1 where there is no answer: reading it will say why."""
    try:
        status = os.stat(path)
    except OSError:
        return -1, -1, -1
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' if count != 1 else ''}"
