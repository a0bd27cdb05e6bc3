"""Two cameras that look at the same point. Unbatched.

Candidate places are drawn, those that see the target are kept, and the second view
is the one whose direction differs from the first's by about a drawn angle. The number of
candidates is fixed, so all of it is one program; a target that too few of them see is flagged.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from posenet_jax import geometry
from posenet_jax.numerics import own_dtypes
from posenet_jax.scenes import raycast
from posenet_jax.scenes.config import ViewConfig
from posenet_jax.scenes.raycast import Camera, World
from posenet_jax.scenes.vectors import triple

Array = jax.Array

# Of views along the street: largest angle to it; turn between the two, of the narrower field of
# view; tilt, down and up; step between them, metres along, across and up.
_SPREAD = 0.7
_TURN = 0.45
_TILT = (-0.07, 0.14)
_STEP = (4.0, 2.0, 0.3)

TARGETS = 4  # targets tried; the one that most candidates see is taken


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
    jitter: Array,
    centre: Array,
    target: Array,
    field_of_view: Array,
    offset: Array | float,
    config: ViewConfig,
) -> Camera:
    """Camera at `centre` that looks at the target but for `jitter` [3] (each in [-1, 1]).

    offset: the target's largest distance from the image's centre, a fraction of the field of view.
    """
    rotation = geometry.look_at(centre, target, config.roll * jitter[0])
    # Half of it each way about two axes keeps the offset below the configured fraction.
    off = offset * field_of_view / jnp.sqrt(2.0)
    rotation = rotation @ geometry.rotation_about(1, off * jitter[1])
    rotation = rotation @ geometry.rotation_about(0, off * jitter[2])
    return Camera(rotation, centre, field_of_view)


def _along(
    key: Array,
    world: World,
    place: Array,
    target: Array,
    normal: Array,
    fields: Array,
    config: ViewConfig,
) -> Camera:
    """Two cameras, leading axis, that look along the scene's first axis, one way or the other.

    The first is at `place` [3]; the second a step from it where that sees the target as well, else
    it has only turned.
    """
    way_key, heading_key, tilt_key, roll_key, step_key = jax.random.split(key, 5)
    share, turn = jax.random.uniform(heading_key, (2,), minval=-1.0)
    heading = jnp.where(jax.random.bernoulli(way_key), jnp.pi, 0.0) + _SPREAD * share
    headings = heading + jnp.stack([jnp.zeros(()), _TURN * jnp.min(fields) * turn])
    tilts = jax.random.uniform(tilt_key, (2,), minval=_TILT[0], maxval=_TILT[1])
    rolls = config.roll * jax.random.uniform(roll_key, (2,), minval=-1.0)
    moved = place + jnp.array(_STEP) * jax.random.uniform(step_key, (3,), minval=-1.0)
    good = _usable(world, moved[None, None], target[None], normal[None], config)[0, 0]
    centres = jnp.stack([place, jnp.where(good, moved, place)])
    rotations = jax.vmap(geometry.camera_rotation)(headings, tilts, rolls)
    return Camera(rotations, centres, fields)


@own_dtypes
def sample_pair(
    key: Array,
    world: World,
    config: ViewConfig,
    targets_of: Callable[[Array, World], tuple[Array, Array]],
    places_of: Callable[[Array, World, Array, ViewConfig], Array],
) -> tuple[Array, Array, Camera, Array]:
    """Target point [3], its surface's normal [3], two cameras (leading axis 2), visible [2] bool.

    `targets_of` and `places_of` propose points and camera centres; see `kind.SceneFunctions`.
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
    fields = _fields_of_view(angle_key, config)
    jitter = jax.random.uniform(view_key, (2, 3), minval=-1.0)
    offset = _offset(view_key, config)
    cameras = jax.vmap(lambda j, c, f: _camera(j, c, target, f, offset, config))(
        jitter, centre[pair], fields
    )
    visible = usable[best][pair]
    if config.chance_along:
        along_key = jax.random.fold_in(choice_key, 1)
        along = jax.random.bernoulli(jax.random.fold_in(along_key, 1), config.chance_along)
        ahead = _along(along_key, world, centre[pair[0]], target, normal, fields, config)
        cameras = jax.tree.map(lambda a, b: jnp.where(along, a, b), ahead, cameras)
        visible = jnp.where(along, visible[0], visible)
    return target, normal, cameras, visible


def _fields_of_view(key: Array, config: ViewConfig) -> Array:
    """[2] radians."""
    low, high = config.field_of_view
    shared = jax.random.uniform(key, (), minval=low, maxval=high)
    if not config.field_of_view_difference:
        return jnp.broadcast_to(shared, (2,))
    own = jax.random.uniform(jax.random.fold_in(key, 1), (2,), minval=low, maxval=high)
    return shared + config.field_of_view_difference * (own - shared)


def _offset(key: Array, config: ViewConfig) -> Array | float:
    """The target's largest distance from the centres of a pair's views."""
    if not config.chance_aside:
        return config.centre_jitter
    aside = jax.random.bernoulli(jax.random.fold_in(key, 1), config.chance_aside)
    return jnp.where(aside, config.aside, config.centre_jitter)
