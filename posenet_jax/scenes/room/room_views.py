"""Targets and places of cameras in a room. Unbatched; see `views`."""

import jax
import jax.numpy as jnp

from posenet_jax.scenes import raycast, shading
from posenet_jax.scenes.config import RoomConfig
from posenet_jax.scenes.raycast import Hit
from posenet_jax.scenes.room.rooms import WALLS, Room
from posenet_jax.scenes.vectors import between, triple
from posenet_jax.scenes.views import TARGETS

Array = jax.Array


def room_targets(key: Array, room: Room) -> tuple[Array, Array]:
    """[T, 3] points of walls and furniture, and their normals [T, 3]: what random rays meet."""
    r = jax.random.uniform(key, (6, 3 * TARGETS))
    low, high = room.walls.low[0], room.walls.high[0]
    x, y = (between(between(r[i], 0.15, 0.85), low[i], high[i]) for i in (0, 1))
    centre = (x, y, between(r[2], 1.2, 1.8))
    heading = 2.0 * jnp.pi * r[3]
    level = (jnp.cos(heading), jnp.sin(heading), jnp.zeros_like(heading))
    tilted = (level[0], level[1], between(r[4], -0.7, 0.2))
    start, ways = jnp.stack(centre), jnp.stack([jnp.stack(tilted), jnp.stack(level)])
    # A loop of two: in line, XLA repeats all furniture for every use of a hit, and compiles long.
    packed = jax.lax.map(lambda way: raycast.nearest_hit(room, start, triple(way)), ways)
    direct, flat = (raycast.unpack_hit(p, room) for p in packed)
    # Rays that would end on the floor or the ceiling go straight ahead instead.
    away = (direct.identity == WALLS) & (direct.face == 2)
    hit = Hit(*(jnp.where(away, f, d) for f, d in zip(flat, direct, strict=True)))
    way = triple(jnp.where(away, f, d) for f, d in zip(level, tilted, strict=True))
    point = triple(centre[i] + hit.depth * way[i] for i in range(3))
    normal = shading.normals(room, way, point, hit)
    # Of three times as many, those on furniture come first, but not always.
    first = jnp.argsort((hit.identity == WALLS) * (r[5] < 0.85))[:TARGETS]
    return jnp.stack(point, axis=-1)[first], jnp.stack(normal, axis=-1)[first]


def room_places(key: Array, room: Room, target: Array, config: RoomConfig) -> Array:
    """[K, 3] camera centres anywhere in the room."""
    del target
    r = jax.random.uniform(key, (config.candidates, 3))
    low, high = room.walls.low[0] + 0.3, room.walls.high[0] - 0.3
    flat = between(r[:, :2], low[None, :2], high[None, :2])
    return jnp.concatenate([flat, between(r[:, 2:], *config.eye_height)], axis=-1)
