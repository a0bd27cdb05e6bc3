"""Device programs of the engine: to begin inversions in slots, to advance them, to take one out.

S slots, laid over the D devices of a mesh; arrays are [S, ...], images [S, H, W, C] in grey
levels. A slot holds one inversion, or a group of them: its state's arrays are [S, R, ...] then.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import descent, groups, precision
from posenet_jax.inversion.descent import Best, State, Status
from posenet_jax.inversion.recipes import Recipe
from posenet_jax.inversion.shapes import Target

Array = jax.Array


@struct.dataclass
class Held:
    """State, targets and recipes of the jobs in the slots; leaves [S, ...]."""

    state: State
    target: Target
    recipe: Recipe


def shapes(recipe: Recipe, target: Target, space: Preprocessing, mesh: Mesh, slots: int) -> Held:
    """Returns the shapes of what slots hold, on their devices. target: one job's, or shapes."""
    split = NamedSharding(mesh, PartitionSpec(mesh.axis_names))

    def of_slots(leaf: Any, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((slots, *np.shape(leaf)), dtype, sharding=split)

    own = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), jnp.float32), target)
    state = jax.eval_shape(
        lambda key, target: groups.init(key, recipe, space, target=target), jax.random.key(0), own
    )
    return Held(
        jax.tree.map(lambda leaf: of_slots(leaf, leaf.dtype), state),
        *jax.tree.map(of_slots, (target, recipe)),
    )


def empty(recipe: Recipe, target: Target, space: Preprocessing, mesh: Mesh, slots: int) -> Held:
    """Returns empty slots, for `begin` to fill.

    The first are filled by the program that fills others later: two might round the noise each in
    its own way, and a job's result would depend on when it was started.
    """
    like = shapes(recipe, target, space, mesh, slots)
    held = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    ended = np.full_like(held.state.status, Status.OUT_OF_STEPS)
    held = held.replace(state=held.state.replace(status=ended))
    return jax.device_put(held, NamedSharding(mesh, PartitionSpec(mesh.axis_names)))


def initialised_at_once(slots: int) -> int:
    """Returns the number of a device's slots that a call of `begin` fills.

    On CPU one: drawing noise for the slots that keep their state costs a good part of a step.
    """
    return 1 if jax.default_backend() == "cpu" else slots


@functools.partial(jax.jit, static_argnames=("space", "mesh"), donate_argnums=0)
def begin(
    held: Held,
    key: Array,
    numbers: Array,
    targets: Target,
    recipes: Recipe,
    images: Array | None,
    *,
    space: Preprocessing,
    mesh: Mesh,
) -> Held:
    """Returns the slots with new jobs in some of them; B jobs, as many for each device.

    numbers: [B, 4], a job's slot on its device (beyond the last: no job), its index, its restart
    and which start this is, from 1. targets, recipes: the jobs', leaves [B, ...]. images:
    [B, H, W, C] to start from.
    """
    split = PartitionSpec(mesh.axis_names)

    def one(
        key: Array, numbers: Array, recipe: Recipe, image: Array | None, target: Target
    ) -> State:
        index, restart, starts = numbers
        key = jax.random.fold_in(key, index)
        return groups.init(key, recipe, space, image, restart, starts, target)

    def on_device(
        held: Held,
        key: Array,
        numbers: Array,
        targets: Target,
        recipes: Recipe,
        images: Array | None,
    ) -> Held:
        slots, numbers = numbers[:, 0], numbers[:, 1:]
        axes = (None, 0, 0, None if images is None else 0, 0)
        state = jax.vmap(one, axes)(key, numbers, recipes, images, targets)
        fresh = Held(state, targets, recipes)
        return jax.tree.map(lambda old, new: old.at[slots].set(new, mode="drop"), held, fresh)

    return jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(split, PartitionSpec(), split, split, split, split),
        out_specs=split,
        check_vma=False,
    )(held, key, numbers, targets, recipes, images)


def looped(chunk: int) -> bool:
    """Returns whether `advance` loops on the device, for calls of `chunk` steps at most.

    On CPU not for single steps: a loop slows convolutions there (jax #12868).
    """
    return chunk > 1 or jax.default_backend() != "cpu"


@functools.partial(jax.jit, static_argnames=("mesh", "looped"), donate_argnums=0)
def advance(
    state: State,
    encode: Any,
    targets: Target,
    recipe: Recipe,
    most: Array,
    *,
    mesh: Mesh,
    looped: bool,
) -> tuple[State, Array]:
    """Makes steps of all slots until one ends: (state, [D] steps made by each device).

    Each device works on its own, without communication: its steps go on until one of its own slots
    ends, `most` of them at most, and it makes none where no slot has work. looped: False makes one
    step, in a program without a loop. most: an argument of the program, so that steps in one call
    or in many are the same to the byte.
    """
    split = PartitionSpec(mesh.axis_names)

    def one_step(state: State, encode: Any, targets: Target, recipe: Recipe) -> State:
        one = functools.partial(groups.step, encode=encode)

        def step(state: State) -> State:
            return jax.vmap(one)(state, targets, recipe)

        if recipe.low_precision_share is None:
            return step(state)
        low = jax.vmap(descent.in_low_precision)(state.steps, recipe)
        return precision.stepped(step, state, low)

    def on_device(state: State, most: Array, *rest: Any) -> tuple[State, Array]:
        if not looped:
            return one_step(state, *rest), jnp.ones((1,), jnp.int32)
        at_first = _running(state)

        def goes_on(carry: tuple[Array, State]) -> Array:
            made, state = carry
            none_ended = jnp.all(_running(state) == at_first)
            return (made < most) & none_ended & jnp.any(at_first)

        def step(carry: tuple[Array, State]) -> tuple[Array, State]:
            return carry[0] + jnp.int32(1), one_step(carry[1], *rest)

        made, state = lax.while_loop(goes_on, step, (jnp.zeros((), jnp.int32), state))
        return state, made[None]

    return jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(split, PartitionSpec(), PartitionSpec(), split, split),
        out_specs=(split, split),
        check_vma=False,
    )(state, most, encode, targets, recipe)


def _running(state: State) -> Array:
    """Returns which slots have a member that is not done, [S] bool."""
    running = state.status == Status.RUNNING
    return running if running.ndim == 1 else jnp.any(running, axis=1)


@functools.partial(jax.jit, static_argnames="mesh")
def taken_out(best: Best, slots: Array, *, mesh: Mesh) -> Best:
    """Returns one slot of each device, leaves [D, ...]. slots: [D], its number on the device."""
    split = PartitionSpec(mesh.axis_names)

    def on_device(best: Best, slots: Array) -> Best:
        return jax.tree.map(lambda rows: rows[slots], best)

    return jax.shard_map(
        on_device, mesh=mesh, in_specs=(split, split), out_specs=split, check_vma=False
    )(best, slots)
