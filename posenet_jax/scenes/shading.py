"""From hits to colours, unbatched: what all kinds of worlds share.

In three steps, so that each can be a program of its own: which texel to read, `fetch` reads it,
and a world's own `shade` lights it. Light is computed on linear colour, taken as the square of
display-referred colour; results are display-referred, 0-1 and above where overexposed.
"""

import enum
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from posenet_jax import geometry
from posenet_jax.scenes import atlas as atlases
from posenet_jax.scenes import solids, vectors
from posenet_jax.scenes.atlas import Atlas
from posenet_jax.scenes.config import ViewConfig
from posenet_jax.scenes.intersections import FAR, SLANTED
from posenet_jax.scenes.raycast import Camera, Hit, World
from posenet_jax.scenes.solids import Solid
from posenet_jax.scenes.vectors import Vector, triple

Array = jax.Array
Colour = tuple[Array, Array, Array]

BRIGHTEST = 1.5
_BITS = (11, 11, 10)


class Semantic(enum.IntEnum):
    """Surface shown at a pixel."""

    SKY = 0
    GROUND = 1
    BUILDING = 2
    CAR = 3
    TREE = 4
    POLE = 5
    FLOOR = 6
    WALL = 7
    CEILING = 8
    WINDOW = 9
    DOOR = 10
    PICTURE = 11
    TABLE = 12
    SEAT = 13
    BED = 14
    CUPBOARD = 15
    LAMP = 16


class Sample(NamedTuple):
    """A texture lookup in two words, because a stage that returns one is computed once."""

    place: Array  # uint32 [R]: u and v in the low and high half, 65536 = one texture
    level: Array  # int32 [R]: 16 * layer + mip level


class Seen(NamedTuple):
    """Hits of rays [R] from one camera, in the world."""

    direction: Vector
    hit: Hit
    point: Vector  # metres
    normal: Vector  # unit, outward
    pixel: Array  # metres: side of what a pixel covers, were it to face the camera


class Texture(NamedTuple):
    """Texture and place in it, [R] each, for a pixel of 1 metre."""

    layer: Array | int  # int32
    u: Array  # rightward, in [0, 1]
    v: Array  # downward, in [0, 1]
    footprint: Array  # side of a pixel, 1 = one texture


def pack_colour(colour: Colour) -> Array:
    """Colour -> one uint32 of 11, 11 and 10 bits; values are clipped to [0, BRIGHTEST]."""
    words = []
    for plane, bits in zip(colour, _BITS, strict=True):
        scaled = plane * ((2**bits - 1) / BRIGHTEST) + 0.5
        words.append(jnp.clip(scaled, 0.0, 2**bits - 1).astype(jnp.uint32))
    return words[0] | (words[1] << _BITS[0]) | (words[2] << (_BITS[0] + _BITS[1]))


def unpack_colour(word: Array) -> Colour:
    """The inverse of `pack_colour`, to 1/1364 and 1/682 of white."""
    shifts = (0, _BITS[0], _BITS[0] + _BITS[1])
    return triple(
        ((word >> shift) & (2**bits - 1)).astype(jnp.float32) * (BRIGHTEST / (2**bits - 1))
        for shift, bits in zip(shifts, _BITS, strict=True)
    )


def classes(identity: Array, kinds: Sequence[tuple[int, Semantic]]) -> Array:
    """uint8 `Semantic` of hit ids: that of the first of (stop, kind) whose stop exceeds the id."""
    kind = jnp.full(identity.shape, kinds[-1][1], jnp.uint8)
    for stop, value in reversed(kinds[:-1]):
        kind = jnp.where(identity < stop, jnp.uint8(value), kind)
    return kind


def pick(identity: Array, values: Array, first: int = 0) -> Array:
    """values[identity - first], by selection: on CPUs a tenth of the price of a batched gather.

    Ids outside the table get its first entry.
    """
    picked = jnp.broadcast_to(values[0], identity.shape)
    for i in range(1, values.shape[0]):
        picked = jnp.where(identity == first + i, values[i], picked)
    return picked


def is_in(identity: Array, ids: slice) -> Array:
    """[R] bool: is an id in a slice with both ends?"""
    return (identity >= ids.start) & (identity < ids.stop)


def hit_point(camera: Camera, direction: Vector, depth: Array) -> Vector:
    """World points at `depth` on rays from the camera; direction in the world."""
    return triple(camera.centre[i] + depth * direction[i] for i in range(3))


def _face_normal(face: Array, direction: Vector) -> Vector:
    """Outward normal of a box's face: along its axis, against the ray; both in the box's frame."""
    return triple(
        jnp.where(face == i, jnp.where(d > 0.0, -1.0, 1.0), 0.0) for i, d in enumerate(direction)
    )


def _round_normal(
    point: Vector, identity: Array, centre: Array, weight: Array, first: int
) -> Vector:
    """Outward normal of sum (weight (p - c)^2) = 1: its gradient. centre and weight are [n, 3]."""
    parts = []
    for p, c, w in zip(point, centre.T, weight.T, strict=True):
        parts.append((p - pick(identity, c, first)) * pick(identity, w, first))
    scale = jax.lax.rsqrt(jnp.maximum(sum(p * p for p in parts), 1e-12))
    return triple(p * scale for p in parts)


def _own_normal(
    solid: Solid, first: int, face_normal: Vector, direction: Vector, point: Vector, hit: Hit
) -> Vector | None:
    """World normals of one sort of thing; None where they are a box's in the world's frame."""
    match solid:
        case solids.Ground():
            return (jnp.float32(0.0), jnp.float32(0.0), jnp.float32(1.0))
        case solids.Turned(_, turn):
            face = _face_normal(hit.face, vectors.turn_vector(turn, direction))
            return vectors.turn_vector(-turn, face)
        case solids.Crowns(centre, radius) | solids.Balls(centre, radius):
            return _round_normal(point, hit.identity, centre, radius**-2, first)
        case solids.Rollers(centre, radius, _):
            weight = radius[:, None] ** -2 * jnp.array([[1.0, 0.0, 1.0]])
            tread = _round_normal(point, hit.identity, centre, weight, first)
            pairs = zip(face_normal, tread, strict=True)
            return triple(jnp.where(hit.face == 1, f, t) for f, t in pairs)
        case solids.Wedges(_, normal, _):
            planes = normal.shape[1]
            plane = (hit.identity - first) * planes + hit.face - SLANTED
            slanted = (pick(plane, n) for n in normal.reshape(-1, 3).T)
            pairs = zip(face_normal, slanted, strict=True)
            return triple(jnp.where(hit.face < SLANTED, f, s) for f, s in pairs)
        case _:
            return None


def normals(world: World, direction: Vector, point: Vector, hit: Hit) -> Vector:
    """World normals of what was hit; the sky's is straight down."""
    face = _face_normal(hit.face, direction)
    normal = face
    for first, solid in world.solids():
        own = _own_normal(solid, first, face, direction, point, hit)
        if own is not None:
            here = is_in(hit.identity, slice(first, first + solids.count(solid)))
            normal = triple(jnp.where(here, o, n) for o, n in zip(own, normal, strict=True))
    down = (0.0, 0.0, -1.0)
    return triple(jnp.where(is_sky(hit), d, n) for d, n in zip(down, normal, strict=True))


def is_sky(hit: Hit) -> Array:
    """[R] bool: did a ray meet nothing?"""
    return hit.depth > 0.75 * FAR


def local(world: World, vector: Vector, identity: Array) -> Vector:
    """World vectors in the frame of the box that was hit."""
    for first, solid in world.solids():
        if isinstance(solid, solids.Turned):
            own = is_in(identity, slice(first, first + solids.count(solid)))
            turned = vectors.turn_vector(solid.turn, vector)
            vector = triple(jnp.where(own, t, p) for t, p in zip(turned, vector, strict=True))
    return vector


def remainder(x: Array, period: float) -> Array:
    """x modulo period, in [0, period): `jnp.mod` calls fmod, one element at a time on CPUs."""
    return x - period * jnp.floor(x * (1.0 / period))


def fold(x: Array) -> Array:
    """Mirrored repetition with period 2: a texture meets its mirror image, without a seam."""
    return 1.0 - jnp.abs(remainder(x, 2.0) - 1.0)


def stretch(slope: Array) -> Array:
    """Mean side of a pixel on an inclined surface, where it covers 1 across and 1 / slope along."""
    return jax.lax.rsqrt(jnp.maximum(slope, 0.05))


def pixel_size(hit: Hit, camera: Camera, config: ViewConfig) -> Array:
    """[R] side in metres of what a pixel covers at a hit, were it to face the camera."""
    return hit.depth / geometry.focal_length(config.width, camera.field_of_view)


def sample(texture: Texture, pixel: Array, size: int) -> Sample:
    """Texture lookups for pixels of `pixel` [R] metres in an atlas of `size` texels a side."""
    # The largest mip level whose texels do not exceed the footprint: the exponent's bits are the
    # logarithm's floor.
    texels = jnp.maximum(texture.footprint * pixel * size, 1.0)
    level = (jax.lax.bitcast_convert_type(texels, jnp.int32) >> 23) - 127
    level = jnp.minimum(level, size.bit_length() - 1)
    u, v = (jnp.clip(x * 65536.0, 0.0, 65535.0).astype(jnp.uint32) for x in (texture.u, texture.v))
    return Sample(u | (v << 16), 16 * texture.layer + level)


def fetch(atlas: Atlas, sample: Sample) -> Array:
    """Packed display-referred colours (see `pack_colour`) of texture lookups, bilinear."""
    size, layer, level = atlas.size, sample.level >> 4, sample.level & 15
    side = size >> level
    base = layer * atlas.texels.shape[-1] + atlases.level_offset(size, side)
    u, v = (sample.place & 65535, sample.place >> 16)
    x, y = (c.astype(jnp.float32) * side / 65536.0 - 0.5 for c in (u, v))
    left, top = jnp.floor(x), jnp.floor(y)
    columns = [jnp.clip(left.astype(jnp.int32) + i, 0, side - 1) for i in (0, 1)]
    rows = [base + side * jnp.clip(top.astype(jnp.int32) + i, 0, side - 1) for i in (0, 1)]
    texels = atlas.texels.ravel()
    corners = [
        atlases.unpack(texels.at[row + column].get(mode="promise_in_bounds"))
        for row in rows
        for column in columns
    ]
    right, below = x - left, y - top
    colour = []
    for a, b, c, d in zip(*corners, strict=True):
        upper, lower = a + right * (b - a), c + right * (d - c)
        colour.append((upper + below * (lower - upper)) * (1.0 / 255.0))
    return pack_colour(triple(colour))
