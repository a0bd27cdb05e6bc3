"""How a street looks: textures, paint, sky and daylight. Unbatched; see `shading`."""

import jax
import jax.numpy as jnp

from posenet_jax.scenes import raycast
from posenet_jax.scenes.atlas import Material
from posenet_jax.scenes.raycast import Hit
from posenet_jax.scenes.shading import (
    Colour,
    Seen,
    Semantic,
    Texture,
    classes,
    fold,
    local,
    pack_colour,
    pick,
    remainder,
    stretch,
    unpack_colour,
)
from posenet_jax.scenes.street.city import (
    BUILDINGS,
    CAR_BODIES,
    CAR_CABINS,
    CROWNS,
    GROUND,
    NUM_BOXES,
    POLES,
    SKY,
    TURNED,
    City,
)
from posenet_jax.scenes.vectors import Vector, triple

Array = jax.Array

# Poles and trunks are thinner than a pixel of most of their shadows.
_CASTERS = (*range(CAR_CABINS.stop), *range(CROWNS.start, CROWNS.stop))


def semantic(city: City, seen: Seen) -> Array:
    """uint8 `Semantic` of hits."""
    del city
    kinds = [
        (TURNED.stop, Semantic.BUILDING),
        (CAR_CABINS.stop, Semantic.CAR),
        (POLES.stop, Semantic.POLE),
        (GROUND, Semantic.TREE),
        (SKY, Semantic.GROUND),
        (SKY + 1, Semantic.SKY),
    ]
    return classes(seen.hit.identity, kinds)


def lit(city: City, point: Vector) -> Array:
    """[R] bool: does the sun reach a point, facing aside?"""
    return ~raycast.blocked(city, point, triple(city.light.sun), raycast.FAR, _CASTERS)


def road_at(city: City, point: Vector) -> tuple[Array, Array]:
    """Is a ground point on the road; distance from the street's axis."""
    across = jnp.abs(point[1])
    kerb = jnp.where(point[1] > 0.0, city.street.kerb[0], city.street.kerb[1])
    return across < kerb, across


def _facade(city: City, direction: Vector, point: Vector, hit: Hit, num_facades: int) -> Texture:
    """Wall texture. Above the first tile the ground floor is left out of the repetition."""
    surface, walls = city.surface, slice(0, TURNED.stop)
    layer = jnp.minimum((surface.facade[walls] * num_facades).astype(jnp.int32), num_facades - 1)
    scale = pick(hit.identity, 1.0 / surface.tile[walls])
    shift = pick(hit.identity, surface.shift[walls])
    place, way = (local(city, v, hit.identity) for v in (point, direction))
    up = place[2] * scale
    up = jnp.where(up < 1.0, up, 0.3 + remainder(up - 0.3, 0.7))
    u = jnp.where(hit.face == 0, place[1], place[0]) * scale + 2.0 * shift
    slope = jnp.abs(jnp.where(hit.face == 0, way[0], way[1]))
    layers = len(Material) + pick(hit.identity, layer)
    return Texture(layers, fold(u), 1.0 - jnp.clip(up, 0.0, 1.0), scale * stretch(slope))


def _ground(city: City, direction: Vector, point: Vector) -> Texture:
    road, _ = road_at(city, point)
    scale = jnp.where(road, 1.0 / 7.0, 1.0 / 5.0)
    layer = jnp.where(road, Material.ASPHALT, Material.PAVING)
    footprint = scale * stretch(jnp.abs(direction[2]))
    return Texture(layer, fold(scale * point[0]), fold(scale * point[1]), footprint)


def _leaves(point: Vector) -> Texture:
    """Foliage through slanted planes, so that no side of a crown sees it edge on."""
    scale = 1.0 / 1.5
    u, v = point[0] + 0.7 * point[1], point[2] + 0.3 * point[1]
    one = jnp.ones_like(u)
    return Texture(Material.FOLIAGE, fold(scale * u), fold(scale * v), scale * one)


def _clouds(direction: Vector) -> Texture:
    """Clouds on a plane overhead; the offset keeps the horizon finite."""
    flat = jnp.sqrt(direction[0] ** 2 + direction[1] ** 2)
    reach = 0.3 / (jnp.maximum(direction[2], 0.0) + 0.25 * flat + 1e-3)
    zero = jnp.zeros_like(reach)
    return Texture(Material.CLOUD, fold(reach * direction[0]), fold(reach * direction[1]), zero)


def texture(city: City, direction: Vector, hit: Hit, point: Vector, num_facades: int) -> Texture:
    """The texture that each ray shows."""
    identity = hit.identity
    facade = _facade(city, direction, point, hit, num_facades)
    ground, leaves, clouds = _ground(city, direction, point), _leaves(point), _clouds(direction)

    def choose(facade: Array, ground: Array, leaves: Array, clouds: Array) -> Array:
        nature = jnp.where(identity == SKY, clouds, leaves)
        return jnp.where(
            identity < TURNED.stop, facade, jnp.where(identity == GROUND, ground, nature)
        )

    return jax.tree.map(choose, facade, ground, leaves, clouds)


def _markings(city: City, point: Vector, pixel: Array) -> Array:
    """[R] cover of white paint on a ground point: middle line, kerb line, crossing.

    Edges are widened to a pixel, which is what a thin line far away needs.
    """
    road, across = road_at(city, point)
    soft = 1.0 / (pixel + 0.02)
    line = jnp.clip((0.09 - across) * soft + 0.5, 0.0, 1.0) * jnp.minimum(0.18 * soft, 1.0)
    dashed = line * (remainder(point[0], 7.0) < 3.0) * city.street.marked
    stripes = jnp.clip((0.25 - jnp.abs(remainder(across, 1.0) - 0.5)) * soft + 0.5, 0.0, 1.0)
    # Where a pixel exceeds a period, stripes are their mean.
    stripes = jnp.where(pixel > 0.7, 0.5, stripes)
    zebra = stripes * (jnp.abs(point[0] - city.street.crossing) < 1.7)
    return road * jnp.maximum(dashed, zebra)


def _car(city: City, point: Vector, normal: Vector, identity: Array) -> Array:
    """[R] fraction of a car's paint that shows; the rest is glass, tyre or shadow."""
    cars = slice(CAR_BODIES.start, CAR_CABINS.stop)
    start = pick(identity, city.boxes.low[cars, 0], cars.start)
    length = pick(identity, city.boxes.high[cars, 0] - city.boxes.low[cars, 0], cars.start)
    roof = pick(identity, city.boxes.high[cars, 2], cars.start)
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


def albedo(city: City, seen: Seen, texture: Colour, paint: Array) -> Colour:
    """Display-referred colour before light; `paint` is the fraction of cars' paint that shows."""
    identity = seen.hit.identity
    building, ground = identity < TURNED.stop, identity == GROUND
    textured = building | (identity >= NUM_BOXES)
    roof = building & (seen.hit.face == 2)
    car = identity < CAR_CABINS.stop  # buildings come before cars and are textured
    paint = jnp.where(car & ~textured, paint, 1.0)
    white = jnp.where(ground, 0.8 * _markings(city, seen.point, seen.pixel), 0.0)
    tints = unpack_colour(pick(identity, pack_colour(triple(city.surface.tint.T))))
    colour = []
    for tint, tex in zip(tints, texture, strict=True):
        plain = jnp.where(textured, jnp.where(roof, 0.4, tex), 1.0) * tint * paint
        colour.append(plain + white * (0.85 - plain))
    return triple(colour)


def sky(city: City, direction: Vector, cover: Array) -> Colour:
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


def shade(city: City, seen: Seen, texel: Colour, sunlit: Array, surface: Colour) -> Colour:
    """Display-referred colours of hits; sunlit [R] bool, `surface` their albedo."""
    light, identity = city.light, seen.hit.identity
    sun = jnp.where(sunlit, _facing(city, seen.normal, identity), 0.0)
    open_sky = _open_sky(city, seen.point, seen.normal, identity)
    length = jnp.sqrt(sum(d * d for d in seen.direction))
    clear = jnp.exp(-light.haze * jnp.minimum(seen.hit.depth, 1e4) * length)
    beyond = sky(city, seen.direction, texel[0])
    colour = []
    for i in range(3):
        linear = surface[i] * surface[i] * (light.ambient[i] * open_sky + light.sunlight[i] * sun)
        hazy = jnp.sqrt(light.horizon[i] + clear * (linear - light.horizon[i]))
        colour.append(jnp.where(identity == SKY, beyond[i], hazy))
    return triple(colour)


def colour(city: City, seen: Seen, texel: Colour, sunlit: Array) -> Colour:
    """Display-referred colours of hits in a street whose cars are boxes."""
    paint = _car(city, seen.point, seen.normal, seen.hit.identity)
    return shade(city, seen, texel, sunlit, albedo(city, seen, texel, paint))
