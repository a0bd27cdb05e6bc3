"""Inversion of one descriptor as a pure function, for somebody else's `jit` and `vmap`.

The same first iterate and the same steps as the engine's, which stays the fast way for many: its
slots do not wait for the slowest, and on a CPU a convolution inside a loop takes twice as long.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from posenet_jax import numerics
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import (
    descent,
    encode_checks,
    grey_levels,
    groups,
    precision,
    recipes,
)
from posenet_jax.inversion.descent import Encode, State, Status
from posenet_jax.inversion.engine import Result, space_of
from posenet_jax.inversion.recipes import Recipe
from posenet_jax.inversion.shapes import Image, Target
from posenet_jax.inversion.traced_functions import as_argument

Array = jax.Array


def solve(
    phi: Encode,
    target: Target,
    *,
    key: Array,
    recipe: Recipe = recipes.CALIBRATED,
    space: Preprocessing | None = None,
    start: Image | None = None,
) -> Result:
    """Returns an image whose descriptor is `target`: `Result` without its leading axis.

    phi, space: as in `engine.run`. target: the descriptor of one image, or what else the recipe's
    data term compares. key: decides the noise; target i of `invert(key=key)` has
    `jax.random.fold_in(key, i)`. recipe: numbers, which may be traced. start: [H, W, C] in network
    space, where the recipe begins with an image.

    May be called inside `jit` and `vmap`, with any argument traced but `space`; inside `vmap` a
    recipe's steps in low precision gain nothing, for those in full precision are computed too.
    Outside of them it compiles once for each `phi`, as the engine does. One that stops being finite
    is not started again: its status says so. Raises InputError for arguments whose shapes or dtypes
    do not fit.
    """
    space = space or space_of(phi)
    encode_checks.check_begins(recipe)
    encode_checks.check_key(key)
    like = encode_checks.descriptor_like(phi, space)
    encode_checks.check_numbers(recipe, "the recipe's")
    target = encode_checks.traced_target(target, like, recipe, space)
    start = encode_checks.traced_start(start, recipe, space)
    recipe = jax.tree.map(lambda number: jnp.asarray(number, jnp.float32), recipe)
    with numerics.not_finite_allowed():  # the best loss so far is infinite
        return _solve(
            as_argument(grey_levels.encoder_of(phi, space)), target, key, recipe, start, space=space
        )


@functools.partial(jax.jit, static_argnames="space")
def _solve(
    encode: Any,
    target: Target,
    key: Array,
    recipe: Recipe,
    start: Image | None,
    *,
    space: Preprocessing,
) -> Result:
    def running(state: State) -> Array:
        return jnp.any(state.status == Status.RUNNING)

    def one(state: State) -> State:
        return groups.step(state, target, recipe, encode=encode)

    def step(state: State) -> State:
        if recipe.low_precision_share is None:
            return one(state)
        return precision.stepped(one, state, descent.in_low_precision(state.steps, recipe))

    start = None if start is None else grey_levels.start_of(start, space)
    first = groups.init(key, recipe, space, start, target=target)
    end = lax.while_loop(running, step, first)
    counts = {"steps": end.steps, "status": end.status, "starts": jnp.ones_like(end.steps)}
    image = space.from_levels(end.best.image)
    fields: dict[str, Any] = vars(end.best) | counts | {"image": image}
    return Result(**fields)
