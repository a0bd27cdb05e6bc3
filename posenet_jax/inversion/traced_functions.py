"""A caller's function as an argument of a compiled program.

A pytree's arrays are arguments of the program, so that other weights do not compile it again. What
else it holds (activations, names, switches: an Equinox module's leaves are of every kind) belongs
to the program itself. A function that is no pytree is compiled in as a whole.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import struct


@struct.dataclass
class _Split:
    """A callable pytree in two: its arrays, and everything else."""

    arrays: list[Any]  # one a leaf; None where it is static
    static: Any = struct.field(pytree_node=False)  # one a leaf; None where it is an array
    structure: Any = struct.field(pytree_node=False)

    def __call__(self, *args: Any) -> Any:
        pairs = zip(self.arrays, self.static, strict=True)
        leaves = [array if rest is None else rest.value for array, rest in pairs]
        return jax.tree.unflatten(self.structure, leaves)(*args)


class _Static:
    """A value that belongs to a program: told from others by equality, or if it must by identity.

    Values of different types are different programs, though 1 == 1.0 == True.
    """

    def __init__(self, value: Any) -> None:
        self.value = value
        try:
            self._key = (type(value), hash(value))
            self._hashable = True
        except TypeError:
            self._key = (type(value), id(value))
            self._hashable = False

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Static) or self._key != other._key:
            return False
        same = self.value is other.value
        return same or (self._hashable and bool(self.value == other.value))

    def __call__(self, *args: Any) -> Any:
        return self.value(*args)


def as_argument(function: Callable[..., Any]) -> Any:
    """Returns what `jit` takes as an argument: a pytree of arrays that can be called.

    A `Tap`, or whatever else has a method `prepared`, as that makes it: quick to call many times.
    """
    if hasattr(function, "prepared"):
        return function.prepared()
    leaves, structure = jax.tree.flatten(function)
    if len(leaves) == 1 and leaves[0] is function:
        return jax.tree_util.Partial(_Static(function))
    if all(map(_is_array, leaves)):
        return function
    arrays = [leaf if _is_array(leaf) else None for leaf in leaves]
    static = tuple(None if _is_array(leaf) else _Static(leaf) for leaf in leaves)
    return _Split(arrays, static, structure)


def _is_array(leaf: Any) -> bool:
    if isinstance(leaf, np.ndarray | np.generic):
        return leaf.dtype.kind not in "OSUMm"  # objects, texts and times, which JAX has none of
    return isinstance(leaf, jax.Array)
