"""Device programs of the engine, two: to begin inversions in slots, and to advance all of them.

S slots, laid over the devices of a mesh; arrays are [S, ...], images [S, H, W, C] in grey levels.
A slot holds one inversion, or a group of them: its state's arrays are [S, R, ...] then.
"""

import functools
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import groups
from posenet_jax.inversion.descent import State, Status
from posenet_jax.inversion.recipes import Recipe
from posenet_jax.inversion.shapes import Target

Array = jax.Array


def empty(recipe: Recipe, space: Preprocessing, mesh: Mesh, slots: int) -> State:
    """Returns empty slots, for `begin` to fill.

    The first are filled by the program that fills others later: two might round the noise each in
    its own way, and a job's result would depend on when it was started.
    """
    one = jax.eval_shape(lambda key: groups.init(key, recipe, space), jax.random.key(0))
    state = jax.tree.map(lambda leaf: np.zeros((slots, *leaf.shape), leaf.dtype), one)
    state = state.replace(status=np.full_like(state.status, Status.OUT_OF_STEPS))
    return jax.device_put(state, NamedSharding(mesh, PartitionSpec(mesh.axis_names)))


def initialised_at_once(slots: int) -> int:
    """Returns the number of a device's slots that a call of `begin` fills.

    On CPU one: drawing noise for the slots that keep their state costs a good part of a step.
    """
    return 1 if jax.default_backend() == "cpu" else slots


@functools.partial(jax.jit, static_argnames=("space", "mesh"), donate_argnums=0)
def begin(
    state: State,
    key: Array,
    numbers: Array,
    recipe: Recipe,
    images: Array | None,
    *,
    space: Preprocessing,
    mesh: Mesh,
) -> State:
    """Returns the slots with new jobs in some of them; B jobs, as many for each device.

    numbers: [B, 4], a job's slot on its device (beyond the last: no job), its index, its restart
    and which start this is, from 1. recipe: leaves [S]. images: [B, H, W, C] to start from.
    """
    split = PartitionSpec(mesh.axis_names)

    def one(key: Array, numbers: Array, recipe: Recipe, image: Array | None) -> State:
        index, restart, starts = numbers
        key = jax.random.fold_in(key, index)
        return groups.init(key, recipe, space, image, restart, starts)

    def on_device(
        state: State, key: Array, numbers: Array, recipe: Recipe, images: Array | None
    ) -> State:
        slots, numbers = numbers[:, 0], numbers[:, 1:]
        own = jax.tree.map(lambda rows: rows[slots], recipe)
        axes = (None, 0, 0, None if images is None else 0)
        fresh = jax.vmap(one, axes)(key, numbers, own, images)
        return jax.tree.map(lambda old, new: old.at[slots].set(new, mode="drop"), state, fresh)

    return jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(split, PartitionSpec(), split, split, split),
        out_specs=split,
        check_vma=False,
    )(state, key, numbers, recipe, images)


@functools.partial(jax.jit, static_argnames=("mesh", "chunk"), donate_argnums=0)
def advance(
    state: State, encode: Any, targets: Target, recipe: Recipe, *, mesh: Mesh, chunk: int
) -> State:
    """Makes `chunk` steps of all slots. Each device works on its own, without communication.

    targets: a pytree of arrays [S, ...].
    """
    split = PartitionSpec(mesh.axis_names)

    def one_step(state: State, encode: Any, targets: Target, recipe: Recipe) -> State:
        one = functools.partial(groups.step, encode=encode)
        return jax.vmap(one)(state, targets, recipe)

    def chunk_of_steps(state: State, *rest: Any) -> State:
        if chunk == 1:
            return one_step(state, *rest)
        return lax.fori_loop(0, chunk, lambda _, state: one_step(state, *rest), state)

    return jax.shard_map(
        chunk_of_steps,
        mesh=mesh,
        in_specs=(split, PartitionSpec(), split, split),
        out_specs=split,
        check_vma=False,
    )(state, encode, targets, recipe)
