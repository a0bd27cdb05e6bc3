"""Targets and places of cameras in a street. Unbatched; see `views`."""

import jax
import jax.numpy as jnp

from posenet_jax.scenes.config import SceneConfig
from posenet_jax.scenes.street.city import LOTS, City
from posenet_jax.scenes.vectors import between
from posenet_jax.scenes.views import TARGETS

Array = jax.Array


def street_targets(key: Array, city: City) -> tuple[Array, Array]:
    """[T, 3] points on facades that face the street, and their normals [T, 3]."""
    lot_key, place_key = jax.random.split(key)
    # Only buildings within reach of the street's middle, where most of the scene is.
    lot = jax.random.randint(lot_key, (TARGETS,), 1, LOTS - 1)
    left = jnp.arange(TARGETS) % 2 == 0
    building = jnp.where(left, lot, lot + LOTS)
    low, high = city.boxes.low[building], city.boxes.high[building]
    r = jax.random.uniform(place_key, (2, TARGETS))
    x = between(between(r[0], 0.05, 0.95), low[:, 0], high[:, 0])
    y = jnp.where(left, low[:, 1], high[:, 1])
    z = between(r[1], 1.5, jnp.minimum(high[:, 2] - 0.5, 7.0))
    side = jnp.where(left, -1.0, 1.0)
    return jnp.stack([x, y, z], -1), jnp.stack([0.0 * side, side, 0.0 * side], -1)


def street_places(key: Array, city: City, target: Array, config: SceneConfig) -> Array:
    """[K, 3] camera centres between the building lines, around one target."""
    r = jax.random.uniform(key, (3, config.candidates))
    # Even in angle rather than along the street: x = depth * tan(angle), clipped to the range.
    left, right = city.street.line
    y = between(r[1], -right + 1.0, left - 1.0)
    angle = between(r[0], -1.35, 1.35)
    x = target[0] + jnp.maximum(jnp.abs(target[1] - y), 3.0) * jnp.tan(angle)
    return jnp.stack([x, y, between(r[2], *config.eye_height)], axis=-1)
