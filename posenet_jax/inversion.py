"""Inversion by optimisation: from descriptors back to images.

`init` and `step` are written for one image; `invert` batches them, places the batch on the devices
and drives the steps. N targets, B images a batch; images are [H, W, 3] in network space.
"""

import functools
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posenet_jax import metrics, objective, recipes
from posenet_jax.errors import InputError
from posenet_jax.preprocessing import CUSTOMARY, Preprocessing
from posenet_jax.recipes import Recipe

Array = jax.Array
Encode = Callable[[Array], Array]


class Status(IntEnum):
    """Why an image's steps ended."""

    RUNNING = 0
    CONVERGED = 1  # its relative loss reached the recipe's tolerance
    OUT_OF_STEPS = 2
    NOT_FINITE = 3  # loss or gradient stopped being a number; the best image before that is kept

    @property
    def sentence(self) -> str:
        return self.name.lower().replace("_", " ")


@struct.dataclass
class State:
    """All that the next step needs, for one image."""

    image: Array  # [H, W, 3], the next iterate
    moments: Any  # Adam's
    steps: Array  # [] int32, iterates evaluated
    status: Array  # [] int32, a Status
    best: "Best"


@struct.dataclass
class Best:
    """The iterate with the lowest loss so far."""

    image: Array  # [H, W, 3]
    loss: Array  # [] the objective
    relative_loss: Array  # [] eq. 3
    descriptor_error: Array  # [] ‖φ - φ0‖ / ‖φ0‖


@struct.dataclass
class Result:
    """One entry a target, in the targets' order."""

    image: Array  # [N, H, W, 3] float32, network space: `Preprocessing.to_image` shows it
    loss: Array  # [N]
    relative_loss: Array  # [N] eq. 3
    descriptor_error: Array  # [N]
    steps: Array  # [N] int32
    status: Array  # [N] int32, a Status


def init(key: Array, recipe: Recipe, space: Preprocessing) -> State:
    """The first iterate: noise about the mean colour."""
    image = recipe.start_deviation * jax.random.normal(key, (space.size, space.size, 3))
    best = Best(
        image=image,
        # Dtypes are spelt out: a weakly typed first state would compile every step twice.
        loss=jnp.full((), jnp.inf, jnp.float32),
        relative_loss=jnp.full((), jnp.inf, jnp.float32),
        descriptor_error=jnp.full((), jnp.inf, jnp.float32),
    )
    return State(
        image=image,
        moments=_adam(recipe).init(image),
        steps=jnp.zeros((), jnp.int32),
        status=jnp.zeros((), jnp.int32),  # RUNNING
        best=best,
    )


def _adam(recipe: Recipe) -> optax.GradientTransformation:
    return optax.scale_by_adam(recipe.beta1, recipe.beta2, recipe.epsilon)


def loss(image: Array, descriptor: Array, target: Array, recipe: Recipe) -> Array:
    """Eq. 2, or its scale-free form (see `Recipe`)."""
    if recipe.data_term == "norm":
        data, priors = objective.distance(descriptor, target), image
        share = 1.0
    else:
        data, priors = objective.relative_square(descriptor, target), image / 127.5
        share = 1.0 / (image.shape[0] * image.shape[1])
    sixth = objective.sixth_power if recipe.l6_form == "power" else objective.sixth_norm
    smoothness = objective.total_variation(priors, recipe.tv_beta)
    return data + share * (recipe.tv_weight * smoothness + recipe.l6_weight * sixth(priors))


def learning_rate(steps: Array, recipe: Recipe) -> Array:
    """The rate of the step after `steps` of them."""
    if recipe.schedule == "constant":
        return jnp.asarray(recipe.learning_rate)
    share = jnp.clip(steps / recipe.steps, 0.0, 1.0)
    decay = 0.5 * (1.0 + jnp.cos(jnp.pi * share))
    return recipe.learning_rate * (recipe.final_rate + (1.0 - recipe.final_rate) * decay)


def _move(state: State, gradient: Array, recipe: Recipe) -> tuple[Array, Any]:
    """Adam's step, then small-contribution clipping.

    The contributions take the gradient from before the step and the pixels from after it: with the
    pixels from before it, a pixel once at zero would contribute nothing and stay there for good.
    """
    update, moments = _adam(recipe).update(gradient, state.moments)
    image = state.image - learning_rate(state.steps, recipe) * update
    if recipe.clipping:
        contribution = objective.contributions(gradient, image)
        image = objective.clip_small_contributions(image, contribution, recipe.clip_percentile)
    return image, moments


def step(state: State, target: Array, recipe: Recipe, *, encode: Encode) -> State:
    """Evaluates the iterate, keeps it if it is the best so far, and moves on.

    An image whose status is not RUNNING stays as it is.
    """

    def evaluate(image):
        descriptor = encode(image)
        return loss(image, descriptor, target, recipe), descriptor

    (value, descriptor), gradient = jax.value_and_grad(evaluate, has_aux=True)(state.image)
    finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient))
    candidate = Best(
        image=state.image,
        loss=value,
        relative_loss=metrics.relative_loss(descriptor, target),
        descriptor_error=metrics.descriptor_error(descriptor, target),
    )
    running = state.status == Status.RUNNING
    better = running & finite & (value < state.best.loss)
    best = _select(better, candidate, state.best)
    steps = state.steps + running
    image, moments = _move(state, gradient, recipe)
    moves = running & finite
    return State(
        image=_select(moves, image, state.image),
        moments=_select(moves, moments, state.moments),
        steps=steps,
        status=jnp.where(running, _status(best, steps, finite, recipe), state.status),
        best=best,
    )


def _status(best: Best, steps: Array, finite: Array, recipe: Recipe) -> Array:
    converged = best.relative_loss <= recipe.tolerance
    over = steps >= recipe.steps
    ended = over | converged if recipe.stop_early else over
    reason = jnp.where(converged, Status.CONVERGED, Status.OUT_OF_STEPS)
    status = jnp.where(ended, reason, Status.RUNNING)
    return jnp.where(finite, status, Status.NOT_FINITE).astype(jnp.int32)


def _select(condition: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


@functools.partial(jax.jit, static_argnames=("space", "mesh"))
def _init_batch(keys: Array, recipe: Recipe, *, space: Preprocessing, mesh: Mesh) -> State:
    images = PartitionSpec(mesh.axis_names)

    def first(keys, recipe):
        return jax.vmap(init, (0, 0, None))(keys, recipe, space)

    return jax.shard_map(
        first, mesh=mesh, in_specs=(images, images), out_specs=images, check_vma=False
    )(keys, recipe)


@functools.partial(jax.jit, static_argnames=("mesh", "chunk"), donate_argnums=0)
def _advance_batch(
    state: State,
    encode: Any,
    targets: Array,
    recipe: Recipe,
    *,
    mesh: Mesh,
    chunk: int,
) -> State:
    """`chunk` steps of a batch. Each device works on its own images, without communication."""
    images = PartitionSpec(mesh.axis_names)

    def advance(state, encode, targets, recipe):
        one = functools.partial(step, encode=encode)
        return jax.vmap(one)(state, targets, recipe)

    def chunk_of_steps(state, *rest):
        if chunk == 1:
            return advance(state, *rest)
        return lax.fori_loop(0, chunk, lambda _, state: advance(state, *rest), state)

    return jax.shard_map(
        chunk_of_steps,
        mesh=mesh,
        in_specs=(images, PartitionSpec(), images, images),
        out_specs=images,
        check_vma=False,
    )(state, encode, targets, recipe)


def default_chunk() -> int:
    """Steps a call. On CPU one: there a loop halves a convolution's speed (jax #12868)."""
    return 1 if jax.default_backend() == "cpu" else 25


def default_batch_size(devices: int) -> int:
    """Images a batch: on CPU few, for the cache; elsewhere enough to fill the device."""
    return devices * (8 if jax.default_backend() == "cpu" else 256)


def _as_pytree(encode: Encode) -> Any:
    """A callable that `jit` takes as an argument: a pytree as it is, a function wrapped."""
    plain = jax.tree_util.all_leaves([encode])
    return jax.tree_util.Partial(encode) if plain else encode


def invert(
    encode: Encode,
    targets: Array | np.ndarray,
    *,
    key: Array,
    recipe: Recipe = recipes.CALIBRATED,
    space: Preprocessing | None = None,
    batch_size: int | None = None,
    chunk: int | None = None,
    mesh: Mesh | None = None,
    progress: Callable[[int], None] | None = None,
) -> Result:
    """Images whose descriptors are `targets` [N, …].

    encode: any function from one image [H, W, 3] to one descriptor. If it is a pytree (a `Tap`, a
    `jax.tree_util.Partial`), its arrays are arguments of the compiled program; a plain function is
    compiled in, and its identity decides whether a second call compiles again.
    space: the images' size and colours; a `Tap` carries its own, and where nothing is said
    it is `preprocessing.CUSTOMARY`.
    progress: called with the image·steps done since its last call.

    An image's result depends on `key`, its own position, target and hyper-parameters, not on its
    neighbours or on the batch size. Raises InputError for targets that are empty, not finite or of
    another shape than the encoder's descriptors.
    """
    if space is None:
        space = getattr(encode, "preprocessing", CUSTOMARY)
    targets = jnp.asarray(targets)
    _check_targets(encode, targets, space)
    mesh = mesh or Mesh(np.asarray(jax.devices()), ("images",))
    count, devices = targets.shape[0], mesh.devices.size
    size = batch_size or min(default_batch_size(devices), -(-count // devices) * devices)
    if size % devices:
        raise InputError(f"a batch of {size} images does not divide over {devices} devices")
    per_image = recipes.broadcast(recipe, count)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(count))
    run = functools.partial(
        _run_batch,
        _as_pytree(encode),
        space=space,
        chunk=chunk or default_chunk(),
        mesh=mesh,
        progress=progress or (lambda _: None),
    )
    parts = []
    for start in range(0, count, size):
        # A short last batch is filled with its last image: one shape, one compilation.
        rows = jnp.minimum(jnp.arange(start, start + size), count - 1)
        state = run(*jax.tree.map(lambda x, rows=rows: x[rows], (keys, targets, per_image)))
        used = min(size, count - start)
        parts.append(jax.tree.map(lambda x, used=used: np.asarray(x[:used]), _result(state)))
    return jax.tree.map(lambda *xs: np.concatenate(xs), *parts)


def _run_batch(
    encode: Any,
    keys: Array,
    targets: Array,
    recipe: Recipe,
    *,
    space: Preprocessing,
    chunk: int,
    mesh: Mesh,
    progress: Callable[[int], None],
) -> State:
    sharded = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    keys, targets, recipe = jax.device_put((keys, targets, recipe), sharded)
    encode = jax.device_put(encode, NamedSharding(mesh, PartitionSpec()))
    state = _init_batch(keys, recipe, space=space, mesh=mesh)
    advance = functools.partial(_advance_batch, mesh=mesh, chunk=chunk)
    steps = int(jnp.max(recipe.steps))
    reported = 0
    for done in range(chunk, steps + chunk, chunk):
        state = advance(state, encode, targets, recipe)
        # Asking now and then keeps the host from running ahead, and ends a batch that is done.
        ended = done >= steps or (
            done // chunk % 10 == 0 and not np.any(np.asarray(state.status) == Status.RUNNING)
        )
        now = steps if ended else done
        progress(targets.shape[0] * (now - reported))
        reported = now
        if ended:
            break
    return state


def _result(state: State) -> Result:
    best = state.best
    return Result(
        image=best.image,
        loss=best.loss,
        relative_loss=best.relative_loss,
        descriptor_error=best.descriptor_error,
        steps=state.steps,
        status=state.status,
    )


def _check_targets(encode: Encode, targets: Array, space: Preprocessing) -> None:
    image = jax.ShapeDtypeStruct((space.size, space.size, 3), jnp.float32)
    expected = jax.eval_shape(encode, image).shape
    if targets.ndim < 1 or targets.shape[0] == 0:
        raise InputError("there are no targets to invert")
    if targets.shape[1:] != expected:
        raise InputError(
            f"targets have shape {list(targets.shape)}; this encoder's descriptors need "
            f"[N, {', '.join(map(str, expected))}]"
        )
    if not bool(jnp.all(jnp.isfinite(targets))):
        bad = np.flatnonzero(~np.isfinite(np.asarray(targets)).reshape(len(targets), -1).all(1))
        raise InputError(f"targets {bad[:10].tolist()} hold values that are not finite")
