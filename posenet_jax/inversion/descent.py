"""Inversion by optimisation of one image: its first iterate, its learning rate, one step.

Unbatched: `engine` batches them, puts the batch on the devices and drives the steps. Images are
[H, W, C] in grey levels about the mean colour, in the network's order of channels (`grey_levels`):
of an encoder that reads grey levels they are in network space.
"""

import functools
import operator
from collections.abc import Callable
from enum import IntEnum
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax
from flax import struct

from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import data_terms, objective, parameterisations, transforms
from posenet_jax.inversion.clipping import clip_small_contributions, contributions
from posenet_jax.inversion.recipes import TRANSFORMED_SHARE, Recipe
from posenet_jax.inversion.shapes import Count, Descriptor, Flag, Image, Scalar, Target

Encode = Callable[[Image], Descriptor]
Tree = TypeVar("Tree")

_IMPROVEMENT = 1e-3  # fraction of the loss by which it must fall, or the image stalls


class Status(IntEnum):
    """Why an image's steps ended."""

    RUNNING = 0
    CONVERGED = 1  # its relative loss reached the recipe's tolerance
    OUT_OF_STEPS = 2
    NOT_FINITE = (
        3  # loss or gradient stopped being a number; the best image before that is the result
    )
    STALLED = 4  # no improvement of its loss for the recipe's patience

    @property
    def sentence(self) -> str:
        return self.name.lower().replace("_", " ")


@struct.dataclass
class State:
    """All that the next step needs, for one image."""

    parameters: Any  # of the next iterate: with `pixels` its image
    moments: optax.ScaleByAdamState  # each like the parameters
    steps: Count  # iterates evaluated
    status: Count  # a Status
    best: "Best"
    reference_loss: Scalar  # loss of the last improvement, by more than _IMPROVEMENT of it
    stalled: Count  # steps since then
    seed: jax.Array | None = None  # [2] uint32 of the transforms' keys, where there are any


@struct.dataclass
class Best:
    """The iterate with the lowest loss so far."""

    image: Image
    loss: Scalar  # the objective
    relative_loss: Scalar  # eq. 3, see `data_terms.errors`
    descriptor_error: Scalar  # ‖φ - φ0‖ / ‖φ0‖


def init(
    key: jax.Array,
    recipe: Recipe,
    space: Preprocessing,
    start: Image | None = None,
    target: Target | None = None,
) -> State:
    """Returns the first iterate: noise about `start`, or about the mean colour.

    key: decides the noise; the engine's is `groups.restart_key`. target: for parameterisations that
    begin with it.
    """
    noise = jax.random.normal(key, space.shape, jnp.float32)
    image = jnp.asarray(recipe.start_deviation, jnp.float32) * noise
    if start is not None:
        image = start + image
    best = Best(
        image=image,
        # Dtypes are spelt out: a weakly typed first state would compile every step twice.
        loss=jnp.full((), jnp.inf, jnp.float32),
        relative_loss=jnp.full((), jnp.inf, jnp.float32),
        descriptor_error=jnp.full((), jnp.inf, jnp.float32),
    )
    moved = parameterisations.of(recipe.parameterisation)
    parameters = moved.begin(key, target) if moved.begin else moved.parameters(image)
    return State(
        parameters=parameters,
        moments=_adam(recipe).init(parameters),
        steps=jnp.zeros((), jnp.int32),
        status=jnp.zeros((), jnp.int32),  # RUNNING
        best=best,
        reference_loss=jnp.full((), jnp.inf, jnp.float32),
        stalled=jnp.zeros((), jnp.int32),
        seed=_seed(key) if recipe.transforms else None,
    )


def _seed(key: jax.Array) -> jax.Array:
    """Returns numbers in place of a key, of which a state on the host cannot have an array."""
    return jax.random.bits(jax.random.fold_in(key, 2**31), (2,), jnp.uint32)


def _adam(recipe: Recipe) -> optax.GradientTransformation:
    return optax.scale_by_adam(recipe.beta1, recipe.beta2, recipe.epsilon)


def learning_rate(steps: Count, recipe: Recipe) -> Scalar:
    """Returns the learning rate of the step after `steps` of them, warm-up and decay included."""
    done = steps.astype(jnp.float32)
    full = recipe.learning_rate * jnp.minimum(1.0, (done + 1) / jnp.maximum(recipe.warmup, 1))
    if recipe.schedule == "constant":
        return full
    length: Scalar | int = recipe.steps
    if recipe.first_decay is not None:
        first = jnp.minimum(recipe.first_decay, recipe.steps)
        again = done >= first
        length = jnp.where(again, jnp.maximum(recipe.steps - first, 1.0), first)
        done = jnp.where(again, done - first, done)
    progress = jnp.clip(done / length, 0.0, 1.0)
    decay = 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
    return full * (recipe.final_rate + (1.0 - recipe.final_rate) * decay)


def _move(state: State, gradient: Any, recipe: Recipe) -> tuple[Any, optax.ScaleByAdamState]:
    """Adam's step, then small-contribution clipping.

    The contributions take the gradient from before the step and the pixels from after it: with the
    pixels from before it, a pixel once at zero would contribute nothing and stay there for good.
    """
    with jax.numpy_dtype_promotion("standard"):  # Optax multiplies whole numbers by fractions
        update, moments = _adam(recipe).update(gradient, state.moments)
    rate = learning_rate(state.steps, recipe)
    parameters = jax.tree.map(lambda old, change: old - rate * change, state.parameters, update)
    if recipe.clipping:  # of pixels, as `Recipe` sees to
        contribution = contributions(gradient, parameters)
        parameters = clip_small_contributions(parameters, contribution, recipe.clip_percentile)
    return parameters, moments


def step(
    state: State,
    target: Target,
    recipe: Recipe,
    *,
    encode: Encode,
    repulsion: Callable[[Image], Scalar] | None = None,
) -> State:
    """Evaluates the iterate, records it if it is the best so far, and makes the next one.

    An image whose status is not RUNNING stays as it is. repulsion: of an image, which moves it away
    from others (`groups`) and has no part in the objective that is recorded.
    """

    image_of = parameterisations.of(recipe.parameterisation).image
    size = parameterisations.size_of(state.best.image)

    def evaluate(parameters: Any) -> tuple[Scalar, tuple[Scalar, Image, Descriptor]]:
        image = image_of(parameters, size)
        seen = encode(_transformed(image, state, recipe) if recipe.transforms else image)
        descriptor = jax.tree.map(lambda layer: layer.astype(jnp.float32), seen)
        loss = objective.loss(image, descriptor, target, recipe)
        moved_by = loss if repulsion is None else loss - repulsion(image)
        return moved_by, (loss, image, descriptor)

    found, gradient = jax.value_and_grad(evaluate, has_aux=True)(state.parameters)
    value, image, descriptor = found[1]
    # Not by their maximum: that of YNNPACK, which XLA's CPU backend calls, passes over a NaN.
    finite = jnp.isfinite(value) & jnp.isfinite(_size(gradient))
    relative_loss, descriptor_error = data_terms.errors(
        recipe.data_term, descriptor, target, recipe.leaf_weights
    )
    candidate = Best(image, value, relative_loss, descriptor_error)
    running = state.status == Status.RUNNING
    better = running & finite & (value < state.best.loss)
    if hiding := _hiding(recipe):  # losses that are not those of the image as it is
        hidden = functools.reduce(operator.or_, (hides(state.steps, recipe) for hides in hiding))
        candidate = _select(hidden, Best(image, *(jnp.float32(jnp.inf),) * 3), candidate)
        better = running & finite & (hidden | (value < state.best.loss))
    best = _select(better, candidate, state.best)
    steps = state.steps + running.astype(jnp.int32)
    improved = value < _to_improve(state.reference_loss, recipe)
    stalled = jnp.where(improved, 0, state.stalled + 1)
    if hiding:
        improved, stalled = improved & ~hidden, jnp.where(hidden, 0, stalled)
    parameters, moments = _move(state, gradient, recipe)
    moves = running & finite
    return State(
        parameters=_select(moves, parameters, state.parameters),
        moments=_select(moves, moments, state.moments),
        steps=steps,
        status=jnp.where(running, _status(best, steps, stalled, finite, recipe), state.status),
        best=best,
        reference_loss=jnp.where(moves & improved, value, state.reference_loss),
        stalled=jnp.where(moves, stalled, state.stalled),
        seed=state.seed,
    )


def _hiding(recipe: Recipe) -> list[Callable[[Count, Recipe], Flag]]:
    """Returns what may keep a step from seeing its image as it is."""
    hiding: list[Callable[[Count, Recipe], Flag]] = []
    if recipe.transforms:
        hiding.append(_transforming)
    if recipe.low_precision_share is not None:
        hiding.append(in_low_precision)
    return hiding


def _transforming(steps: Count, recipe: Recipe) -> Flag:
    """Returns whether the step after `steps` of them transforms its image."""
    share = TRANSFORMED_SHARE if recipe.transformed_share is None else recipe.transformed_share
    return _among_first(share, steps, recipe)


def in_low_precision(steps: Count, recipe: Recipe) -> Flag:
    """Returns whether the products of the step after `steps` of them are in low precision."""
    assert recipe.low_precision_share is not None
    return _among_first(recipe.low_precision_share, steps, recipe)


def _among_first(share: float | jax.Array, steps: Count, recipe: Recipe) -> Flag:
    """Returns whether the step after `steps` of them is in this share of all; the last never is."""
    done = steps.astype(jnp.float32)
    return (done < share * recipe.steps) & (done + 1 < recipe.steps)


def _transformed(image: Image, state: State, recipe: Recipe) -> Image:
    """Returns the image that the encoder sees in this step, by the step's own key."""
    assert state.seed is not None  # `init` sees to it
    key = jax.random.fold_in(jax.random.wrap_key_data(state.seed, impl="threefry2x32"), state.steps)
    transformed = transforms.transformed(recipe.transforms, image, key)
    return jnp.where(_transforming(state.steps, recipe), transformed, image)


def _size(gradient: Any) -> Scalar:
    """Returns the sum of all absolute values."""
    sizes = [jnp.sum(jnp.abs(part)) for part in jax.tree.leaves(gradient)]
    return functools.reduce(operator.add, sizes)


def _to_improve(reference_loss: Scalar, recipe: Recipe) -> Scalar:
    """Returns the loss below which there is an improvement; it lies below the reference."""
    less = (1.0 - _IMPROVEMENT) * reference_loss
    if not objective.signed(recipe):
        return less
    return jnp.minimum(less, (1.0 + _IMPROVEMENT) * reference_loss)


def _status(best: Best, steps: Count, stalled: Count, finite: Flag, recipe: Recipe) -> Count:
    converged = best.relative_loss <= recipe.tolerance
    over = steps.astype(jnp.float32) >= recipe.steps
    patient = (recipe.patience == 0) | (stalled.astype(jnp.float32) < recipe.patience)
    ended = over | ~patient | (converged if recipe.stop_early else False)
    reason = jnp.where(over, Status.OUT_OF_STEPS, Status.STALLED)
    reason = jnp.where(converged, Status.CONVERGED, reason)
    status = jnp.where(ended, reason, Status.RUNNING)
    return jnp.where(finite, status, Status.NOT_FINITE).astype(jnp.int32)


def _select(condition: Flag, new: Tree, old: Tree) -> Tree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
