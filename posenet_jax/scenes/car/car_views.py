"""Targets and places of cameras about a car. Unbatched; see `views`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from posenet_jax.scenes import raycast, shading
from posenet_jax.scenes.car.cars import NUM_CARS, CarScene
from posenet_jax.scenes.config import CarConfig
from posenet_jax.scenes.solids import Solids, Wedges
from posenet_jax.scenes.vectors import between, triple
from posenet_jax.scenes.views import TARGETS

Array = jax.Array


class _FirstCar(NamedTuple):
    """The car that is looked at, alone in the world."""

    wedges: Wedges

    def solids(self) -> Solids:
        return ((0, self.wedges),)


def car_targets(key: Array, scene: CarScene) -> tuple[Array, Array]:
    """[T, 3] points of the first car's body and cabin, and their normals: what rays meet there."""
    r = jax.random.uniform(key, (5, TARGETS))
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
