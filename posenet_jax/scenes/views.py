"""Two cameras that look at the same point. Unbatched.

Candidate places are drawn, those that see the target are kept, and the second view
is the one whose direction differs from the first's by about a drawn angle. The number of
candidates is fixed, so all of it is one program; a target that too few of them see is flagged.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from posenet_jax import geometry
from posenet_jax.numerics import own_dtypes
from posenet_jax.scenes import raycast, shading
from posenet_jax.scenes.car.cars import NUM_CARS, CarScene
from posenet_jax.scenes.config import CarConfig, RoomConfig, SceneConfig, ViewConfig
from posenet_jax.scenes.raycast import Camera, Hit, World
from posenet_jax.scenes.room.rooms import WALLS, Room
from posenet_jax.scenes.solids import Solids, Wedges, between, triple
from posenet_jax.scenes.street.city import LOTS, City

Array = jax.Array

_TARGETS = 4  # targets tried; the one that most candidates see is taken


def street_targets(key: Array, city: City) -> tuple[Array, Array]:
    """[T, 3] points on facades that face the street, and their normals [T, 3]."""
    lot_key, place_key = jax.random.split(key)
    # Only buildings within reach of the street's middle, where most of the scene is.
    lot = jax.random.randint(lot_key, (_TARGETS,), 1, LOTS - 1)
    left = jnp.arange(_TARGETS) % 2 == 0
    building = jnp.where(left, lot, lot + LOTS)
    low, high = city.boxes.low[building], city.boxes.high[building]
    r = jax.random.uniform(place_key, (2, _TARGETS))
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


def sees(world: World, centre: Array, target: Array) -> Array:
    """[...] bool: is the target [..., 3] in plain sight of camera centres [..., 3]?"""
    way = triple(jnp.moveaxis(centre - target, -1, 0))
    place = jnp.moveaxis(target, -1, 0)
    # From a hundredth of the way, so that the target's own wall is not in it.
    start = triple(place[i] + 0.01 * way[i] for i in range(3))
    return ~raycast.blocked(world, start, way, 0.99)


def _usable(world: World, centre: Array, target: Array, normal: Array, config: ViewConfig) -> Array:
    """[T, K] bool: camera centres [T, K, 3] free of obstacles, in range and in plain sight."""
    way = centre - target[:, None]
    distance = jnp.linalg.norm(way, axis=-1)
    cosine = jnp.einsum("tki,ti->tk", way, normal) / distance
    near, far = config.distance
    good = (cosine > config.least_cosine) & (distance > near) & (distance < far)
    blocked = raycast.inside_something(world, centre, config.clearance)
    return good & ~blocked & sees(world, centre, jnp.broadcast_to(target[:, None], centre.shape))


def _choose(key: Array, way: Array, usable: Array, config: ViewConfig) -> Array:
    """[2] indices of the candidates [K] whose directions from the target differ as drawn.

    The first is any usable one; the second has the drawn angle to it as nearly as can be.
    """
    first_key, angle_key = jax.random.split(key)
    first = jnp.argmax(jax.random.uniform(first_key, usable.shape) + usable)
    wanted = jax.random.uniform(
        angle_key, (), minval=config.angle_between[0], maxval=config.angle_between[1]
    )
    unit = way / jnp.linalg.norm(way, axis=-1, keepdims=True)
    angle = jnp.arccos(jnp.clip(unit @ unit[first], -1.0, 1.0))
    same = jnp.arange(usable.shape[0]) == first
    worse = jnp.where(usable, 0.0, 10.0) + jnp.where(same, 100.0, 0.0)
    return jnp.stack([first, jnp.argmin(jnp.abs(angle - wanted) + worse)])


def _camera(
    jitter: Array, centre: Array, target: Array, field_of_view: Array, config: ViewConfig
) -> Camera:
    """Camera at `centre` that looks at the target but for `jitter` [3] (each in [-1, 1])."""
    rotation = geometry.look_at(centre, target, config.roll * jitter[0])
    # Half of it each way about two axes keeps the offset below the configured fraction.
    off = config.centre_jitter * field_of_view / jnp.sqrt(2.0)
    rotation = rotation @ geometry.rotation_about(1, off * jitter[1])
    rotation = rotation @ geometry.rotation_about(0, off * jitter[2])
    return Camera(rotation, centre, field_of_view)


@own_dtypes
def sample_pair(
    key: Array,
    world: World,
    config: ViewConfig,
    targets_of: Callable[[Array, World], tuple[Array, Array]],
    places_of: Callable[[Array, World, Array, ViewConfig], Array],
) -> tuple[Array, Array, Camera, Array]:
    """Target point [3], its surface's normal [3], two cameras (leading axis 2), visible [2] bool.

    `targets_of` and `places_of` propose points and camera centres; see `kinds.Kind`.
    """
    target_key, place_key, choice_key, view_key, angle_key = jax.random.split(key, 5)
    targets, normals = targets_of(target_key, world)
    keys = jax.random.split(place_key, targets.shape[0])
    centres = jax.vmap(lambda k, t: places_of(k, world, t, config))(keys, targets)
    usable = _usable(world, centres, targets, normals, config)
    # Any target that enough candidates see will do; the first such one keeps variety.
    best = jnp.argmax(jnp.minimum(usable.sum(axis=1), 6))
    target, normal, centre = targets[best], normals[best], centres[best]
    pair = _choose(choice_key, centre - target[None], usable[best], config)
    view = jax.random.uniform(
        angle_key, (), minval=config.field_of_view[0], maxval=config.field_of_view[1]
    )
    jitter = jax.random.uniform(view_key, (2, 3), minval=-1.0)
    cameras = jax.vmap(lambda j, c: _camera(j, c, target, view, config))(jitter, centre[pair])
    return target, normal, cameras, usable[best][pair]


def room_targets(key: Array, room: Room) -> tuple[Array, Array]:
    """[T, 3] points of walls and furniture, and their normals [T, 3]: what random rays meet."""
    r = jax.random.uniform(key, (6, 3 * _TARGETS))
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
    first = jnp.argsort((hit.identity == WALLS) * (r[5] < 0.85))[:_TARGETS]
    return jnp.stack(point, axis=-1)[first], jnp.stack(normal, axis=-1)[first]


def room_places(key: Array, room: Room, target: Array, config: RoomConfig) -> Array:
    """[K, 3] camera centres anywhere in the room."""
    del target
    r = jax.random.uniform(key, (config.candidates, 3))
    low, high = room.walls.low[0] + 0.3, room.walls.high[0] - 0.3
    flat = between(r[:, :2], low[None, :2], high[None, :2])
    return jnp.concatenate([flat, between(r[:, 2:], *config.eye_height)], axis=-1)


class _FirstCar(NamedTuple):
    """The car that is looked at, alone in the world."""

    wedges: Wedges

    def solids(self) -> Solids:
        return ((0, self.wedges),)


def car_targets(key: Array, scene: CarScene) -> tuple[Array, Array]:
    """[T, 3] points of the first car's body and cabin, and their normals: what rays meet there."""
    r = jax.random.uniform(key, (5, _TARGETS))
    s = jax.tree.map(lambda x: x[0], scene.shapes)
    car = _FirstCar(jax.tree.map(lambda x: x[jnp.array([0, NUM_CARS])], scene.wedges))
    heading = 2.0 * jnp.pi * r[0]
    start = (s.x + 6.0 * jnp.cos(heading), s.y + 6.0 * jnp.sin(heading), between(r[1], 0.8, 2.5))
    aim = (
        s.x + between(r[2], -0.4, 0.4) * s.length,
        s.y + between(r[3], -0.3, 0.3) * s.width,
        between(r[4], 0.35, 0.95) * s.roof,
    )
    way = triple(a - b for a, b in zip(aim, start, strict=True))
    hit = raycast.unpack_hit(raycast.nearest_hit(car, jnp.stack(start), way), car)
    point = triple(p + hit.depth * w for p, w in zip(start, way, strict=True))
    normal = shading.normals(car, way, point, hit)
    return jnp.stack(point, axis=-1), jnp.stack(normal, axis=-1)


def car_places(key: Array, scene: CarScene, target: Array, config: CarConfig) -> Array:
    """[K, 3] camera centres on all sides of one target."""
    del scene
    r = jax.random.uniform(key, (3, config.candidates))
    heading, reach = 2.0 * jnp.pi * r[0], between(r[1] ** 1.5, *config.distance)
    x, y = target[0] + reach * jnp.cos(heading), target[1] + reach * jnp.sin(heading)
    return jnp.stack([x, y, between(r[2], *config.eye_height)], axis=-1)
