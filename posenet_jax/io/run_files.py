"""JSON and CSV files that an earlier run wrote: checked as they are read, as any may be damaged.

What cannot be used raises InputError, one sentence with the path, what is wrong and what to do. No
number in a file decides how much memory is taken before it has been compared with a bound.

A schema says what a JSON value must be:

    str, bool, float (any finite number), object (anything)
    range(a, b)            a whole number from a to b - 1
    ("this", "that")       one of these constants
    re.compile(pattern)    a text that matches as a whole
    [schema]               a list, of any length
    {"key": schema, ...}   an object with at least these keys
    {str: schema}          an object of any keys
"""

import csv
import hashlib
import json
import math
import os
import re
import reprlib
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from posenet_jax.errors import InputError, shown
from posenet_jax.io import storage

COUNT = range(2**53)
"""Schema of how many there are of something."""
FILE_NAME = re.compile(r"(?!\.)[^/\\\x00-\x1f\x7f]{1,255}")
"""Schema of a file's name, of printable text, which leads to no other folder and is not hidden."""
SHA256 = re.compile(r"[0-9a-f]{64}")

_CHECKSUM = "sha256_of_rest"
_BRIEF = reprlib.Repr()
_BRIEF.maxstring, _BRIEF.maxdict, _BRIEF.maxlevel = 80, 16, 3


def brief(value: Any) -> str:
    """The value as an error shows it, however long or deep it is."""
    text = _BRIEF.repr(value)
    return text if len(text) <= 300 else f"{text[:300]}..."


# JSON -------------------------------------------------------------------------------------------


def read_json(path: str | Path, schema: Any = object, *, remedy: str = "restore it") -> Any:
    """The value in a JSON file, UTF-8. Raises InputError, also where it is not of the schema.

    Stricter than `json.loads`: no NaN or infinity, no key twice in an object, no text that UTF-8
    cannot encode. A checksum that `checksummed` put there is compared and taken out.
    """
    with _opened(path, "rb", remedy) as file:
        content = file.read()
    try:
        value = _parsed(content)
        stored = value.pop(_CHECKSUM, None) if isinstance(value, dict) else None
        changed = stored is not None and stored != checksum(value)
    except RecursionError as error:
        raise _unusable(path, "is not JSON (nested too deeply)", remedy) from error
    except ValueError as error:
        raise _unusable(path, f"is not JSON ({_reason(error)[:200]})", remedy) from error
    if changed:
        raise _unusable(path, "has been damaged or changed since it was written", remedy)
    if fault := schema_fault(value, schema):
        raise _unusable(path, f"cannot be used: {fault}", remedy)
    return value


def _parsed(content: bytes) -> Any:
    text = content.decode("utf-8-sig")
    value = json.loads(
        text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_finite
    )
    if "\\u" in text:
        # Half a surrogate pair could be neither printed nor written again.
        json.dumps(value, ensure_ascii=False).encode()
    return value


def parsed_json(text: str, schema: Any = object, name: str = "") -> Any:
    """The value of a JSON text that another file holds, as strictly as `read_json`.

    Raises ValueError, also where it is not of the schema; `name` is what it calls the value.
    """
    try:
        value = _parsed(text.encode())
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if fault := schema_fault(value, schema, name):
        raise ValueError(fault)
    return value


def checksummed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object with a checksum of itself, by which `read_json` notices a damaged digit."""
    return {**content, _CHECKSUM: checksum(content)}


def checksum(content: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of a SHA-256 of a JSON object, whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def schema_fault(value: Any, schema: Any, name: str = "") -> str | None:
    """Describes the fault of a JSON value, by its path in the file; None where there is none."""
    if isinstance(schema, list):
        if not isinstance(value, list):
            return _wrong(name, value, "a list")
        items = [(item, schema[0], f"{name}[{number}]") for number, item in enumerate(value)]
    elif isinstance(schema, dict):
        if not isinstance(value, dict):
            return _wrong(name, value, "an object")
        own = dict.fromkeys(value, schema[str]) if str in schema else schema
        if missing := [key for key in own if key not in value]:
            return f"{name or 'it'} lacks {', '.join(missing)}"
        items = [(value[key], inner, _member(name, key)) for key, inner in own.items()]
    else:
        return _plain_fault(value, schema, name)
    faults = (schema_fault(*item) for item in items)
    return next((fault for fault in faults if fault), None)


def _member(name: str, key: str) -> str:
    return f"{name}.{_named(key)}" if name else _named(key)


def _named(key: str) -> str:
    return key if key.isidentifier() and len(key) < 60 else brief(key)


def _plain_fault(value: Any, schema: Any, name: str) -> str | None:
    """`schema_fault` of what holds nothing else."""
    if isinstance(schema, range):
        fits = type(value) is int and value in schema
        wanted = f"a whole number from {schema.start} to {schema.stop - 1}"
    elif isinstance(schema, tuple):
        fits, wanted = value in schema, f"one of {', '.join(map(str, schema))}"
    elif isinstance(schema, re.Pattern):
        fits = isinstance(value, str) and bool(schema.fullmatch(value))
        wanted = f"a text like {schema.pattern}"
    elif schema is float:
        fits, wanted = type(value) is int and value in _FLOATS or type(value) is float, "a number"
    else:
        fits = isinstance(value, schema)
        wanted = {str: "a text", bool: "true or false"}.get(schema, schema.__name__)
    return None if fits else _wrong(name, value, wanted)


# Whole numbers that float() takes.
_FLOATS = range(-(2**1023), 2**1023)


def _wrong(name: str, value: Any, wanted: str) -> str:
    return f"{name or 'it'} is {brief(value)}, not {wanted}"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise ValueError(f"the key {brief(name)} stands twice in an object")
        members[name] = value
    return members


def _constant(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{brief(text)} is too large a number")
    return value


# CSV --------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A line of a table."""

    where: str  # the file and the line's number, for an error to begin with
    cells: dict[str, str]  # by the columns' names
    remedy: str

    def number(self, name: str, within: tuple[float, float] | None = None) -> float:
        """A cell's number, which may be infinite; NaN where the cell is empty.

        within: (least, greatest) that there may be; NaN then is refused.
        """
        text = self.cells[name]
        try:
            # Python reads 1_5 as fifteen.
            value = float(text.replace("_", "?")) if text else math.nan
        except ValueError as error:
            raise self._wrong(name, "a number") from error
        if within and not within[0] <= value <= within[1]:
            raise self._wrong(name, f"a number from {within[0]:g} to {within[1]:g}")
        return value

    def whole(self, name: str) -> int:
        """A cell's whole number, of 18 digits at most."""
        if not re.fullmatch(r"-?[0-9]{1,18}", self.cells[name]):
            raise self._wrong(name, "a whole number")
        return int(self.cells[name])

    def _wrong(self, name: str, wanted: str) -> InputError:
        received = brief(self.cells[name])
        return InputError(
            f"{self.where}: {_named(name)} is {received}, not {wanted}; {self.remedy}"
        )


def read_csv(
    path: str | Path,
    columns: Sequence[str] = (),
    *,
    open_end: bool = False,
    remedy: str = "restore it",
) -> Iterator[Row]:
    """The lines of a CSV file, UTF-8 with a header, one by one as they are asked for.

    open_end: whether the last line may lack its end, as hand-written ones do; else it was cut.

    Raises InputError, when the line is reached, for a file that cannot be opened or is no table,
    for a header that lacks one of the `columns` or has one twice, for a line longer or shorter than
    the header, and for cells of more than `csv.field_size_limit()` characters.
    """
    with _opened(path, "r", remedy) as file:
        reader = csv.reader(file if open_end else _ended(file), strict=True)
        try:
            header = next(reader, [])
            if fault := _header_fault(header, columns):
                raise _unusable(path, f"is not the table expected here: {fault}", remedy)
            for cells in filter(None, reader):
                where = f"{shown(path)}, line {reader.line_num}"
                if len(cells) != len(header):
                    wanted = f"{len(cells)} cells under {len(header)} columns"
                    raise InputError(f"{where}: {wanted}; {remedy}")
                if any("\0" in cell for cell in cells):
                    raise InputError(f"{where}: bytes that are zero; {remedy}")
                yield Row(where, dict(zip(header, cells, strict=True)), remedy)
        except (csv.Error, UnicodeDecodeError, OSError) as error:
            raise _unusable(path, f"is not a CSV table ({_reason(error)})", remedy) from error


def _ended(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if not line.endswith(("\n", "\r")):
            raise csv.Error("its last line is cut")
        yield line


def _header_fault(header: Sequence[str], columns: Sequence[str]) -> str | None:
    if not header:
        return "it is empty"
    if len(set(header)) != len(header):
        return "a column stands twice in its header"
    missing = [name for name in columns if name not in header]
    return f"it lacks the columns {', '.join(missing)}" if missing else None


# Files ------------------------------------------------------------------------------------------


def file_sha256(path: str | Path) -> str:
    """Digest of a file's content, in hexadecimal digits. Raises OSError."""
    with storage.opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _opened(path: str | Path, mode: str, remedy: str) -> IO[Any]:
    """The file, open for reading. Raises InputError for what is no file: a pipe would be for ever.

    Text is UTF-8, with or without the mark that some editors begin it with.
    """
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8-sig", "newline": ""}
    try:
        if not storage.is_bucket(path) and not stat.S_ISREG(os.stat(path).st_mode):
            raise _unusable(path, "is not a file", remedy)
        return storage.opened(path, mode, **text)
    except OSError as error:
        raise _unusable(path, f"cannot be opened ({_reason(error)})", remedy) from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split())


def _unusable(path: str | Path, what: str, remedy: str) -> InputError:
    return InputError(f"{shown(path)} {what}; {remedy}")
