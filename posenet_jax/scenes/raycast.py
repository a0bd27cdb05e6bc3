"""Nearest hits of rays with a world, unbatched. A ray's parameter is its z-depth in metres.

Directions have z component 1 in the camera's frame, so the parameter of a point on a ray is its
depth. A hit is one int32: the bits of the depth, whose order is the depth's own for positive
floats, with what was hit in the low bits: the id in the lower six, the face above. Depths are
thereby too small by a fraction of at most 2^-15, and 2^-13 where faces take four bits. The nearest
hit is an integer minimum, and nothing of size [rays, boxes] is ever stored.
"""

from collections.abc import Container
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from posenet_jax import geometry
from posenet_jax.numerics import own_dtypes
from posenet_jax.scenes import intersections, solids, vectors
from posenet_jax.scenes.config import ViewConfig
from posenet_jax.scenes.intersections import FAR, Ray
from posenet_jax.scenes.solids import Solid, Solids, Turned, Wedges
from posenet_jax.scenes.vectors import Vector, triple

Array = jax.Array

_ID_BITS = 6
MAX_IDS = 1 << _ID_BITS
_MISS = 2**31 - 1


class World(Protocol):
    """Classes of surface a ray may meet. The sky's id is the last."""

    def solids(self) -> Solids:
        """Everything with its ids; these are static, the shapes may be traced."""
        ...


class Camera(NamedTuple):
    """A pinhole camera with square pixels."""

    rotation: Array  # [3, 3] camera to world
    centre: Array  # [3] metres, world
    field_of_view: Array  # [] radians, horizontal


@own_dtypes
def moved(
    camera: Camera,
    *,
    yaw: Array | float = 0.0,
    pitch: Array | float = 0.0,
    roll: Array | float = 0.0,
    translation: Array | tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Camera:
    """The camera turned and moved in its own frame, unbatched; what it sees stays where it is.

    yaw turns it to the right, pitch up, roll clockwise about its axis (radians, as in
    `geometry.yaw_pitch_roll`); translation is right, down and forward of where it was, metres.
    """
    turn = geometry.rotation_from_yaw_pitch_roll(jnp.array([yaw, pitch, roll]))
    way = camera.rotation @ jnp.asarray(translation)
    return Camera(camera.rotation @ turn, camera.centre + way, camera.field_of_view)


def image_rays(config: ViewConfig, field_of_view: Array) -> Vector:
    """[R] directions in the camera's frame: pixel centres in scan order, then the extra rays.

    rays 2: the (H+1)(W+1) pixel corners follow the centres. rays 4: the four sub-pixels of a
    2x2, one H*W block each, and no centres.
    """
    height, width = config.height, config.width
    # Corners are the centres of an image one pixel larger with the same focal length.
    focal = geometry.focal_length(width, field_of_view)
    if config.rays == 4:
        offsets = [(0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)]
    else:
        offsets = [(0.5, 0.5)]
    grids = [(height, width, dy, dx) for dy, dx in offsets]
    if config.rays == 2:
        grids.append((height + 1, width + 1, 0.0, 0.0))
    xs, ys = [], []
    for rows, columns, dy, dx in grids:
        y, x = jnp.meshgrid(jnp.arange(rows) + dy, jnp.arange(columns) + dx, indexing="ij")
        xs.append((x.ravel() - 0.5 * width) / focal)
        ys.append((y.ravel() - 0.5 * height) / focal)
    x = jnp.concatenate(xs)
    return x, jnp.concatenate(ys), jnp.ones_like(x)


def to_world(rotation: Array, rays: Vector) -> Vector:
    """Camera-frame directions in the world's axes."""
    return triple(
        rotation[i, 0] * rays[0] + rotation[i, 1] * rays[1] + rotation[i, 2] * rays[2]
        for i in range(3)
    )


class Hit(NamedTuple):
    """Hits of rays, [R] each."""

    depth: Array  # metres along the optical axis; about FAR for the sky
    identity: Array  # int32
    face: Array  # int32: axis, in its box's frame, of the face that was hit; see `solids`


def _label_bits(world: World) -> int:
    """How many of a packed hit's bits say what was hit: slanted faces need two more."""
    wedges = any(isinstance(solid, Wedges) for _, solid in world.solids())
    return _ID_BITS + (4 if wedges else 2)


def unpack_hit(packed: Array, world: World) -> Hit:
    """The parts of packed hits with that world; those with wedges pack otherwise than others."""
    mask = (1 << _label_bits(world)) - 1
    depth = jax.lax.bitcast_convert_type(packed & ~mask, jnp.float32)
    return Hit(depth, packed & (MAX_IDS - 1), (packed & mask) >> _ID_BITS)


def _own_ray(world_ray: Ray, solid: Solid) -> Ray:
    """The ray in a solid's frame."""
    if not isinstance(solid, Turned):
        return world_ray
    origin, direction = (
        vectors.turn_vector(solid.turn, v) for v in (world_ray.origin, world_ray.direction)
    )
    return intersections.ray(origin, direction)


def sky_id(world: World) -> int:
    """The id of what is beyond everything."""
    return max(first + solids.count(solid) for first, solid in world.solids())


def nearest_hit(world: World, centre: Array, direction: Vector) -> Array:
    """[R] packed nearest hits of the rays centre + t * direction, t > 0 (both world).

    `centre` is [3], or [3, R] for rays each from their own place.
    """
    mask = (1 << _label_bits(world)) - 1

    def pack(depth: Array, label: Array | int) -> Array:
        return (jax.lax.bitcast_convert_type(depth, jnp.int32) & ~mask) | label

    rays = intersections.ray(triple(centre), direction)
    best = jnp.broadcast_to(pack(jnp.float32(FAR), sky_id(world)), direction[0].shape)
    for first, solid in world.solids():
        for i, (depth, face, met) in enumerate(
            intersections.meetings(_own_ray(rays, solid), solid)
        ):
            label = face * MAX_IDS + first + i
            best = jnp.minimum(best, jnp.where(met, pack(depth, label), _MISS))
    return best


def blocked(
    world: World,
    point: Vector,
    direction: Vector,
    length: Array | float,
    ids: Container[int] = range(MAX_IDS),
) -> Array:
    """[R] bool: does anything stand on point + t * direction, 0 < t < length?

    `point` and `direction` are world and broadcast. Things among `ids` are asked, not the ground
    nor the walls around a room.
    """
    rays = intersections.ray(point, direction)
    found = jnp.zeros(jnp.broadcast_shapes(point[0].shape, direction[0].shape), bool)
    for first, solid in world.solids():
        for i, crossed in enumerate(intersections.crossings(_own_ray(rays, solid), solid, length)):
            if first + i in ids:
                found |= crossed
    return found


def inside_something(world: World, point: Array, margin: float) -> Array:
    """[...] bool: is a point [..., 3] within `margin` metres of the box around a thing?"""
    found = jnp.zeros(point.shape[:-1], bool)
    for _, solid in world.solids():
        low, high = solids.bounds(solid)
        place = point[..., None, :]
        if isinstance(solid, Turned):
            own = vectors.turn_vector(solid.turn, triple(jnp.moveaxis(place, -1, 0)))
            place = jnp.stack(own, axis=-1)
        lead = (1,) * (point.ndim - 1)
        within = (low.reshape(*lead, -1, 3) - margin < place) & (
            place < high.reshape(*lead, -1, 3) + margin
        )
        found |= within.all(axis=-1).any(axis=-1)
    return found
