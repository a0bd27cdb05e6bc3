"""Colour of what rays hit, unbatched, in three steps so that each can be a program of its own.

`look_up` finds which texel to read, `fetch` reads it, `shade` lights it. Light is computed on
linear colour, taken as the square of display-referred colour; results are display-referred, 0-1
and above where overexposed.
"""

import enum
from typing import NamedTuple

import jax
import jax.numpy as jnp

from posenet_jax import geometry
from posenet_jax.scenes import atlas as atlases
from posenet_jax.scenes import raycast
from posenet_jax.scenes.atlas import Atlas, Material
from posenet_jax.scenes.city import (
    BUILDINGS,
    CAR_BODIES,
    CAR_CABINS,
    GROUND,
    NUM_BOXES,
    POLES,
    SKY,
    TURNED,
    City,
)
from posenet_jax.scenes.config import SceneConfig
from posenet_jax.scenes.raycast import Camera, Hit, Vector, triple

Array = jax.Array
Colour = tuple[Array, Array, Array]

# Poles and trunks are thinner than a pixel of most of their shadows.
_CASTERS = range(CAR_CABINS.stop)
BRIGHTEST = 1.5
_BITS = (11, 11, 10)


class Semantic(enum.IntEnum):
    """What a pixel shows."""

    SKY = 0
    GROUND = 1
    BUILDING = 2
    CAR = 3
    TREE = 4
    POLE = 5


class Sample(NamedTuple):
    """A texture lookup in two words, because a stage that returns one is computed once."""

    place: Array  # uint32 [R]: u and v in the low and high half, 65536 = one texture
    level: Array  # int32 [R]: 16 * layer + mip level


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


def semantic(identity: Array) -> Array:
    """uint8 `Semantic` of hit ids."""
    kinds = [
        (TURNED.stop, Semantic.BUILDING),
        (CAR_CABINS.stop, Semantic.CAR),
        (POLES.stop, Semantic.POLE),
        (GROUND, Semantic.TREE),
        (SKY, Semantic.GROUND),
    ]
    kind = jnp.full(identity.shape, Semantic.SKY, jnp.uint8)
    for stop, value in reversed(kinds):
        kind = jnp.where(identity < stop, jnp.uint8(value), kind)
    return kind


def _pick(identity: Array, values: Array, first: int = 0) -> Array:
    """values[identity - first], by selection: on CPUs a tenth of the price of a batched gather.

    Ids outside the table get its first entry.
    """
    picked = jnp.broadcast_to(values[0], identity.shape)
    for i in range(1, values.shape[0]):
        picked = jnp.where(identity == first + i, values[i], picked)
    return picked


def _is_in(identity: Array, ids: slice) -> Array:
    return (identity >= ids.start) & (identity < ids.stop)


def _local(city: City, vector: Vector, identity: Array) -> Vector:
    """World vectors in the frame of the box that was hit."""
    own = _is_in(identity, TURNED)
    turned = raycast.turn_vector(city.turn, vector)
    return triple(jnp.where(own, t, p) for t, p in zip(turned, vector, strict=True))


def _face_normal(axis: Array, direction: Vector) -> Vector:
    """Outward normal of a box's face: along its axis, against the ray; both in the box's frame."""
    return triple(
        jnp.where(axis == i, jnp.where(d > 0.0, -1.0, 1.0), 0.0) for i, d in enumerate(direction)
    )


def _crown_normal(city: City, point: Vector, identity: Array) -> Vector:
    """Outward normal of an ellipsoid, the gradient of sum ((p - c) / r)^2."""
    parts = []
    for p, centre, radius in zip(point, city.crowns.centre.T, city.crowns.radius.T, strict=True):
        weight = _pick(identity, radius**-2, NUM_BOXES)
        parts.append((p - _pick(identity, centre, NUM_BOXES)) * weight)
    scale = jax.lax.rsqrt(jnp.maximum(sum(p * p for p in parts), 1e-12))
    return triple(p * scale for p in parts)


def hit_point(camera: Camera, direction: Vector, depth: Array) -> Vector:
    """World points at `depth` on rays from the camera; direction in the world."""
    return triple(camera.centre[i] + depth * direction[i] for i in range(3))


def normals(city: City, direction: Vector, point: Vector, hit: Hit) -> Vector:
    """World normals of what was hit; the sky's is straight down."""
    identity = hit.identity
    face = _face_normal(hit.axis, _local(city, direction, identity))
    back = raycast.turn_vector(-city.turn, face)
    own = _is_in(identity, TURNED)
    box = triple(jnp.where(own, b, f) for b, f in zip(back, face, strict=True))
    crown = _crown_normal(city, point, identity)
    flat: tuple[Array | float, ...] = (0.0, 0.0, jnp.where(identity == GROUND, 1.0, -1.0))
    return triple(
        jnp.where(identity < NUM_BOXES, b, jnp.where(identity < GROUND, c, f))
        for b, c, f in zip(box, crown, flat, strict=True)
    )


def _remainder(x: Array, period: float) -> Array:
    """x modulo period, in [0, period): `jnp.mod` calls fmod, one element at a time on CPUs."""
    return x - period * jnp.floor(x * (1.0 / period))


def _fold(x: Array) -> Array:
    """Mirrored repetition with period 2: a texture meets its mirror image, without a seam."""
    return 1.0 - jnp.abs(_remainder(x, 2.0) - 1.0)


def _road(city: City, point: Vector) -> tuple[Array, Array]:
    """Is a ground point on the road; distance from the street's axis."""
    across = jnp.abs(point[1])
    kerb = jnp.where(point[1] > 0.0, city.street.kerb[0], city.street.kerb[1])
    return across < kerb, across


class _Texture(NamedTuple):
    """Which texture shows where, [R] each."""

    layer: Array | int  # int32
    u: Array  # rightward, in [0, 1]
    v: Array  # downward, in [0, 1]
    footprint: Array  # side of a pixel, 1 = one texture


def _facade(city: City, direction: Vector, point: Vector, hit: Hit, num_facades: int) -> _Texture:
    """Wall texture. Above the first tile the ground floor is left out of the repetition."""
    surface, walls = city.surface, slice(0, TURNED.stop)
    layer = jnp.minimum((surface.facade[walls] * num_facades).astype(jnp.int32), num_facades - 1)
    scale = _pick(hit.identity, 1.0 / surface.tile[walls])
    shift = _pick(hit.identity, surface.shift[walls])
    local, way = (_local(city, v, hit.identity) for v in (point, direction))
    up = local[2] * scale
    up = jnp.where(up < 1.0, up, 0.3 + _remainder(up - 0.3, 0.7))
    u = jnp.where(hit.axis == 0, local[1], local[0]) * scale + 2.0 * shift
    slope = jnp.abs(jnp.where(hit.axis == 0, way[0], way[1]))
    layers = len(Material) + _pick(hit.identity, layer)
    return _Texture(layers, _fold(u), 1.0 - jnp.clip(up, 0.0, 1.0), scale * _stretch(slope))


def _stretch(slope: Array) -> Array:
    """Mean side of a pixel on an inclined surface, where it covers 1 across and 1 / slope along."""
    return jax.lax.rsqrt(jnp.maximum(slope, 0.05))


def _ground(city: City, direction: Vector, point: Vector) -> _Texture:
    road, _ = _road(city, point)
    scale = jnp.where(road, 1.0 / 7.0, 1.0 / 5.0)
    layer = jnp.where(road, Material.ASPHALT, Material.PAVING)
    footprint = scale * _stretch(jnp.abs(direction[2]))
    return _Texture(layer, _fold(scale * point[0]), _fold(scale * point[1]), footprint)


def _leaves(point: Vector) -> _Texture:
    """Foliage through slanted planes, so that no side of a crown sees it edge on."""
    scale = 1.0 / 1.5
    u, v = point[0] + 0.7 * point[1], point[2] + 0.3 * point[1]
    one = jnp.ones_like(u)
    return _Texture(Material.FOLIAGE, _fold(scale * u), _fold(scale * v), scale * one)


def _clouds(direction: Vector) -> _Texture:
    """Clouds on a plane overhead; the offset keeps the horizon finite."""
    flat = jnp.sqrt(direction[0] ** 2 + direction[1] ** 2)
    reach = 0.3 / (jnp.maximum(direction[2], 0.0) + 0.25 * flat + 1e-3)
    zero = jnp.zeros_like(reach)
    return _Texture(Material.CLOUD, _fold(reach * direction[0]), _fold(reach * direction[1]), zero)


def _texture(city: City, direction: Vector, hit: Hit, point: Vector, num_facades: int) -> _Texture:
    """The texture that each ray shows; its footprint is that of a pixel of 1 metre."""
    identity = hit.identity
    facade = _facade(city, direction, point, hit, num_facades)
    ground, leaves, clouds = _ground(city, direction, point), _leaves(point), _clouds(direction)

    def choose(facade, ground, leaves, clouds):
        nature = jnp.where(identity == SKY, clouds, leaves)
        return jnp.where(
            identity < TURNED.stop, facade, jnp.where(identity == GROUND, ground, nature)
        )

    return jax.tree.map(choose, facade, ground, leaves, clouds)


def look_up(
    city: City, camera: Camera, direction: Vector, packed: Array, atlas: Atlas, config: SceneConfig
) -> Sample:
    """Texels that the hits [R] of rays from the camera show; direction in the world."""
    hit = raycast.unpack_hit(packed)
    point = hit_point(camera, direction, hit.depth)
    texture = _texture(city, direction, hit, point, atlas.num_facades)
    pixel = hit.depth / geometry.focal_length(config.width, camera.field_of_view)
    # The largest mip level whose texels do not exceed the footprint: the exponent's bits are the
    # logarithm's floor.
    texels = jnp.maximum(texture.footprint * pixel * atlas.size, 1.0)
    level = (jax.lax.bitcast_convert_type(texels, jnp.int32) >> 23) - 127
    level = jnp.minimum(level, atlas.size.bit_length() - 1)
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


def sun_reaches(city: City, camera: Camera, direction: Vector, packed: Array) -> Array:
    """[R] bool: is a hit lit by the sun, facing aside?"""
    hit = raycast.unpack_hit(packed)
    # A little toward the camera: off the surface, and so not in its own shadow.
    depth = jnp.where(hit.identity == SKY, 0.0, hit.depth * 0.999 - 0.005)
    point = hit_point(camera, direction, depth)
    return ~raycast.blocked(city, point, triple(city.light.sun), raycast.FAR, _CASTERS)


def _markings(city: City, point: Vector, pixel: Array) -> Array:
    """[R] cover of white paint on a ground point: middle line, kerb line, crossing.

    Edges are widened to a pixel, which is what a thin line far away needs.
    """
    road, across = _road(city, point)
    soft = 1.0 / (pixel + 0.02)
    line = jnp.clip((0.09 - across) * soft + 0.5, 0.0, 1.0) * jnp.minimum(0.18 * soft, 1.0)
    dashed = line * (_remainder(point[0], 7.0) < 3.0) * city.street.marked
    stripes = jnp.clip((0.25 - jnp.abs(_remainder(across, 1.0) - 0.5)) * soft + 0.5, 0.0, 1.0)
    # Where a pixel exceeds a period, stripes are their mean.
    stripes = jnp.where(pixel > 0.7, 0.5, stripes)
    zebra = stripes * (jnp.abs(point[0] - city.street.crossing) < 1.7)
    return road * jnp.maximum(dashed, zebra)


def _car(city: City, point: Vector, normal: Vector, identity: Array) -> Array:
    """[R] fraction of a car's paint that shows; the rest is glass, tyre or shadow."""
    cars = slice(CAR_BODIES.start, CAR_CABINS.stop)
    start = _pick(identity, city.boxes.low[cars, 0], cars.start)
    length = _pick(identity, city.boxes.high[cars, 0] - city.boxes.low[cars, 0], cars.start)
    roof = _pick(identity, city.boxes.high[cars, 2], cars.start)
    along, cabin = point[0] - start, identity >= CAR_CABINS.start
    side, upright = jnp.abs(normal[1]) > 0.5, normal[2] < 0.5
    # Pillars and wheels lie symmetrically about the middle.
    off = jnp.abs(along - 0.5 * length)
    pillar = side & ((off < 0.08) | (off > 0.44 * length))
    glass = cabin & upright & ~pillar & (point[2] < roof - 0.1)
    wheel = side & ~cabin & ((off - 0.31 * length) ** 2 + (point[2] - 0.3) ** 2 < 0.12)
    sill = ~cabin & (point[2] < 0.33) & upright
    lamp = ~side & ~cabin & upright & (jnp.abs(point[2] - 0.65) < 0.1)
    dark = jnp.where(glass, 0.18, jnp.where(wheel | sill, 0.07, 1.0))
    return jnp.where(lamp, 0.7, dark)


def _albedo(
    city: City, point: Vector, hit: Hit, normal: Vector, texture: Colour, pixel: Array
) -> Colour:
    """Display-referred colour before light; `pixel` is a pixel's side in metres."""
    identity = hit.identity
    building, ground = identity < TURNED.stop, identity == GROUND
    textured = building | (identity >= NUM_BOXES)
    roof = building & (hit.axis == 2)
    car = identity < CAR_CABINS.stop  # buildings come before cars and are textured
    paint = jnp.where(car & ~textured, _car(city, point, normal, identity), 1.0)
    white = jnp.where(ground, 0.8 * _markings(city, point, pixel), 0.0)
    tints = unpack_colour(_pick(identity, pack_colour(triple(city.surface.tint.T))))
    colour = []
    for tint, tex in zip(tints, texture, strict=True):
        plain = jnp.where(textured, jnp.where(roof, 0.4, tex), 1.0) * tint * paint
        colour.append(plain + white * (0.85 - plain))
    return triple(colour)


def _sky(city: City, direction: Vector, cover: Array) -> Colour:
    """Display-referred sky: gradient, and clouds whiter than it. Direction need not be unit."""
    length = jax.lax.rsqrt(sum(d * d for d in direction))
    rise = jnp.clip(direction[2] * length, 0.0, 1.0)
    blend = 1.0 - (1.0 - rise) ** 2 * jnp.sqrt(1.0 - rise)
    light = city.light
    amount = jnp.clip(light.cloud * 2.0 * cover - 0.4, 0.0, 0.85)
    clear = [h + blend * (z - h) for h, z in zip(light.horizon, light.zenith, strict=True)]
    return triple(jnp.sqrt(c + amount * (0.95 - c)) for c in clear)


def _corner_shade(city: City, point: Vector, identity: Array) -> Array:
    """[R] how much of the sky's light arrives: less near the foot of walls, and under cars."""
    foot = 0.6 + 0.4 * jnp.clip(point[2] / 3.0, 0.0, 1.0)
    line = jnp.where(point[1] > 0.0, city.street.line[0], city.street.line[1])
    ground = 0.65 + 0.35 * jnp.clip((line - jnp.abs(point[1])) / 3.0, 0.0, 1.0)
    for i in range(CAR_BODIES.start, CAR_BODIES.stop):
        low, high = city.boxes.low[i], city.boxes.high[i]
        gap = [jnp.maximum(jnp.maximum(low[a] - point[a], point[a] - high[a]), 0.0) for a in (0, 1)]
        near = jnp.clip(1.0 - 1.6 * (gap[0] + gap[1]), 0.0, 1.0)
        ground = ground * (1.0 - 0.75 * jnp.where(low[2] > 0.0, near, 0.0))
    return jnp.where(identity == GROUND, ground, jnp.where(identity < BUILDINGS.stop, foot, 0.9))


def _open_sky(city: City, point: Vector, normal: Vector, identity: Array) -> Array:
    """[R] share of the sky's light: less on what faces down or lies in a corner."""
    return _corner_shade(city, point, identity) * (0.85 + 0.15 * normal[2])


def _facing(city: City, normal: Vector, identity: Array) -> Array:
    """[R] cosine of the sun's incidence; leaves scatter, so that crowns have no hard terminator."""
    cosine = jnp.clip(sum(n * s for n, s in zip(normal, city.light.sun, strict=True)), 0.0, 1.0)
    crown = (identity >= NUM_BOXES) & (identity < GROUND)
    return jnp.where(crown, 0.25 + 0.6 * cosine, cosine)


def shade(
    city: City,
    camera: Camera,
    direction: Vector,
    packed: Array,
    texture: Array,
    lit: Array,
    config: SceneConfig,
) -> Array:
    """Packed colours of rays' hits. Direction in the world; texture as fetched; lit [R] bool."""
    hit = raycast.unpack_hit(packed)
    texel, light = unpack_colour(texture), city.light
    point = hit_point(camera, direction, hit.depth)
    normal = normals(city, direction, point, hit)
    pixel = hit.depth / geometry.focal_length(config.width, camera.field_of_view)
    albedo = _albedo(city, point, hit, normal, texel, pixel)
    sun = jnp.where(lit, _facing(city, normal, hit.identity), 0.0)
    open_sky = _open_sky(city, point, normal, hit.identity)
    length = jnp.sqrt(sum(d * d for d in direction))
    clear = jnp.exp(-light.haze * jnp.minimum(hit.depth, 1e4) * length)
    sky = _sky(city, direction, texel[0])
    colour = []
    for i in range(3):
        linear = albedo[i] * albedo[i] * (light.ambient[i] * open_sky + light.sunlight[i] * sun)
        hazy = jnp.sqrt(light.horizon[i] + clear * (linear - light.horizon[i]))
        colour.append(jnp.where(hit.identity == SKY, sky[i], hazy))
    return pack_colour(triple(colour))
