"""The library's own numerics, whatever its caller has set in `jax.config`.

A caller may work in 64 bits, forbid implicit promotion of dtypes, stop at the first value that is
not finite, or draw from another generator. Nothing here changes that: configuration is set aside
for a call, in its thread, and stands again when it returns. Programs that run a caller's own
function spell their dtypes out instead, so that it still finds the caller's configuration.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp

Array = jax.Array
_NARROW = {"float64": "float32", "int64": "int32", "uint64": "uint32", "complex128": "complex64"}

P = ParamSpec("P")
R = TypeVar("R")


def own_dtypes(function: Callable[P, R]) -> Callable[P, R]:
    """The function in 32 bits, with JAX's standard promotion of dtypes; values may be infinite.

    So are its arguments, where they are JAX's arrays of 64 bits.
    """

    @functools.wraps(function)
    def scoped(*args: P.args, **kwargs: P.kwargs) -> R:
        args, kwargs = jax.tree.map(_narrowed, (args, kwargs))
        with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), not_finite_allowed():
            return function(*args, **kwargs)

    return scoped


def _narrowed(leaf: Any) -> Any:
    narrow = _NARROW.get(str(leaf.dtype)) if isinstance(leaf, jax.Array) else None
    return leaf.astype(narrow) if narrow else leaf


@contextlib.contextmanager
def not_finite_allowed() -> Iterator[None]:
    """For calls in which infinity or NaN is a value with a meaning, not a mistake.

    JAX would stop there, or run a program again whose arguments it has given away.
    """
    with jax.debug_nans(False), jax.debug_infs(False):
        yield


def seed_key(seed: int | Array) -> Array:
    """The key of a seed: of the same generator everywhere, or seeds would name nothing."""
    return jax.random.key(seed, impl="threefry2x32")


@jax.jit
def copied(tree: Any) -> Any:
    """Returns a copy of every array of a tree, all by one program."""
    return jax.tree.map(jnp.copy, tree)


def as_float32(values: Array) -> Array:
    """Floating values in 32 bits; others as they are."""
    values = jnp.asarray(values)
    return values.astype(jnp.float32) if jnp.issubdtype(values.dtype, jnp.floating) else values
