"""NumPy arrays out of a pickle that may come from anywhere.

A pickle is a program for a small machine, which may name any function there is and call it. That
machine is not run here. Its operations are read one after another, and those that make containers,
numbers, texts and arrays are carried out on stand-ins; any other, and any other name than the three
that NumPy's arrays are made of, is refused.

No operation takes more memory or time than the bytes it came with. Python's own reader would: for
the place in which a value is to be remembered, the length of a bytearray, a key of nested tuples.
"""

import io
import math
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from posenet_jax.errors import InputError, one_line, shown
from posenet_jax.io.run_files import brief

# Kind and size of each number, as a pickled dtype names it.
_NUMBERS = ("f2", "f4", "f8")

# NumPy 2 renamed the module; files written by either are read.
_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")

_MOST_AXES = 64  # as in NumPy
_KEYS = (str, bytes, int, float, type(None))


class _Dtype:
    """Stands in for numpy.dtype: called with its name, then told its byte order."""

    def __init__(self, name: Any, *_: Any) -> None:
        if name not in _NUMBERS:
            raise ValueError(f"an array of {brief(name)}; only {', '.join(_NUMBERS)} are read")
        self.name, self.order = name, "="

    def build(self, state: Any) -> None:
        if state[1] not in ("<", ">"):
            raise ValueError("numbers of no known byte order")
        self.order = state[1]


class _Array:
    """Stands in for what NumPy begins an array with: empty, then told shape, dtype and bytes."""

    def __init__(self, *_: Any) -> None:
        self.value: np.ndarray | None = None

    def build(self, state: Any) -> None:
        _, shape, dtype, column_major, content = state
        if not isinstance(dtype, _Dtype) or not isinstance(content, bytes):
            raise ValueError("an array whose content is not plain numbers")
        whole = type(shape) is tuple and len(shape) <= _MOST_AXES
        if not whole or not all(type(side) is int and 0 <= side < 2**63 for side in shape):
            raise ValueError("an array whose shape is not a few whole numbers")
        flat = np.frombuffer(content, np.dtype(dtype.order + dtype.name))
        if flat.size != math.prod(shape):
            raise ValueError(f"an array of shape {brief(shape)} with {flat.size} numbers")
        self.value = flat.reshape(shape, order="F" if column_major else "C")


_NDARRAY = object()  # stands in for numpy.ndarray, only ever an argument of `_reconstruct`


def _named(module: Any, name: Any) -> Any:
    if (module, name) == ("numpy", "dtype"):
        return _Dtype
    if (module, name) == ("numpy", "ndarray"):
        return _NDARRAY
    if module in _MODULES and name == "_reconstruct":
        return _Array
    raise ValueError(f"it names {module}.{name}; only NumPy's arrays are read")


def read_arrays(path: str | Path) -> Any:
    """Dictionaries, lists, tuples, texts and numbers as they are; float arrays as NumPy's.

    Raises InputError for what is no such pickle, is cut short, or names anything else.
    """
    content = Path(path).read_bytes()
    try:
        return _plain(Machine().run(io.BytesIO(content)), {})
    except Exception as error:  # damaged bytes make each operation fail in its own way
        reason = one_line(error)
        raise InputError(f"{shown(path)} is not a pickle of arrays: {reason}") from error


# The machine ------------------------------------------------------------------------------------


class Machine:
    """A stack of values, the stacks set aside at marks, and the values remembered by number."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self, content: IO[bytes]) -> Any:
        """Value that the operations leave behind, in a file that is read to their end."""
        for operation, argument, _ in pickletools.genops(content):
            name = operation.name
            if name == "STOP":
                return self.stack.pop()
            if name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name] if argument is None else argument)
            elif name in _OPERATIONS:
                _OPERATIONS[name](self, argument)
            elif name not in ("PROTO", "FRAME"):
                raise ValueError(f"its operation {name} is not one of arrays")
        raise ValueError("it has no end")

    def named(self, module: Any, name: Any) -> Any:
        """Stand-in for what the pickle names. Raises ValueError where there is none."""
        return _named(module, name)

    def persistent(self) -> None:
        """Puts what the value on top of the stack describes in its place."""
        raise ValueError("it holds what is kept outside of it")

    def since_mark(self) -> list[Any]:
        """The values on the stack above the last mark, which go with it."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def last(self, count: int) -> list[Any]:
        """So many values from the top of the stack, which go."""
        if len(self.stack) < count:
            raise ValueError("it takes more than there is")
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def remember(self, number: int) -> None:
        self.memo[number] = self.stack[-1]

    def recall(self, number: int) -> None:
        if number not in self.memo:
            raise ValueError("it recalls a value that it has not remembered")
        self.stack.append(self.memo[number])

    def extend(self, items: list[Any]) -> None:
        """Puts items at the end of the list on top of the stack."""
        if type(self.stack[-1]) is not list:
            raise ValueError("it appends to what is no list")
        self.stack[-1].extend(items)

    def update(self, items: list[Any]) -> None:
        """Puts keys and values, in turn, in the dictionary on top of the stack."""
        if type(self.stack[-1]) is not dict:
            raise ValueError("it puts a key in what is no dictionary")
        self.stack[-1].update(_dictionary(items))

    def reduce(self) -> None:
        function, arguments = self.last(2)
        if function not in (_Dtype, _Array) or type(arguments) is not tuple:
            raise ValueError("it calls what is no function of arrays")
        self.push(function(*arguments))

    def build(self) -> None:
        (state,) = self.last(1)
        if not isinstance(self.stack[-1], _Dtype | _Array) or type(state) is not tuple:
            raise ValueError("it gives a state to what is no array")
        self.stack[-1].build(state)


def _dictionary(items: list[Any]) -> dict[Any, Any]:
    keys = items[::2]
    if not all(isinstance(key, _KEYS) for key in keys):
        raise ValueError("a dictionary whose keys are neither texts nor numbers")
    return dict(zip(keys, items[1::2], strict=True))


# Operations that put their argument on the stack, or where they have none, this.
_CONSTANTS: dict[str, Any] = {
    **dict.fromkeys(("INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1", "LONG4")),
    **dict.fromkeys(("FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING")),
    **dict.fromkeys(("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8")),
    **dict.fromkeys(("SHORT_BINBYTES", "BINBYTES", "BINBYTES8")),
    **{"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()},
}

_OPERATIONS: dict[str, Callable[[Machine, Any], object]] = {
    "MARK": lambda machine, _: machine.mark(),
    "POP": lambda machine, _: machine.last(1),
    "POP_MARK": lambda machine, _: machine.since_mark(),
    "DUP": lambda machine, _: machine.push(machine.stack[-1]),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.last(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.last(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.last(3))),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "LIST": lambda machine, _: machine.push(machine.since_mark()),
    "DICT": lambda machine, _: machine.push(_dictionary(machine.since_mark())),
    "APPEND": lambda machine, _: machine.extend(machine.last(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.update(machine.last(2)),
    "SETITEMS": lambda machine, _: machine.update(machine.since_mark()),
    "MEMOIZE": lambda machine, _: machine.remember(len(machine.memo)),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), Machine.remember),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), Machine.recall),
    "GLOBAL": lambda machine, names: machine.push(machine.named(*names.split(" ", 1))),
    "STACK_GLOBAL": lambda machine, _: machine.push(machine.named(*machine.last(2))),
    "BINPERSID": lambda machine, _: machine.persistent(),
    "REDUCE": lambda machine, _: machine.reduce(),
    "BUILD": lambda machine, _: machine.build(),
}


# What it leaves ---------------------------------------------------------------------------------

_UNDONE = object()


def _plain(value: Any, done: dict[int, Any]) -> Any:
    """The value with arrays for their stand-ins.

    done: what each container became, by its id: what is named a thousand times is built once, and
    what holds itself is refused.
    """
    if isinstance(value, _Array):
        if value.value is None:
            raise ValueError("an array without content")
        return value.value
    if isinstance(value, dict | list | tuple):
        if id(value) not in done:
            done[id(value)] = _UNDONE
            done[id(value)] = _plain_items(value, done)
        if done[id(value)] is _UNDONE:
            raise ValueError(f"it holds a {type(value).__name__} that holds itself")
        return done[id(value)]
    if isinstance(value, _KEYS):
        return value
    raise ValueError("it holds parts of an array alone")


def _plain_items(value: Any, done: dict[int, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item, done) for key, item in value.items()}
    return type(value)(_plain(item, done) for item in value)
