"""Trees of arrays as safetensors, without pickle: every name and shape is checked.

A file holds one array a parameter, its name the path in the tree (`conv1/kernel`), and
metadata: texts by name.
"""

import hashlib
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from safetensors import safe_open
from safetensors.numpy import save

from posenet_jax.errors import InputError, one_line, shown
from posenet_jax.io import storage
from posenet_jax.io.files import write_atomically
from posenet_jax.io.run_files import brief

Shape = tuple[int, ...]

# As a header names them. Numbers of 8 bits are left out: they stand for others only with a scale.
_READABLE = frozenset(
    ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")
)

_WRITTEN = ("float16", "float32", "float64")

_PYTORCH = (
    "a file of PyTorch, a pickle, which can run any program and is not opened: load it where that "
    "is safe and write its state_dict with safetensors.torch.save_file"
)
# The number that older files begin with, pickled.
_PYTORCH_BEFORE_1_6 = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)[:-1]


def fingerprint(tree: Any) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a tree of arrays, their names included."""
    digest = hashlib.sha256()
    for name, value in sorted(traverse_util.flatten_dict(tree, sep="/").items()):
        digest.update(name.encode())
        digest.update(np.asarray(value, np.float32).tobytes())
    return digest.hexdigest()[:16]


def write_tensors(path: str | Path, tree: Any, metadata: dict[str, str], dtype: str) -> None:
    """Writes a tree of arrays, whole or not at all. InputError names one not finite in `dtype`."""
    if dtype not in _WRITTEN:
        raise InputError(f"weights are written as {' or '.join(_WRITTEN)}, not as {dtype!r}")
    flat = traverse_util.flatten_dict(tree, sep="/")
    with np.errstate(over="ignore"):  # what overflows is refused below, by name
        # safetensors writes an array's memory as it lies: a transposed one would come out wrong.
        tensors = {name: np.asarray(value, dtype, order="C") for name, value in flat.items()}
    for name, value in tensors.items():
        if not np.isfinite(value).all():
            raise InputError(f"{name} is not finite in {dtype}: not written to {path}")
    payload = save(tensors, metadata)
    write_atomically(path, lambda file: file.write(payload))


def read_tensors(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(arrays by name, float32; metadata). Raises InputError for what is no safetensors file, and
    names an array of another kind of number.
    """
    try:
        with storage.local_copy(path) as copy:
            return _read(copy, path)
    except OSError as error:
        raise InputError(f"{shown(path)} cannot be read ({error.strerror or error})") from error


def _read(copy: Path, path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """`read_tensors` of a local copy of the file that messages name."""
    try:
        with safe_open(copy, framework="numpy") as file:
            tensors = {name: _tensor(file, name) for name in file.keys()}
            return tensors, file.metadata() or {}
    except InputError as error:
        raise InputError(f"{shown(path)}: {error}") from error
    except OSError:
        raise
    except Exception as error:  # a damaged header reaches NumPy as shapes of any kind
        if other := _other_format(copy):
            raise InputError(f"{shown(path)} is {other}") from error
        reason = one_line(error)
        raise InputError(f"{shown(path)} is not a readable safetensors file: {reason}") from error


def _tensor(file: Any, name: str) -> np.ndarray:
    dtype = file.get_slice(name).get_dtype()
    if dtype not in _READABLE:
        raise InputError(
            f"{named(name)} is of dtype {dtype}, which is not read: convert it to float32"
        )
    with np.errstate(over="ignore"):  # what overflows is refused by `check_arrays`, by name
        return file.get_tensor(name).astype(np.float32)


def named(name: str) -> str:
    """An array's name as a message shows it, whatever a file says it is."""
    return name if name.isprintable() and 0 < len(name) <= 120 else brief(name)


def _other_format(path: str | Path) -> str | None:
    """Kind of another file, by its first bytes, and what to do; None where not known."""
    with open(path, "rb") as file:
        start = file.read(16)
    if start.startswith(b"PK\x03\x04"):
        return _PYTORCH if _zips_a_pickle(path) else "a zip archive, not a safetensors file"
    if start.startswith(_PYTORCH_BEFORE_1_6):
        return _PYTORCH
    if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05":
        return "a pickle, which can run any program and is not opened: write safetensors instead"
    return "an HDF5 file, not a safetensors file" if start.startswith(b"\x89HDF") else None


def _zips_a_pickle(path: str | Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("data.pkl") for name in archive.namelist())
    except Exception:  # a damaged archive's directory may be anything
        return False


def checked_tree(path: Path, tensors: dict[str, np.ndarray], wanted: Any) -> dict[str, Any]:
    """The arrays as a tree; InputError names one that is not finite or not as `wanted` says."""
    tree = traverse_util.unflatten_dict(_checked(shown(path), tensors, wanted), sep="/")
    return jax.device_put(tree)


def check_tree(origin: str | Path, tree: Any, wanted: Any) -> None:
    """InputError names an array of a tree that is not finite or not as `wanted` says."""
    _checked(origin, traverse_util.flatten_dict(tree, sep="/"), wanted)


def _checked(origin: str | Path, arrays: Mapping[str, Any], wanted: Any) -> Mapping[str, Any]:
    shapes = traverse_util.flatten_dict(wanted, sep="/")
    check_arrays(origin, arrays, {name: leaf.shape for name, leaf in shapes.items()})
    return arrays


def check_arrays(
    origin: str | Path, arrays: Mapping[str, np.ndarray], shapes: Mapping[str, Shape]
) -> None:
    """InputError names an array that is not finite, or not there and shaped as `shapes` says."""
    for name in sorted(set(shapes) ^ set(arrays)):
        fault = "is missing" if name in shapes else "is not a parameter of this network"
        raise InputError(f"{origin}: {named(name)} {fault}")
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            received = brief(arrays[name].shape)
            raise InputError(f"{origin}: {name} has shape {received}, expected {shape}")
        if not np.isfinite(arrays[name]).all():
            raise InputError(f"{origin}: {name} holds values that are not finite")
