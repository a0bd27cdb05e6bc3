"""Tensors out of a `state_dict` that PyTorch before 1.6 saved, without PyTorch.

Such a file is five pickles, a number that all such files begin with, a version, facts of the
machine, the dictionary, and the names of its storages, and after them every storage: how many
numbers, and the numbers. The pickles are not run: `array_pickle` says how they are read, and
nothing is named in them but what tensors are made of.
"""

import io
import math
import struct
from pathlib import Path
from typing import IO, Any

import numpy as np

from posenet_jax.errors import InputError, one_line, shown
from posenet_jax.io.array_pickle import Machine
from posenet_jax.io.run_files import brief

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001

_STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
}
_MOST_AXES = 64


class _Storage:
    """Numbers that tensors are views of: their kind and how many, and where the file has them."""

    def __init__(self, dtype: str, count: int) -> None:
        self.dtype, self.count = np.dtype(dtype), count
        self.viewed = 0  # numbers of all tensors
        self.values = np.empty(0, dtype)


class _Tensor:
    """A view of a storage: number `start` and, along each axis, steps of so many numbers."""

    def __init__(self, storage: Any, start: Any, shape: Any, steps: Any, *_: Any) -> None:
        if not isinstance(storage, _Storage) or not _is_shape(shape) or not _is_shape(steps):
            raise ValueError("a tensor without a storage, or whose shape is not whole numbers")
        # All tensors together have no more numbers than the file: each becomes an array of its own.
        storage.viewed += math.prod(shape)
        if len(shape) != len(steps) or storage.viewed > storage.count:
            raise ValueError(f"a tensor of shape {brief(shape)} of {storage.count} numbers")
        last = sum((side - 1) * step for side, step in zip(shape, steps, strict=True))
        if (
            type(start) is not int
            or start < 0
            or (0 not in shape and start + last >= storage.count)
        ):
            raise ValueError(f"a tensor of shape {brief(shape)} beyond its storage")
        self.storage, self.start, self.shape, self.steps = storage, start, shape, steps

    def array(self) -> np.ndarray:
        """The numbers, once the storage has been read."""
        values = self.storage.values[self.start :]
        bytes_apart = [step * values.itemsize for step in self.steps]
        view = np.lib.stride_tricks.as_strided(values, self.shape, bytes_apart, writeable=False)
        return np.ascontiguousarray(view).reshape(self.shape)


def _is_shape(value: Any) -> bool:
    whole = isinstance(value, tuple) and len(value) <= _MOST_AXES
    return whole and all(type(side) is int and 0 <= side < 2**63 for side in value)


def _ordered(pairs: Any = ()) -> dict[str, Any]:
    """A dictionary without items, which follow, or of pairs, as Python 2 wrote it."""
    pairs = list(pairs) if isinstance(pairs, list | tuple) else [None]
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise ValueError("a dictionary that is not made of pairs")
    if not all(isinstance(name, str) for name, _ in pairs):
        raise ValueError("a dictionary whose keys are no texts")
    return dict(pairs)


class _TorchMachine(Machine):
    """Machine that knows dictionaries in order, storages and tensors besides plain values."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[str, _Storage] = {}

    def named(self, module: Any, name: Any) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return _ordered
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in _STORAGES:
            return name
        raise ValueError(f"it names {module}.{name}; only tensors are read")

    def persistent(self) -> None:
        (described,) = self.last(1)
        if not isinstance(described, tuple) or len(described) != 6 or described[0] != "storage":
            raise ValueError("it holds what is no storage of a tensor")
        _, kind, key, _, count, part = described
        if kind not in _STORAGES or not isinstance(key, str) or part is not None:
            raise ValueError("a storage of another kind than of numbers")
        if type(count) is not int or not 0 <= count < 2**40:
            raise ValueError(f"a storage of {brief(count)} numbers")
        storage = self.storages.setdefault(key, _Storage(_STORAGES[kind], count))
        if (storage.dtype, storage.count) != (np.dtype(_STORAGES[kind]), count):
            raise ValueError("a storage that is two of different kinds")
        self.push(storage)

    def reduce(self) -> None:
        function, arguments = self.last(2)
        if function not in (_ordered, _Tensor) or not isinstance(arguments, tuple):
            raise ValueError("it calls what makes no tensor")
        self.push(function(*arguments))

    def build(self) -> None:
        """Leaves out what a dictionary has beside its items: versions of the modules."""
        self.last(1)
        if not isinstance(self.stack[-1], dict):
            raise ValueError("it gives a state to what is no dictionary")


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Tensors by name, of a dictionary of tensors.

    Raises InputError for what is no such file, is cut short, or names anything but tensors.
    """
    try:
        # In memory, where a text takes no more room than the file has, whatever its length says.
        content = Path(path).read_bytes()
        return _read(io.BytesIO(content), len(content))
    except Exception as error:  # damaged bytes make each operation fail in its own way
        reason = one_line(error)
        raise InputError(
            f"{shown(path)} is not a state_dict of PyTorch before 1.6: {reason}"
        ) from error


def _read(file: IO[bytes], length: int) -> dict[str, np.ndarray]:
    if (Machine().run(file), Machine().run(file)) != (_MAGIC, _VERSION):
        raise ValueError("it does not begin as one")
    system = Machine().run(file)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("its numbers' first byte is not their lowest")
    machine = _TorchMachine()
    tensors = machine.run(file)
    if not isinstance(tensors, dict) or not all(isinstance(x, _Tensor) for x in tensors.values()):
        raise ValueError("it is no dictionary of tensors")
    for key in Machine().run(file):
        _fill(machine.storages[key], file, length)
    return {str(name): tensor.array() for name, tensor in tensors.items()}


def _fill(storage: _Storage, file: IO[bytes], length: int) -> None:
    (count,) = struct.unpack("<q", file.read(8))
    size = storage.count * storage.dtype.itemsize
    if count != storage.count or size > length - file.tell():
        raise ValueError("a storage is cut short")
    storage.values = np.frombuffer(file.read(size), storage.dtype)
