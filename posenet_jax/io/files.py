"""Writing results: folders, files that are whole or absent, tables, pictures, the run's record.

Images are uint8, RGB. The same inputs give the same bytes: no dates, no names of machines, floats
in their shortest exact form.
"""

import csv
import importlib.metadata
import io
import json
import math
import os
import platform
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np
from PIL import Image

from posenet_jax.errors import InputError
from posenet_jax.images.contact_sheet import contact_sheet
from posenet_jax.io import whole_files

_RECORDED_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "posenet_jax")


def prepare_output(folder: str | Path) -> Path:
    """Makes the folder if need be and proves, by writing, that results can be written to it.

    Raises InputError, one sentence, when they cannot.
    """
    folder = Path(os.path.expanduser(folder))
    # Permission bits say nothing to root, on a read-only disk or on a full one: only a file does.
    probe = folder / _temporary_name()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"\0")
        probe.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error, FileExistsError | NotADirectoryError):
            reason = "something there is a file, not a folder"
        message = f"cannot write to the output folder {folder} ({reason}); choose another"
        raise InputError(message) from error
    return folder


def write_atomically(path: str | Path, writer: Callable[[BinaryIO], object]) -> None:
    """Calls `writer` with an open binary file that takes its place at `path` only when complete.

    When `writer` raises, nothing is left behind and what stood at `path` before still stands.
    Raises OutputError where the file cannot be written.
    """
    path = Path(path)
    with whole_files.written(path, path.parent / _temporary_name()) as beside:
        with open(beside, "wb") as file:
            writer(file)


def write_png(path: str | Path, image: np.ndarray) -> None:
    """Writes uint8 RGB [H, W, 3] or grey [H, W] as PNG, without metadata."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.shape[2:] or (3,)) != (3,):
        shape = list(image.shape)
        raise ValueError(f"a PNG needs uint8 [H, W, 3] or [H, W]; received {image.dtype} {shape}")
    picture = Image.fromarray(np.ascontiguousarray(image))
    write_atomically(path, lambda file: picture.save(file, format="PNG"))


def write_csv(
    path: str | Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None
) -> None:
    """Writes a table: a header, then one line a row; None is an empty cell.

    columns: the order; that of the first row when None. Every row has exactly these keys, or
    ValueError is raised.
    """
    content = csv_text(rows, columns).encode()
    write_atomically(path, lambda file: file.write(content))


def csv_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """The content of the file that `write_csv` writes."""
    if columns is None and not rows:
        raise ValueError("a table without rows needs its columns named")
    names = list(rows[0] if columns is None else columns)
    for number, row in enumerate(rows):
        if set(row) != set(names):
            raise ValueError(f"row {number} must have the columns {names}; received {list(row)}")
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(names)
    lines.writerows([_cell(row[name]) for name in names] for row in rows)
    return text.getvalue()


def write_json(path: str | Path, record: Any) -> None:
    """Writes plain values, arrays and paths as JSON; NaN and infinities, not in JSON, as null."""
    text = json.dumps(_plain(record), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path, lambda file: file.write(f"{text}\n".encode()))


def image_grid(
    path: str | Path,
    columns: Mapping[str, np.ndarray],
    *,
    row_labels: Sequence[str] | None = None,
    cell_labels: Mapping[str, Sequence[str]] | None = None,
    title: str = "",
) -> None:
    """Writes the `contact_sheet` of the columns, uint8 [N, H, W, 3] each, as PNG."""
    page = contact_sheet(columns, row_labels=row_labels, cell_labels=cell_labels, title=title)
    write_png(path, page)


def run_record(flags: Mapping[str, Any], extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a run was: its flags, the versions and the device it ran on, its commit, and `extra`.

    Holds no host name; the home folder in any path is written `~`.
    """
    record = {
        "flags": dict(flags),
        "versions": _versions(),
        "backend": jax.default_backend(),
        "device_kind": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "git": _git_state(Path(__file__).resolve().parents[2]),
    }
    return _without_home(_plain(record | dict(extra or {})), str(Path.home()))


def _temporary_name() -> str:
    """A name no other process or thread uses; hidden and short, as a result's may be long."""
    return f".{os.getpid()}-{threading.get_ident()}.tmp"


def _cell(value: Any) -> Any:
    """A table's cell; a float as the shortest text that gives back the same value."""
    if hasattr(value, "dtype"):
        value = np.asarray(value)[()]
    if isinstance(value, np.ndarray):
        raise ValueError(f"a cell holds one value; received an array {list(value.shape)}")
    return str(value) if isinstance(value, float | np.floating) else value


def _plain(value: Any) -> Any:
    """The value in JSON's types."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "dtype"):
        value = np.asarray(value).tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _without_home(value: Any, home: str) -> Any:
    """The record with the home folder written `~` in every text."""
    if isinstance(value, dict):
        return {key: _without_home(item, home) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_home(item, home) for item in value]
    if not isinstance(value, str) or len(home) < 2:
        return value
    return "~" if value == home else value.replace(home + os.sep, "~" + os.sep)


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in _RECORDED_PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def _git_state(root: Path) -> dict[str, Any] | None:
    """Commit of the checkout at `root`, and whether files differ from it; None when it is none."""

    def git(*arguments: str) -> str:
        command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
        return subprocess.run(
            command, capture_output=True, check=True, text=True, timeout=20
        ).stdout.strip()

    try:
        # An installed package may lie inside somebody else's checkout.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return None
        commit = git("rev-parse", "--verify", "HEAD")
        return {"commit": commit, "modified": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None
