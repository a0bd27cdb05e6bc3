"""Files on disk or in a bucket (`s3://…`, `gs://…`): where they are opened, listed and written.

A bucket has no folders, locks or renaming. An object appears whole when its upload ends, or not at
all, so a file is written on the local disk and then uploaded; what needs a local file reads a
temporary copy. Paths in buckets are those of etils.epath. Credentials and endpoints come from the
environment, as the clients s3fs and gcsfs read them.

Errors of the clients become OSError with `errno`, `strerror` and `filename`, as the operating
system's have: FileNotFoundError, or else `Unanswered`.
"""

import contextlib
import errno
import functools
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

from posenet_jax.errors import InputError, Unreachable, one_line, shown

SCHEMES = ("s3", "gs")


class Unanswered(OSError):
    """A bucket's client failed, which says nothing of the file."""


class Object(NamedTuple):
    """A file in a bucket. name: its path below a folder."""

    name: str
    size: int  # bytes
    version: str  # another one for another content; on a disk its times


def is_bucket(path: str | os.PathLike[str]) -> bool:
    """Whether the path leads into a bucket."""
    return os.fspath(path).startswith(tuple(f"{scheme}://" for scheme in SCHEMES))


def path(name: str | os.PathLike[str]) -> Path:
    """Returns the path; in a bucket one of epath, of which only the pure part is used here."""
    if not is_bucket(name):
        return Path(name)
    from etils import epath

    return cast(Path, epath.Path(name))


def parents(path: Path) -> list[Path]:
    """Returns the folders above, the nearest first; in a bucket up to the bucket itself."""
    above = list(path.parents)
    return above[: len(path.parts) - 3] if is_bucket(path) else above


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether there is anything: a file, a folder or a link, also one that leads nowhere."""
    if not is_bucket(path):
        return os.path.lexists(path)
    with _errors(path):
        return bool(_files(path).exists(os.fspath(path)))


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether there is a file."""
    if not is_bucket(path):
        return os.path.isfile(path)
    with contextlib.suppress(FileNotFoundError), _errors(path):
        return _files(path).info(os.fspath(path))["type"] == "file"  # `isfile` hides all errors
    return False


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether there is a folder; in a bucket, whether there is anything below that name."""
    if not is_bucket(path):
        return os.path.isdir(path)
    return exists(path) and not is_file(path)


def size(path: Path) -> int:
    """Returns a file's bytes."""
    if not is_bucket(path):
        return path.stat().st_size
    with _errors(path):
        return int(_files(path).info(os.fspath(path))["size"])


def content(path: Path) -> bytes:
    """Returns what is in a file."""
    if not is_bucket(path):
        return path.read_bytes()
    with _errors(path):
        return bytes(_files(path).cat_file(os.fspath(path)))


def opened(path: str | os.PathLike[str], mode: str = "rb", **text: Any) -> Any:
    """Returns a file open for reading."""
    if not is_bucket(path):
        return open(path, mode, **text)
    with local_copy(path) as copy:
        return open(copy, mode, **text)  # an open file outlives its name


@contextlib.contextmanager
def local_copy(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a local file of the same content: the file itself, or a temporary one."""
    if not is_bucket(path):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, os.path.basename(os.fspath(path)))
        fetch(path, copy)
        yield copy


def fetch(path: str | os.PathLike[str], file: Path) -> None:
    """Copies a file out of a bucket to the disk."""
    with _errors(path):
        _files(path).get_file(os.fspath(path), os.fspath(file))


def scratch(owner: Any) -> Path:
    """Returns a temporary folder that is removed with its owner, or when the process ends."""
    folder = tempfile.mkdtemp()
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def upload(file: Path, path: Path) -> None:
    """Puts a local file into a bucket; until all of it is there, nothing changes."""
    with _errors(path):
        _files(path).put_file(os.fspath(file), os.fspath(path))


def prove_writable(probe: Path) -> None:
    """Writes a file and removes it."""
    if is_bucket(probe):
        with _errors(probe):
            _files(probe).pipe_file(os.fspath(probe), b"\0")
    else:
        probe.write_bytes(b"\0")
    remove(probe)


def remove(path: Path) -> None:
    """Removes a file, if it is there."""
    if not is_bucket(path):
        path.unlink(missing_ok=True)
        return
    with contextlib.suppress(FileNotFoundError), _errors(path):
        _files(path).rm_file(os.fspath(path))


def remove_folder(path: Path) -> None:
    """Removes a folder with all that is in it, if it is there; on a disk as far as that goes."""
    if not is_bucket(path):
        shutil.rmtree(path, ignore_errors=True)
        return
    for file in objects(os.fspath(path)):
        remove(path / file.name)


def move(path: Path, target: Path) -> None:
    """Gives a file another name in its folder, in the place of what is there.

    In a bucket it is copied first: a process that is killed in between leaves both.
    """
    if not is_bucket(path):
        os.replace(path, target)
        return
    with _errors(target):
        _files(path).cp_file(os.fspath(path), os.fspath(target))
    remove(path)


def make_folder(path: Path) -> None:
    """Makes a folder and those above it; in a bucket a file's name is enough."""
    if not is_bucket(path):
        path.mkdir(parents=True, exist_ok=True)


def objects(folder: str, name: str = "") -> list[Object]:
    """Returns a file of a folder in a bucket; without a name all, at any depth.

    Markers of folders are no files.
    """
    with _errors(folder):
        found = _files(folder).find(f"{folder}/{name}".rstrip("/"), detail=True)
    start = len(folder.partition("://")[2]) + 1
    return [
        Object(key[start:], int(facts["size"]), _version(facts))
        for key, facts in found.items()
        if facts["type"] == "file" and len(key) > start and not key.endswith("/")
    ]


def files_in(folder: Path) -> list[Object]:
    """Returns the files of a folder, not of those in it, by name; hidden ones too."""
    if not is_bucket(folder):
        found = [(file, file.stat()) for file in sorted(folder.iterdir())]
        return [
            Object(file.name, facts.st_size, f"{facts.st_mtime_ns} {facts.st_ctime_ns}")
            for file, facts in found
        ]
    with _errors(folder):
        entries = _files(folder).ls(os.fspath(folder), detail=True)
    files = [facts for facts in entries if facts["type"] == "file"]
    objects = [
        Object(os.path.basename(facts["name"]), int(facts["size"]), _version(facts))
        for facts in files
    ]
    return sorted(object for object in objects if object.name)


def _version(facts: dict[str, Any]) -> str:
    """Digest where there is one, so that a copy has the same version, wherever it lies."""
    keys = ("md5Hash", "ETag", "etag", "generation", "LastModified")
    return next((str(facts[key]) for key in keys if facts.get(key)), "")


def unreachable(error: OSError) -> Unreachable:
    """Returns the error to raise for an image that a bucket did not give.

    It must not count as one that cannot be read, which a run leaves out for good.
    """
    return Unreachable(
        f"{shown(error.filename)} cannot be read ({error.strerror}); what is done stays, and the"
        " same command goes on from there"
    )


def is_lost(error: BaseException | None) -> bool:
    """Whether a bucket did not answer, rather than refuse."""
    return isinstance(error, Unanswered) and error.errno == errno.EIO


def _files(path: str | os.PathLike[str]) -> Any:
    """The client of the path's bucket."""
    return _client(os.fspath(path).partition("://")[0])


@functools.cache
def _client(scheme: str) -> Any:
    # Listings are not kept: other processes write to the same folder.
    try:
        import fsspec

        return fsspec.filesystem(scheme, use_listings_cache=False)
    except ImportError as error:
        problem = f"{scheme}:// needs what is not installed here ({one_line(error)})"
        raise InputError(f"{problem}: pip install 'posenet_jax[buckets]'") from error


@contextlib.contextmanager
def _errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns the errors of clients, which are of many kinds, into those of an operating system."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        # Of a missing object the client gives the name alone, of a missing bucket a sentence.
        reason = one_line(error) if " " in str(error) else os.strerror(errno.ENOENT)
        raise FileNotFoundError(errno.ENOENT, reason, os.fspath(path)) from error
    except Exception as error:
        reason = getattr(error, "strerror", None) or one_line(error) or type(error).__name__
        number = errno.EACCES if isinstance(error, PermissionError) else errno.EIO
        raise Unanswered(number, reason, os.fspath(path)) from error
