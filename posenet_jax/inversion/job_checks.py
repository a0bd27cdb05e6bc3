"""Checks of jobs, each when it is taken."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.tree_util import keystr

from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import encode_checks, grey_levels
from posenet_jax.inversion.encode_checks import as_targets
from posenet_jax.inversion.job_queues import Job
from posenet_jax.inversion.recipes import Recipe

_NUMBERS = 2**32  # an index or restart is folded into the key as 32 bits


class CheckedJobs:
    """The jobs of an iterator up to the first that cannot be inverted.

    That one ends the iteration, so that the jobs before it can be finished; `refuse` then raises
    the reason.
    """

    def __init__(
        self, jobs: Iterable[Job], descriptor: Any, space: Preprocessing, recipe: Recipe
    ) -> None:
        """descriptor: its shapes."""
        self._jobs, self._descriptor, self._space, self._recipe = jobs, descriptor, space, recipe
        self._target: Any = None  # shapes of the first, which all have
        self._choices = _choices(recipe)
        self._structure: Any = jax.tree.structure(recipe)
        self._refusal: InputError | None = None

    def __iter__(self) -> Iterator[Job]:
        for order, job in enumerate(self._jobs):
            if not isinstance(job, Job):
                kind = encode_checks.kind_of(job)
                self._refusal = InputError(f"at place {order} is a {kind} in place of a Job")
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
        if self._target is None:
            self._target = self._shapes(job)
        target = _target(job.target, self._target)
        start = job.start
        if start is not None:
            start = _one(as_targets(start, "a start image"), self._space.shape, "start image")
            start = np.asarray(grey_levels.start_of(start, self._space))
        return dataclasses.replace(job, target=target, start=start)

    def _shapes(self, first: Job) -> Any:
        """Returns the shapes of all targets; InputError where they do not fit the objective."""
        like = encode_checks.target_like(self._recipe, self._descriptor, first.target)
        encode_checks.check_objective(self._recipe, self._descriptor, like, self._space)
        return like

    def _check_recipe(self, recipe: Recipe) -> None:
        choices = _choices(recipe)
        if choices != self._choices:
            other = [name for name, value in choices.items() if value != self._choices[name]]
            raise InputError(f"its recipe differs from the run's in {', '.join(other)}")
        if self._structure != jax.tree.structure(recipe):
            raise InputError(
                "its recipe has other priors or leaf_weights, other transforms, or one of the two "
                "alone a low_precision_share or a first_decay, than the run's"
            )
        encode_checks.check_numbers(recipe, "its recipe's")


def _choices(recipe: Recipe) -> dict[str, Any]:
    """Returns a recipe's static choices, which are the same for all jobs of a run."""
    fields = dataclasses.fields(recipe)
    static = [field.name for field in fields if not field.metadata.get("pytree_node", True)]
    return {name: getattr(recipe, name) for name in static}


def _target(values: Any, like: Any) -> Any:
    def checked(path: tuple[Any, ...], own: jax.ShapeDtypeStruct, values: Any) -> np.ndarray:
        name = f"target{keystr(path)}"
        return _one(as_targets(values, f"a {name}"), own.shape, name)

    return encode_checks.matched(checked, like, values, "its target")


def _one(array: np.ndarray, expected: tuple[int, ...], name: str) -> np.ndarray:
    if array.shape != expected:
        raise InputError(f"its {name} has shape {list(array.shape)}, expected {list(expected)}")
    if not np.isfinite(array).all():
        raise InputError(f"its {name} holds values that are not finite in float32")
    return array
