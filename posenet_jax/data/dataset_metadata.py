"""The description of a TFDS data set, checked before TFDS acts on it.

TFDS imports whatever module features.json names, and believes every number of examples that
dataset_info.json gives. A folder may come from a stranger.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from array_record.python import array_record_module

from posenet_jax.errors import InputError, shown
from posenet_jax.io.run_files import COUNT, brief, read_json
from posenet_jax.threads import map_in_threads

INFO = "dataset_info.json"

_REMEDY = "make the data set anew"
# Keys under which a feature's class may stand: both spellings of the proto's, and the older form's.
_CLASS_KEYS = ("pythonClassName", "python_class_name", "type")
# Under which JSON may stand as a text.
_NESTED_KEYS = ("json", "content")
_KNOWN = "tensorflow_datasets.core.features."


def dataset_builder(folder: Path) -> Any:
    """TFDS's read-only builder of the data set in a folder.

    Raises InputError where its description is damaged or names features that are not TFDS's own.
    """
    read_json(folder / INFO, {}, remedy=_REMEDY)
    if os.path.lexists(folder / "features.json"):
        for name in _class_names(read_json(folder / "features.json", {}, remedy=_REMEDY)):
            if not name.startswith(_KNOWN):
                raise InputError(
                    f"{shown(folder / 'features.json')} names the feature {brief(name)}, whose code"
                    " would have to be run; only TFDS's own features are read"
                )
    try:
        return tfds.builder_from_directory(folder)
    except Exception as error:  # what TFDS raises on damaged metadata is anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{shown(folder)}: not a readable data set ({reason})") from error


def dataset_recipe(folder: Path) -> dict[str, Any]:
    """Recipe that `dataset_writing` noted of a data set. Raises InputError if it is damaged."""
    remedy = "choose another folder, or --restart"
    return read_json(folder / "metadata.json", {"left_out": COUNT}, remedy=remedy)


def check_lengths(folder: Path, instructions: Any) -> None:
    """Compares dataset_info.json with the shards that a split reads (TFDS's file instructions).

    Raises InputError where a shard has another number of examples, or none could have so many. One
    that cannot be opened has its examples named one by one as they are asked for.
    """

    def fault(shard: Any) -> str | None:
        count, path = shard.examples_in_shard, os.fspath(shard.filename)
        size = os.path.getsize(path) if os.path.isfile(path) else 0
        found = _records(path) if size else None
        if 0 <= count <= size and found in (None, count):
            return None
        there = f"{found} are in it" if found is not None else f"it has {size} bytes"
        return f"gives {shown(Path(path).name)} {count} examples, and {there}"

    for wrong in map_in_threads(fault, instructions):
        if wrong:
            raise InputError(f"{shown(folder / INFO)} {wrong}; {_REMEDY}")


def _records(path: str) -> int | None:
    """Examples in an ArrayRecord file; None where it cannot be read."""
    try:
        reader = array_record_module.ArrayRecordReader(path, "readahead_buffer_size:0")
        return reader.num_records() if reader.ok() else None
    except Exception:  # says the one who asks for its examples
        return None


def _class_names(value: Any) -> Iterator[str]:
    """The classes that a description of features names, at any depth."""
    rest = [value]
    while rest:
        value = rest.pop()
        if isinstance(value, list):
            rest += value
        if not isinstance(value, dict):
            continue
        for key, inner in value.items():
            if isinstance(inner, str) and key in _CLASS_KEYS:
                yield inner
            elif isinstance(inner, str) and key in _NESTED_KEYS:
                rest.append(_nested(inner))
            else:
                rest.append(inner)


def _nested(text: str) -> Any:
    """JSON within a text; what is none names no class."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
