"""Tensors out of a file that `torch.save` wrote before version 1.6, without PyTorch.

Such a file is a row of pickles (a magic number, the protocol, the writer's sizes, the object, the
keys of its storages), then each storage's length and bytes. The pickles are read, not run, as in
`array_pickle`; of names only those of a state_dict with tensors of plain numbers are let through.
"""

import io
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from posenet_jax.errors import InputError, one_line, shown
from posenet_jax.io.array_pickle import Machine
from posenet_jax.io.run_files import brief

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001

_STORAGES = {
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "DoubleStorage": np.dtype("<f8"),
    "LongStorage": np.dtype("<i8"),
}


class _Storage(NamedTuple):
    """Numbers after the pickles, by their key."""

    key: str
    dtype: np.dtype
    length: int


class _Tensor(NamedTuple):
    """A view of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _ordered(items: Any = None) -> dict[Any, Any]:
    if items is None:  # they follow, as those of any dictionary
        return {}
    if type(items) is not list or not all(type(x) is list and len(x) == 2 for x in items):
        raise ValueError("a dictionary that is not made of pairs")
    if not all(isinstance(key, str) for key, _ in items):
        raise ValueError("a dictionary whose keys are no texts")
    return dict(items)


def _rebuilt(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor without a storage")
    numbers = (offset, *shape, *strides) if type(shape) is type(strides) is tuple else (-1,)
    if len(shape) != len(strides) or not all(type(x) is int and 0 <= x < 2**63 for x in numbers):
        raise ValueError("a tensor whose shape is not a few whole numbers")
    steps = (math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    contiguous = all(
        side == 1 or stride == step
        for side, stride, step in zip(shape, strides, steps, strict=True)
    )
    if not contiguous or offset + math.prod(shape) > storage.length:
        raise ValueError(f"a tensor of shape {brief(shape)} that is no whole part of its storage")
    return _Tensor(storage, offset, shape, strides)


class _TorchMachine(Machine):
    """Reads the pickle of a state_dict."""

    def named(self, module: Any, name: Any) -> Any:
        known = {
            ("collections", "OrderedDict"): _ordered,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuilt,
        }
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) not in known:
            raise ValueError(f"it names {module}.{name}; only a state_dict's tensors are read")
        return known[module, name]

    def persistent(self) -> None:
        (key,) = self.last(1)
        if type(key) is not tuple or len(key) != 6 or key[0] != "storage":
            raise ValueError("a storage without a key")
        _, dtype, name, _, length, view = key
        if not isinstance(dtype, np.dtype) or not isinstance(name, str) or view is not None:
            raise ValueError("a storage that is not plain numbers")
        if type(length) is not int or length < 0:
            raise ValueError("a storage of no length")
        self.push(_Storage(name, dtype, length))

    def reduce(self) -> None:
        function, arguments = self.last(2)
        if function not in (_ordered, _rebuilt) or type(arguments) is not tuple:
            raise ValueError("it calls what is no function of tensors")
        self.push(function(*arguments))

    def build(self) -> None:
        self.last(1)  # `_metadata` of a state_dict: the versions of its layers
        if type(self.stack[-1]) is not dict:
            raise ValueError("it gives a state to what is no state_dict")


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Tensors of a state_dict by their names.

    Raises InputError for what is no such file, is cut short, or names anything else.
    """
    try:
        with Path(path).open("rb") as file:
            return _state_dict(file.read())
    except Exception as error:  # damaged bytes make each operation fail in its own way
        if isinstance(error, OSError):
            raise
        message = f"{shown(path)} is no state_dict of PyTorch before 1.6: {one_line(error)}"
        raise InputError(message) from error


def _state_dict(content: bytes) -> dict[str, np.ndarray]:
    file = io.BytesIO(content)
    magic, protocol, sizes, tensors, keys = (_TorchMachine().run(file) for _ in range(5))
    if magic != _MAGIC or protocol != _PROTOCOL or sizes.get("little_endian") is not True:
        raise ValueError("its first numbers are others")
    if type(tensors) is not dict or not all(isinstance(x, _Tensor) for x in tensors.values()):
        raise ValueError("it does not hold tensors by their names")
    dtypes = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    storages = {key: _numbers(file, dtypes[key]) for key in keys}
    return {name: _array(tensor, storages[tensor.storage.key]) for name, tensor in tensors.items()}


def _numbers(file: io.BytesIO, storage: _Storage) -> np.ndarray:
    """The next storage in the file."""
    length = int.from_bytes(file.read(8), "little")
    content = file.read(storage.length * storage.dtype.itemsize)
    if length != storage.length or len(content) != storage.length * storage.dtype.itemsize:
        raise ValueError("it is cut short")
    return np.frombuffer(content, storage.dtype)


def _array(tensor: _Tensor, storage: np.ndarray) -> np.ndarray:
    end = tensor.offset + math.prod(tensor.shape)
    return storage[tensor.offset : end].reshape(tensor.shape)
