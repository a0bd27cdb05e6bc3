"""NumPy arrays out of a pickle that may come from anywhere.

A pickle is a program: it names any function there is and calls it. Here three names are known,
those that NumPy's arrays are made of, and they lead to stand-ins that only remember what they were
given. Every other name is refused before anything is called.
"""

import io
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from posenet_jax.errors import InputError

# Kind and size of each number, as a pickled dtype names it.
_NUMBERS = ("f2", "f4", "f8")

# NumPy 2 renamed the module; files written by either are read.
_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")


class _Dtype:
    """Stands in for numpy.dtype: called with its name, then told its byte order."""

    def __init__(self, name: str, *_: Any) -> None:
        if name not in _NUMBERS:
            raise ValueError(f"an array of {name!r}; only {', '.join(_NUMBERS)} are read")
        self.name, self.order = name, "="

    def __setstate__(self, state: tuple) -> None:
        self.order = {"<": "<", ">": ">"}[state[1]]


class _Array:
    """Stands in for what NumPy begins an array with: empty, then told shape, dtype and bytes."""

    def __init__(self, *_: Any) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, column_major, content = state
        if not isinstance(dtype, _Dtype) or not isinstance(content, bytes):
            raise ValueError("an array whose content is not plain numbers")
        flat = np.frombuffer(content, np.dtype(dtype.order + dtype.name))
        if flat.size != math.prod(shape):
            raise ValueError(f"an array of shape {shape} with {flat.size} numbers")
        self.value = flat.reshape(shape, order="F" if column_major else "C")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy", "dtype"):
            return _Dtype
        if (module, name) == ("numpy", "ndarray"):
            return None  # only ever an argument of the next
        if module in _MODULES and name == "_reconstruct":
            return _Array
        raise pickle.UnpicklingError(f"it names {module}.{name}; only NumPy's arrays are read")


def read_arrays(path: str | Path) -> Any:
    """Dictionaries, lists, tuples, texts and numbers as they are; float arrays as NumPy's.

    Raises InputError for what is no such pickle, is cut short, or names anything else.
    """
    try:
        return _plain(_Unpickler(io.BytesIO(Path(path).read_bytes())).load())
    except OSError:
        raise
    except Exception as error:  # pickle raises whatever damaged bytes make its operations raise
        raise InputError(f"{path} is not a pickle of arrays: {error}") from error


def _plain(value: Any) -> Any:
    """The value with arrays for their stand-ins."""
    if isinstance(value, _Array):
        if value.value is None:
            raise ValueError("an array without content")
        return value.value
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    if value is None or isinstance(value, str | bytes | int | float):
        return value
    raise ValueError(f"it holds a {type(value).__name__}")
