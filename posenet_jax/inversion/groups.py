"""Groups: restarts of one target that repel each other, and one step of all. Unbatched: one group.

R members; a group's state is that of `descent`, each array [R, ...]; a group of one has no such
axis. Members share target and recipe. Each minimises its objective less `diverse` times its mean
distance to the others as they are in that step; the objective that is recorded is without it, and
every member keeps its own best iterate, status and steps.
"""

import functools

import jax
import jax.numpy as jnp

from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import descent, diversity, parameterisations
from posenet_jax.inversion.descent import Encode, State
from posenet_jax.inversion.recipes import Recipe
from posenet_jax.inversion.shapes import Image, Scalar, Target

Array = jax.Array


def restart_key(key: Array, restart: Array | int, starts: Array | int) -> Array:
    """Returns the key of a restart's initial noise, from its target's. starts: which, from 1.

    That of restart 0, start 1 is the target's, so that `invert` and `run` agree.
    """
    other = jax.random.fold_in(jax.random.fold_in(key, restart), starts)
    return jnp.where((restart == 0) & (starts == 1), key, other)


def init(
    key: Array,
    recipe: Recipe,
    space: Preprocessing,
    start: Image | None = None,
    restart: Array | int = 0,
    starts: Array | int = 1,
    target: Target | None = None,
) -> State:
    """Returns the first iterates; member r begins as restart r does where none are repelled.

    key: of the target. start, target: see `descent.init`. restart: number of the group itself.
    """

    def one(restart: Array | int) -> State:
        return descent.init(restart_key(key, restart, starts), recipe, space, start, target)

    if recipe.group == 1:
        return one(restart)
    return jax.vmap(one)(restart * recipe.group + jnp.arange(recipe.group, dtype=jnp.uint32))


def step(states: State, target: Target, recipe: Recipe, *, encode: Encode) -> State:
    """Makes a step of all members, as `descent.step` does of each."""
    if recipe.group == 1:
        return descent.step(states, target, recipe, encode=encode)
    weight = jnp.asarray(recipe.diverse, jnp.float32)
    image_of = parameterisations.of(recipe.parameterisation).image
    features_of = diversity.of(recipe.diverse_in)
    size = parameterisations.size_of(states.best.image[0])
    all_features = jax.vmap(lambda own: features_of(image_of(own, size)))(states.parameters)

    def one(state: State, others: Array) -> State:
        """others: [R] shares of the members in the mean, 0 for itself."""

        def repulsion(image: Image) -> Scalar:
            to = functools.partial(diversity.distance, features_of(image))
            return weight * jnp.sum(others * jax.vmap(to)(all_features))

        return descent.step(state, target, recipe, encode=encode, repulsion=repulsion)

    others = (1.0 - jnp.eye(recipe.group, dtype=jnp.float32)) / (recipe.group - 1)
    return jax.vmap(one)(states, others)
