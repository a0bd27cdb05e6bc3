"""Nearest hits of rays with a city, unbatched. A ray's parameter is its z-depth in metres.

Directions have z component 1 in the camera's frame, so the parameter of a point on a ray is its
depth. A hit is one int32: the bits of the depth, whose order is the depth's own for positive
floats, with what was hit in the low eight bits: the axis of a box's face in the upper two, the id
in the lower six. Depths are thereby too small by a fraction of at most 2^-15. The nearest hit is
an integer minimum, and nothing of size [rays, boxes] is ever stored.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from posenet_jax import geometry
from posenet_jax.scenes.city import GROUND, NUM_BOXES, NUM_CROWNS, SKY, TURNED, City
from posenet_jax.scenes.config import SceneConfig

Array = jax.Array
# x, y and z apart: planes vectorise, interleaved triples do not.
Vector = tuple[Array, Array, Array]

FAR = 1e6  # metres: the depth that stands for the sky's
_ID_MASK = 63
_LABEL_MASK = 255
_AXIS = 64
_NEAR = 1e-3
_MISS = 2**31 - 1


class Camera(NamedTuple):
    """A pinhole camera with square pixels."""

    rotation: Array  # [3, 3] camera to world
    centre: Array  # [3] metres, world
    field_of_view: Array  # [] radians, horizontal


def triple(planes: Iterable[Array]) -> Vector:
    """Exactly three planes as a tuple."""
    x, y, z = planes
    return x, y, z


def image_rays(config: SceneConfig, field_of_view: Array) -> Vector:
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


def turn_vector(angle: Array, vector: Vector) -> Vector:
    """World coordinates -> those of a frame turned by `angle` about z."""
    c, s = jnp.cos(angle), jnp.sin(angle)
    return c * vector[0] + s * vector[1], c * vector[1] - s * vector[0], vector[2]


def _inverse(direction: Vector) -> Vector:
    """1/d with a finite stand-in for 0, so that a slab parallel to the ray yields no NaN."""
    return triple(1.0 / jnp.where(jnp.abs(d) < 1e-9, 1e-9, d) for d in direction)


def _smaller(a: Array, b: Array) -> Array:
    """Minimum without NaN's special case, which costs XLA:CPU two more instructions."""
    return jnp.where(a < b, a, b)


def _larger(a: Array, b: Array) -> Array:
    return jnp.where(a > b, a, b)


def slabs(origin: Vector, inverse: Vector, low: Array, high: Array) -> tuple[Vector, Array]:
    """Where rays enter the three slabs of one box, and where they leave the first of them.

    low and high are [3]. A ray is in the box from its largest entry to its exit, if that is later.
    """
    one = [(low[axis] - origin[axis]) * inverse[axis] for axis in range(3)]
    two = [(high[axis] - origin[axis]) * inverse[axis] for axis in range(3)]
    near = [_smaller(a, b) for a, b in zip(one, two, strict=True)]
    far = [_larger(a, b) for a, b in zip(one, two, strict=True)]
    return triple(near), _smaller(_smaller(far[0], far[1]), far[2])


def _wave(x: Array) -> Array:
    """Triangle wave in [0, 1] of period 1: a sine would do, at ten times the price."""
    return jnp.abs(2.0 * (x - jnp.floor(x)) - 1.0)


def _leaves(p: Vector) -> Array:
    """Ragged pattern in [0, 1] on the unit sphere."""
    x, y, z = p
    coarse = _wave(1.7 * x + 0.9 * z) + _wave(1.5 * y - 1.1 * z + 0.3) + _wave(1.9 * z + x - y)
    fine = _wave(4.3 * x + 3.1 * y + 2.2 * z) + _wave(4.9 * z - 3.7 * x + 1.3 * y)
    return 0.2 * (coarse + fine)


def _crown(origin: Vector, direction: Vector, centre: Array, radius: Array) -> tuple[Array, Array]:
    """Entry depth of an ellipsoid (FAR if missed) and whether the ray goes through leaves there.

    In coordinates that make the ellipsoid a unit sphere, |o + t d|^2 = 1. Near the silhouette
    leaves are sparse: a ray passes where the cosine of incidence is below the leaves' pattern.
    """
    o = triple((origin[i] - centre[i]) / radius[i] for i in range(3))
    d = triple(direction[i] / radius[i] for i in range(3))
    pairs = ((d, d), (o, d), (o, o))
    dd, od, oo = (sum(a * b for a, b in zip(u, v, strict=True)) for u, v in pairs)
    square = od * od - dd * (oo - 1.0)
    root = jnp.sqrt(jnp.maximum(square, 0.0))
    depth = (-od - root) / dd
    dense = root > 1.1 * _leaves(triple(o[i] + depth * d[i] for i in range(3))) * jnp.sqrt(dd)
    hit = (square > 0.0) & (depth > _NEAR)
    return jnp.where(hit, depth, FAR), hit & dense


class Hit(NamedTuple):
    """What rays met, [R] each."""

    depth: Array  # metres along the optical axis; FAR for the sky
    identity: Array  # int32: box, NUM_BOXES + crown, GROUND or SKY
    axis: Array  # int32 0-2: the axis, in the box's frame, of the face that was hit


def _pack(depth: Array, label: Array | int) -> Array:
    bits = jax.lax.bitcast_convert_type(depth, jnp.int32)
    return (bits & ~_LABEL_MASK) | label


def unpack_hit(packed: Array) -> Hit:
    """The parts of packed hits."""
    depth = jax.lax.bitcast_convert_type(packed & ~_LABEL_MASK, jnp.float32)
    return Hit(depth, packed & _ID_MASK, (packed // _AXIS) & 3)


def _box_hit(origin: Vector, inverse: Vector, low: Array, high: Array, identity: int) -> Array:
    """Packed hit of one box, or _MISS."""
    near, leave = slabs(origin, inverse, low, high)
    side = _larger(near[0], near[1])
    entry = _larger(side, near[2])
    upright = jnp.where(near[0] > near[1], identity, identity + _AXIS)
    label = jnp.where(side > near[2], upright, identity + 2 * _AXIS)
    return jnp.where((entry <= leave) & (entry > _NEAR), _pack(entry, label), _MISS)


def nearest_hit(city: City, centre: Array, direction: Vector) -> Array:
    """[R] packed nearest hits of the rays centre + t * direction, t > 0 (both world)."""
    origin = triple(centre)
    frames = [(origin, _inverse(direction))]
    turned = tuple(turn_vector(city.turn, v) for v in (origin, direction))
    frames.append((turned[0], _inverse(turned[1])))
    # z = 0 is met at -o_z / d_z; far away it is the horizon.
    down = -origin[2] * frames[0][1][2]
    ground = (direction[2] < 0.0) & (down < 0.5 * FAR)
    best = jnp.where(ground, _pack(down, GROUND), _pack(jnp.float32(FAR), SKY))
    for i in range(NUM_BOXES):
        start, inverse = frames[TURNED.start <= i < TURNED.stop]
        low, high = city.boxes.low[i], city.boxes.high[i]
        best = jnp.minimum(best, _box_hit(start, inverse, low, high, i))
    for i in range(NUM_CROWNS):
        depth, hit = _crown(origin, direction, city.crowns.centre[i], city.crowns.radius[i])
        best = jnp.minimum(best, jnp.where(hit, _pack(depth, NUM_BOXES + i), _MISS))
    return best


def blocked(
    city: City,
    point: Vector,
    direction: Vector,
    length: Array | float,
    boxes: Sequence[int] = range(NUM_BOXES),
) -> Array:
    """[R] bool: does anything stand on point + t * direction, 0 < t < length?

    `point` and `direction` are world and broadcast. Crowns and `boxes` are asked, not the ground.
    """
    frames = [(point, _inverse(direction))]
    turned = tuple(turn_vector(city.turn, v) for v in (point, direction))
    frames.append((turned[0], _inverse(turned[1])))
    found = jnp.zeros(jnp.broadcast_shapes(point[0].shape, direction[0].shape), bool)
    for i in boxes:
        start, inverse = frames[TURNED.start <= i < TURNED.stop]
        near, leave = slabs(start, inverse, city.boxes.low[i], city.boxes.high[i])
        entry = _larger(_larger(near[0], near[1]), near[2])
        found |= (entry < leave) & (leave > 0.0) & (entry < length)
    for i in range(NUM_CROWNS):
        depth, dense = _crown(point, direction, city.crowns.centre[i], city.crowns.radius[i])
        found |= dense & (depth < length)
    return found


def inside_something(city: City, point: Array, margin: float) -> Array:
    """[...] bool: is a point [..., 3] within `margin` metres of a box or crown (as a box)?"""
    own = (jnp.arange(GROUND) >= TURNED.start) & (jnp.arange(GROUND) < TURNED.stop)
    turned = jnp.stack(turn_vector(city.turn, triple(jnp.moveaxis(point, -1, 0))), axis=-1)
    lead = (1,) * (point.ndim - 1)
    place = jnp.where(own.reshape(*lead, -1, 1), turned[..., None, :], point[..., None, :])
    low = jnp.concatenate([city.boxes.low, city.crowns.centre - city.crowns.radius]) - margin
    high = jnp.concatenate([city.boxes.high, city.crowns.centre + city.crowns.radius]) + margin
    within = (low.reshape(*lead, -1, 3) < place) & (place < high.reshape(*lead, -1, 3))
    return within.all(axis=-1).any(axis=-1)
