"""Trees of arrays as safetensors, without pickle: every name and shape is checked.

A file holds one array a parameter, its name the path in the tree (`conv1/kernel`), and
metadata: texts by name.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from posenet_jax.errors import InputError
from posenet_jax.io.files import write_atomically


def fingerprint(tree: Any) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a tree of arrays, their names included."""
    digest = hashlib.sha256()
    for name, value in sorted(traverse_util.flatten_dict(tree, sep="/").items()):
        digest.update(name.encode())
        digest.update(np.asarray(value, np.float32).tobytes())
    return digest.hexdigest()[:16]


def write_tensors(path: str | Path, tree: Any, metadata: dict[str, str], dtype: str) -> None:
    """Writes a tree of arrays, whole or not at all. InputError names one not finite in `dtype`."""
    flat = traverse_util.flatten_dict(tree, sep="/")
    with np.errstate(over="ignore"):  # what overflows is refused below, by name
        tensors = {name: np.asarray(value, dtype) for name, value in flat.items()}
    for name, value in tensors.items():
        if not np.isfinite(value).all():
            raise InputError(f"{name} is not finite in {dtype}: not written to {path}")
    payload = save(tensors, metadata)
    write_atomically(Path(path), lambda file: file.write(payload))


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(arrays by name, float32; metadata). Raises InputError for what is no safetensors file."""
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {k: file.get_tensor(k).astype(np.float32) for k in file.keys()}
            return tensors, file.metadata() or {}
    except SafetensorError as error:
        raise InputError(f"{path} is not a readable safetensors file: {error}") from error


def checked_tree(path: Path, tensors: dict[str, np.ndarray], wanted: Any) -> dict[str, Any]:
    """The arrays as a tree; InputError names one that is not finite or not as `wanted` says."""
    shapes = traverse_util.flatten_dict(wanted, sep="/")
    check_arrays(path, tensors, {name: leaf.shape for name, leaf in shapes.items()})
    return jax.device_put(traverse_util.unflatten_dict(tensors, sep="/"))


Shape = tuple[int, ...]


def check_arrays(
    origin: str | Path, arrays: Mapping[str, np.ndarray], shapes: Mapping[str, Shape]
) -> None:
    """InputError names an array that is not finite, or not there and shaped as `shapes` says."""
    for name in sorted(set(shapes) ^ set(arrays)):
        fault = "is missing" if name in shapes else "is not a parameter of this network"
        raise InputError(f"{origin}: {name} {fault}")
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise InputError(f"{origin}: {name} has shape {arrays[name].shape}, expected {shape}")
        if not np.isfinite(arrays[name]).all():
            raise InputError(f"{origin}: {name} holds values that are not finite")
