"""Targets and places of cameras in a street or a court. Unbatched; see `views`."""

import jax
import jax.numpy as jnp

from posenet_jax.scenes.config import SceneConfig
from posenet_jax.scenes.street.city import LOTS, OPEN, TURNED, City
from posenet_jax.scenes.vectors import between, triple, turn_vector
from posenet_jax.scenes.views import TARGETS

Array = jax.Array


def _in_court(city: City) -> Array:
    """[] bool: do walls close the street's ends?"""
    return city.street.end[0] < OPEN


def street_targets(key: Array, city: City) -> tuple[Array, Array]:
    """[T, 3] points on facades that face the street, and their normals [T, 3].

    In a court the first two are on the rows, where one reaches into it, and the others on the walls
    that close it.
    """
    lot_key, place_key = jax.random.split(key)
    # Only buildings within reach of the street's middle, where most of the scene is.
    lot = jax.random.randint(lot_key, (TARGETS,), 1, LOTS - 1)
    left = jnp.arange(TARGETS) % 2 == 0
    r = jax.random.uniform(place_key, (2, TARGETS))
    back, front = -city.street.end[1], city.street.end[0]
    # The lot that a point drawn between a court's walls lies in, or the one before the gap.
    along = between(r[0], back + 0.3, front - 0.3)
    starts = jnp.where(left[:, None], city.boxes.low[:LOTS, 0], city.boxes.low[LOTS : 2 * LOTS, 0])
    there = jnp.clip(jnp.sum(starts < along[:, None], axis=1) - 1, 0, LOTS - 1)
    lot = jnp.where(_in_court(city), there, lot)
    building = jnp.where(left, lot, lot + LOTS)
    low, high = city.boxes.low[building], city.boxes.high[building]
    x = between(between(r[0], 0.05, 0.95), low[:, 0], high[:, 0])
    x = jnp.where(_in_court(city), jnp.clip(along, low[:, 0], high[:, 0]), x)
    y = jnp.where(left, low[:, 1], high[:, 1])
    z = between(r[1], 1.5, jnp.minimum(high[:, 2] - 0.5, 7.0))
    side = jnp.where(left, -1.0, 1.0)
    point = jnp.stack([x, y, z], -1)
    normal = jnp.stack([0.0 * side, side, 0.0 * side], -1)
    wall_point, wall_normal = _wall_targets(r, city)
    on_wall = (_in_court(city) & (jnp.arange(TARGETS) >= 2))[:, None]
    return jnp.where(on_wall, wall_point, point), jnp.where(on_wall, wall_normal, normal)


def _wall_targets(r: Array, city: City) -> tuple[Array, Array]:
    """Points [T, 3] on the walls that close a court, and their normals; r [2, T] is random."""
    wall = TURNED.start + jnp.floor(4.0 * r[0]).astype(jnp.int32)
    low, high = city.boxes.low[wall], city.boxes.high[wall]
    front = wall < TURNED.start + 2
    x = jnp.where(front, low[:, 0], high[:, 0])
    y = between(0.05 + 0.9 * (4.0 * r[0] - jnp.floor(4.0 * r[0])), low[:, 1], high[:, 1])
    z = between(r[1], 1.5, jnp.minimum(high[:, 2] - 0.5, 7.0))
    facing = jnp.where(front, -1.0, 1.0)
    zero = 0.0 * facing
    turned = (turn_vector(-city.turn, triple(v)) for v in ((x, y, z), (facing, zero, zero)))
    point, normal = (jnp.stack(v, axis=-1) for v in turned)
    return point, normal


def street_places(key: Array, city: City, target: Array, config: SceneConfig) -> Array:
    """[K, 3] camera centres between the building lines, around one target."""
    r = jax.random.uniform(key, (3, config.candidates))
    # Even in angle rather than along the street: x = depth * tan(angle), clipped to the range.
    left, right = city.street.line
    y = between(r[1], -right + 1.0, left - 1.0)
    angle = between(r[0], -1.35, 1.35)
    x = target[0] + jnp.maximum(jnp.abs(target[1] - y), 3.0) * jnp.tan(angle)
    inside = between(r[0], 1.0 - city.street.end[1], city.street.end[0] - 1.0)
    x = jnp.where(_in_court(city), inside, x)
    return jnp.stack([x, y, between(r[2], *config.eye_height)], axis=-1)
