"""Writing results: folders, files that are whole or absent, tables, pictures.

Images are uint8, RGB. The same inputs give the same bytes: no dates, no names of machines, floats
in their shortest exact form.
"""

import csv
import io
import json
import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from posenet_jax.errors import InputError
from posenet_jax.io import storage, whole_files


def prepare_output(folder: str | Path) -> Path:
    """Makes the folder if need be and proves, by writing, that results can be written to it.

    Raises InputError, one sentence, when they cannot.
    """
    folder = storage.path(os.path.expanduser(folder))
    # Permission bits say nothing to root, on a read-only disk or on a full one: only a file does.
    probe = folder / _temporary_name()
    try:
        storage.make_folder(folder)
        storage.prove_writable(probe)
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error, FileExistsError | NotADirectoryError):
            reason = "something there is a file, not a folder"
        message = f"cannot write to the output folder {folder} ({reason}); choose another"
        raise InputError(message) from error
    return folder


def write_atomically(path: str | Path, writer: Callable[[BinaryIO], object]) -> None:
    """Calls `writer` with an open binary file that is renamed to `path` only when complete.

    When `writer` raises, nothing is left behind and what stood at `path` before still stands.
    Raises OutputError where the file cannot be written.
    """
    path = storage.path(path)
    with whole_files.written(path, path.parent / _temporary_name()) as beside:
        with open(beside, "wb") as file:
            writer(file)


def write_png(path: str | Path, image: np.ndarray) -> None:
    """Writes uint8 RGB [H, W, 3] or grey [H, W, 1] or [H, W] as PNG, without metadata."""
    picture = _picture(image)
    write_atomically(path, lambda file: picture.save(file, format="PNG"))


def write_jpeg(path: str | Path, image: np.ndarray) -> None:
    """Writes an image as `write_png` does, as JPEG: for pages too large for PNG."""
    picture = _picture(image)

    def save(file: BinaryIO) -> None:
        picture.save(file, format="JPEG", quality=85, subsampling=0, optimize=True)

    write_atomically(path, save)


def _picture(image: np.ndarray) -> Image.Image:
    image = np.asarray(image)
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.shape[2:] or (3,)) != (3,):
        shape = list(image.shape)
        raise ValueError(
            f"a picture needs uint8 [H, W, 3] or [H, W]; received {image.dtype} {shape} "
            "(`Preprocessing.picture` shows three of other channels)"
        )
    return Image.fromarray(np.ascontiguousarray(image))


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
    text = json.dumps(plain_values(record), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path, lambda file: file.write(f"{text}\n".encode()))


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


def plain_values(value: Any) -> Any:
    """The value in JSON's types."""
    if isinstance(value, Mapping):
        return {str(key): plain_values(item) for key, item in value.items()}
    if hasattr(value, "dtype"):
        value = np.asarray(value).tolist()
    if isinstance(value, list | tuple):
        return [plain_values(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def png(image: np.ndarray) -> bytes:
    """A PNG file's content, of uint8 RGB [H, W, 3] or grey [H, W, 1]."""
    file = io.BytesIO()
    _picture(image).save(file, format="PNG")
    return file.getvalue()
