"""Checks of a caller's arguments before the first step: φ, targets, starts, jobs.

φ is any function from one image, float32 [H, W, 3] in network space, to floating numbers, the
descriptor: one array or a pytree of them. Whatever else it is or returns is refused here with what
to do instead: inside the compiled step the same mistake would be named by its consequence.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.errors import TracerArrayConversionError
from jax.tree_util import keystr

from posenet_jax.errors import InputError, one_line
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion.job_queues import Job
from posenet_jax.inversion.recipes import Recipe

_NUMBERS = 2**32  # an index or restart is folded into the key as 32 bits


def descriptor_like(phi: Any, space: Preprocessing) -> Any:
    """Returns shapes and dtypes of φ of one image, in float32, without computing it.

    Raises InputError where φ is no function, fails on such an image, or returns anything but
    floating numbers.
    """
    if not callable(phi):
        layer = ": give one of its taps, .tap(layer)" if hasattr(phi, "tap") else ""
        raise InputError(f"phi must be a function of one image, not a {_kind(phi)}{layer}")
    size = [space.size, space.size, 3]
    try:
        output = jax.eval_shape(phi, jax.ShapeDtypeStruct(size, jnp.float32))
    except InputError:
        raise
    except Exception as error:  # a caller's function raises what it likes
        raise InputError(
            f"phi fails on one image, float32 {size} without a batch axis: "
            f"{type(error).__name__}: {one_line(error)}"
        ) from error
    layers = jax.tree_util.tree_leaves_with_path(output)
    if not layers:
        raise InputError(f"phi returns a {_kind(output)} without an array: return floating numbers")
    for path, layer in layers:
        if not jnp.issubdtype(layer.dtype, jnp.floating):
            raise InputError(
                f"phi returns {layer.dtype}{_place(path)}, which has no gradient to follow: return "
                "floating numbers"
            )
    return jax.tree.map(lambda layer: jax.ShapeDtypeStruct(layer.shape, jnp.float32), output)


def _place(path: tuple[Any, ...]) -> str:
    return f" at {keystr(path)}" if path else ""


def _kind(value: Any) -> str:
    return type(value).__name__


def as_targets(values: Any, name: str = "targets") -> np.ndarray:
    """Values as a float32 array on the host. Raises InputError for what is not floating numbers."""
    try:
        array = np.asarray(values)
    except TracerArrayConversionError:
        raise InputError(
            f"{name} traced by JAX: the engine drives its steps from the host and cannot be called "
            "inside jit, vmap or grad"
        ) from None
    except Exception as error:  # another library's array may refuse in its own way
        raise InputError(f"{name} of which NumPy makes no array: {one_line(error)}") from error
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise InputError(
            f"{name} of dtype {array.dtype}: give floating numbers, as descriptors of images are"
        )
    with np.errstate(over="ignore"):  # what overflows is not finite, and refused as that
        return array.astype(np.float32)


def checked_targets(targets: Any, like: Any) -> Any:
    """Returns targets in float32, arrays [N, ...]. Raises InputError for unusable ones, or none.

    like: shapes of one target, a pytree.
    """
    count: int | None = None

    def checked(path: tuple[Any, ...], own: jax.ShapeDtypeStruct, values: Any) -> np.ndarray:
        nonlocal count
        array, place = as_targets(values, f"targets{keystr(path)}"), _place(path)
        if array.ndim < 1 or array.shape[0] == 0:
            raise InputError("there are no targets to invert")
        count = count or len(array)
        if array.shape[1:] != own.shape:
            raise InputError(
                f"targets have shape {list(array.shape)}{place}; this encoder's descriptors need "
                f"[{', '.join(map(str, ('N', *own.shape)))}]"
            )
        if len(array) != count:
            raise InputError(f"targets have {len(array)} rows{place}, and {count} before that")
        bad = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(1))
        if bad.size:
            numbers = bad[:10].tolist()
            raise InputError(f"targets {numbers} hold values that are not finite in float32{place}")
        return array

    return _matched(checked, like, targets, "targets")


def _matched(checked: Callable[..., Any], like: Any, values: Any, name: str) -> Any:
    """Maps `checked`(path, shapes, values) over a pytree; InputError for another structure."""
    structure = jax.tree.structure(like)
    try:
        structure.flatten_up_to(values)
    except ValueError:
        wanted, received = (
            str(tree)[len("PyTreeDef(") : -1] for tree in (structure, jax.tree.structure(values))
        )
        raise InputError(f"{name} must be {wanted}, as descriptors are, not {received}") from None
    return jax.tree_util.tree_map_with_path(checked, like, values)


def check_leaf_weights(recipe: Recipe, like: Any) -> None:
    """Raises InputError for weights that are not a pytree like the descriptor."""
    if recipe.leaf_weights is not None:
        _matched(lambda *_: None, like, recipe.leaf_weights, "the recipe's leaf_weights")


def checked_starts(
    start: Any, recipe: Recipe, count: int, space: Preprocessing
) -> np.ndarray | list[None]:
    """Starts [N, H, W, 3] as float32, or N times None. Raises InputError where they do not fit."""
    if (recipe.start == "image") != (start is not None):
        wanted = "begins with images: give start" if start is None else "begins with noise alone"
        raise InputError(f"recipe {recipe.name!r} {wanted}")
    if start is None:
        return [None] * count
    array = as_targets(start, "start images")
    if array.shape != (count, space.size, space.size, 3) or not np.isfinite(array).all():
        raise InputError(
            f"start must be finite, [{count}, {space.size}, {space.size}, 3]; received "
            f"{list(array.shape)}"
        )
    return array


def check_key(key: Any) -> None:
    """Raises InputError for what is not one of JAX's random keys."""
    try:
        jax.eval_shape(lambda key: jax.random.fold_in(key, 0), key)
    except Exception as error:  # each kind of wrong key has an error of its own
        raise InputError(
            f"key must be one random key, such as jax.random.key(0), not {_described(key)}"
        ) from error


def _described(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"{value.dtype} {list(shape)}" if shape is not None else f"a {_kind(value)}"


class CheckedJobs:
    """The jobs of an iterator up to the first that cannot be inverted.

    That one ends the iteration, so that the jobs before it can be finished; `refuse` then raises
    the reason.
    """

    def __init__(
        self, jobs: Iterable[Job], like: Any, space: Preprocessing, recipe: Recipe
    ) -> None:
        self._jobs, self._like, self._space = jobs, like, space
        self._choices, self._structure = _choices(recipe), jax.tree.structure(recipe)
        self._refusal: InputError | None = None

    def __iter__(self) -> Iterator[Job]:
        for order, job in enumerate(self._jobs):
            if not isinstance(job, Job):
                self._refusal = InputError(f"at place {order} is a {_kind(job)} in place of a Job")
                return
            try:
                checked = self._checked(job)
            except InputError as error:
                self._refusal = InputError(f"job {job.index}: {error}")
                return
            yield checked

    def refuse(self) -> None:
        """Raises InputError if a job was refused."""
        if self._refusal:
            raise self._refusal

    def _checked(self, job: Job) -> Job:
        for name in ("index", "restart"):
            number = getattr(job, name)
            if not isinstance(number, int | np.integer) or not 0 <= number < _NUMBERS:
                raise InputError(f"its {name} must lie within 0 and {_NUMBERS - 1}, not {number}")
        if job.recipe is not None:
            self._check_recipe(job.recipe)
        target = _one_target(job.target, self._like)
        start = job.start
        if start is not None:
            side = self._space.size
            start = _one(as_targets(start, "a start image"), (side, side, 3), "start image")
        return dataclasses.replace(job, target=target, start=start)

    def _check_recipe(self, recipe: Recipe) -> None:
        choices = _choices(recipe)
        if choices != self._choices:
            other = [name for name, value in choices.items() if value != self._choices[name]]
            raise InputError(f"its recipe differs from the run's in {', '.join(other)}")
        if jax.tree.structure(recipe) != self._structure:
            raise InputError("its recipe has other priors or leaf_weights than the run's")
        for path, value in jax.tree_util.tree_leaves_with_path(recipe):
            if np.ndim(value):
                name, received = keystr(path).lstrip("."), list(np.shape(value))
                raise InputError(f"its recipe's {name} must be one number, not {received}")


def _choices(recipe: Recipe) -> dict[str, Any]:
    """Returns a recipe's static choices, which are the same for all jobs of a run."""
    fields = dataclasses.fields(recipe)
    static = [field.name for field in fields if not field.metadata.get("pytree_node", True)]
    return {name: getattr(recipe, name) for name in static}


def _one_target(values: Any, like: Any) -> Any:
    def checked(path: tuple[Any, ...], own: jax.ShapeDtypeStruct, values: Any) -> np.ndarray:
        name = f"target{keystr(path)}"
        return _one(as_targets(values, f"a {name}"), own.shape, name)

    return _matched(checked, like, values, "its target")


def _one(array: np.ndarray, expected: tuple[int, ...], name: str) -> np.ndarray:
    if array.shape != expected:
        raise InputError(f"its {name} has shape {list(array.shape)}, expected {list(expected)}")
    if not np.isfinite(array).all():
        raise InputError(f"its {name} holds values that are not finite in float32")
    return array
