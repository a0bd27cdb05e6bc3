"""Checks of a caller's arguments before the first step: φ, targets, starts, jobs.

φ is any function from one image, float32 [H, W, 3] in network space, to one array of floating
numbers, the descriptor. Whatever else it is or returns is refused here with what to do instead:
inside the compiled step the same mistake would be named by its consequence.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.errors import TracerArrayConversionError

from posenet_jax.errors import InputError, one_line
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion.job_queues import Job
from posenet_jax.inversion.recipes import Recipe

Shape = tuple[int, ...]

_NUMBERS = 2**32  # an index or restart is folded into the key as 32 bits


def descriptor_shape(phi: Any, space: Preprocessing) -> Shape:
    """Returns the shape of φ of one image, without computing it.

    Raises InputError where φ is no function, fails on such an image, or returns anything but one
    array of floating numbers.
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
    if not isinstance(output, jax.ShapeDtypeStruct):
        raise InputError(f"phi returns {_container(output)}")
    if not jnp.issubdtype(output.dtype, jnp.floating):
        raise InputError(
            f"phi returns {output.dtype}, which has no gradient to follow: return floating numbers"
        )
    return output.shape


def _kind(value: Any) -> str:
    return type(value).__name__


def _container(output: Any) -> str:
    """Returns a description of φ's result that is no array, and how to choose one."""
    if isinstance(output, dict) and output:
        names = ", ".join(str(name) for name in output)
        first = next(iter(output))
        return f"a dict with keys {names}: return one array, for instance phi(x)[{first!r}]"
    if isinstance(output, tuple | list) and output:
        return f"a {_kind(output)} of {len(output)}: return one array, for instance phi(x)[0]"
    return f"a {_kind(output)}: return one array"


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


def checked_targets(targets: Any, expected: Shape) -> np.ndarray:
    """Targets [N, *expected] as float32. Raises InputError for others, or none."""
    array = as_targets(targets)
    if array.ndim < 1 or array.shape[0] == 0:
        raise InputError("there are no targets to invert")
    if array.shape[1:] != expected:
        raise InputError(
            f"targets have shape {list(array.shape)}; this encoder's descriptors need "
            f"[{', '.join(map(str, ('N', *expected)))}]"
        )
    bad = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(1))
    if bad.size:
        raise InputError(f"targets {bad[:10].tolist()} hold values that are not finite in float32")
    return array


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
        self, jobs: Iterable[Job], expected: Shape, space: Preprocessing, recipe: Recipe
    ) -> None:
        self._jobs, self._expected, self._space = jobs, expected, space
        self._choices = _choices(recipe)
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
        target = _one(as_targets(job.target, "a target"), self._expected, "target")
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
        for path, value in jax.tree_util.tree_leaves_with_path(recipe):
            if np.ndim(value):
                name, received = jax.tree_util.keystr(path).lstrip("."), list(np.shape(value))
                raise InputError(f"its recipe's {name} must be one number, not {received}")


def _choices(recipe: Recipe) -> dict[str, Any]:
    """Returns a recipe's static choices, which are the same for all jobs of a run."""
    fields = dataclasses.fields(recipe)
    static = [field.name for field in fields if not field.metadata.get("pytree_node", True)]
    return {name: getattr(recipe, name) for name in static}


def _one(array: np.ndarray, expected: Shape, name: str) -> np.ndarray:
    if array.shape != expected:
        raise InputError(f"its {name} has shape {list(array.shape)}, expected {list(expected)}")
    if not np.isfinite(array).all():
        raise InputError(f"its {name} holds values that are not finite in float32")
    return array
