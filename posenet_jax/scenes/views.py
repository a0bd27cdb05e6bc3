"""Two cameras that look at the same point of a facade. Unbatched.

Candidate places in the street are drawn, those that see the target are kept, and the second view
is the one whose direction differs from the first's by about a drawn angle. The number of
candidates is fixed, so all of it is one program; a target that too few of them see is flagged.
"""

import jax
import jax.numpy as jnp

from posenet_jax import geometry
from posenet_jax.scenes import raycast
from posenet_jax.scenes.city import LOTS, City
from posenet_jax.scenes.config import SceneConfig
from posenet_jax.scenes.raycast import Camera

Array = jax.Array

_TARGETS = 4  # targets tried; the one that most candidates see is taken
_CLEARANCE = 1.0  # metres between a camera and the nearest box


def _between(uniform: Array, low: Array | float, high: Array | float) -> Array:
    return low + (high - low) * uniform


def _targets(key: Array, city: City) -> tuple[Array, Array]:
    """[T, 3] points on facades that face the street, and their normals [T, 3]."""
    lot_key, place_key = jax.random.split(key)
    # Only buildings within reach of the street's middle, where most of the scene is.
    lot = jax.random.randint(lot_key, (_TARGETS,), 1, LOTS - 1)
    left = jnp.arange(_TARGETS) % 2 == 0
    building = jnp.where(left, lot, lot + LOTS)
    low, high = city.boxes.low[building], city.boxes.high[building]
    r = jax.random.uniform(place_key, (2, _TARGETS))
    x = _between(_between(r[0], 0.05, 0.95), low[:, 0], high[:, 0])
    y = jnp.where(left, low[:, 1], high[:, 1])
    z = _between(r[1], 1.5, jnp.minimum(high[:, 2] - 0.5, 7.0))
    side = jnp.where(left, -1.0, 1.0)
    return jnp.stack([x, y, z], -1), jnp.stack([0.0 * side, side, 0.0 * side], -1)


def _places(key: Array, city: City, target: Array, config: SceneConfig) -> Array:
    """[K, 3] camera centres between the building lines, around one target."""
    r = jax.random.uniform(key, (3, config.candidates))
    # Even in angle rather than along the street: x = depth * tan(angle), clipped to the range.
    left, right = city.street.line
    y = _between(r[1], -right + 1.0, left - 1.0)
    angle = _between(r[0], -1.35, 1.35)
    x = target[0] + jnp.maximum(jnp.abs(target[1] - y), 3.0) * jnp.tan(angle)
    return jnp.stack([x, y, _between(r[2], *config.eye_height)], axis=-1)


def sees(city: City, centre: Array, target: Array) -> Array:
    """[...] bool: is the target [..., 3] in plain sight of camera centres [..., 3]?"""
    way = raycast.triple(jnp.moveaxis(centre - target, -1, 0))
    place = jnp.moveaxis(target, -1, 0)
    # From a hundredth of the way, so that the target's own wall is not in it.
    start = raycast.triple(place[i] + 0.01 * way[i] for i in range(3))
    return ~raycast.blocked(city, start, way, 0.99)


def _usable(city: City, centre: Array, target: Array, normal: Array, config: SceneConfig) -> Array:
    """[T, K] bool: camera centres [T, K, 3] free of obstacles, in range and in plain sight."""
    way = centre - target[:, None]
    distance = jnp.linalg.norm(way, axis=-1)
    cosine = jnp.einsum("tki,ti->tk", way, normal) / distance
    near, far = config.distance
    good = (cosine > config.least_cosine) & (distance > near) & (distance < far)
    blocked = raycast.inside_something(city, centre, _CLEARANCE)
    return good & ~blocked & sees(city, centre, jnp.broadcast_to(target[:, None], centre.shape))


def _choose(key: Array, way: Array, usable: Array, config: SceneConfig) -> Array:
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
    jitter: Array, centre: Array, target: Array, field_of_view: Array, config: SceneConfig
) -> Camera:
    """Camera at `centre` that looks at the target but for `jitter` [3] (each in [-1, 1])."""
    rotation = geometry.look_at(centre, target, config.roll * jitter[0])
    # Half of it each way about two axes keeps the offset below the configured fraction.
    off = config.centre_jitter * field_of_view / jnp.sqrt(2.0)
    rotation = rotation @ geometry.rotation_about(1, off * jitter[1])
    rotation = rotation @ geometry.rotation_about(0, off * jitter[2])
    return Camera(rotation, centre, field_of_view)


def sample_pair(key: Array, city: City, config: SceneConfig) -> tuple[Array, Array, Camera, Array]:
    """Target point [3], its facade's normal [3], two cameras (leading axis 2), visible [2] bool."""
    target_key, place_key, choice_key, view_key, angle_key = jax.random.split(key, 5)
    targets, normals = _targets(target_key, city)
    keys = jax.random.split(place_key, _TARGETS)
    centres = jax.vmap(lambda k, t: _places(k, city, t, config))(keys, targets)
    usable = _usable(city, centres, targets, normals, config)
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
