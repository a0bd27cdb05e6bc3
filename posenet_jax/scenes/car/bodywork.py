"""How cars look: paint, glass, lamps, wheels, seams and what they mirror. Unbatched.

A car's own coordinates are `along` (forward from its middle), `across` and height, metres.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from posenet_jax.scenes import raycast
from posenet_jax.scenes.car.cars import (
    AXLES,
    NUM_CARS,
    REAR_SCREEN,
    SKY_ID,
    WINDSCREEN,
    CarScene,
    Shapes,
)
from posenet_jax.scenes.intersections import SLANTED
from posenet_jax.scenes.raycast import Hit
from posenet_jax.scenes.shading import Colour, Seen, Texture, is_in, pick
from posenet_jax.scenes.street import streets
from posenet_jax.scenes.street.city import CAR_BODIES, CAR_CABINS, CROWNS, GROUND, SKY
from posenet_jax.scenes.vectors import Vector, dot, triple

Array = jax.Array

_CASTERS = (*range(CAR_CABINS.stop), *range(CROWNS.start, CROWNS.stop))
_TURNTABLE = 3.1  # metres, radius


def _as_street(hit: Hit) -> Hit:
    """The hit under the city's ids: a wheel is its car's body."""
    axle, sky = is_in(hit.identity, AXLES), hit.identity == SKY_ID
    identity = jnp.where(axle, CAR_BODIES.start, jnp.where(sky, SKY, hit.identity))
    return hit._replace(identity=identity)


def texture(
    scene: CarScene, direction: Vector, hit: Hit, point: Vector, num_facades: int
) -> Texture:
    """The texture that each ray shows; that of cars goes unused."""
    return streets.texture(scene.city, direction, _as_street(hit), point, num_facades)


def lit(scene: CarScene, point: Vector) -> Array:
    """[R] bool: does the sun reach a point, facing aside?"""
    toward = triple(scene.city.light.sun)
    return ~raycast.blocked(scene, point, toward, raycast.FAR, _CASTERS)


def semantic(scene: CarScene, seen: Seen) -> Array:
    """uint8 `Semantic` of hits."""
    return streets.semantic(scene.city, seen._replace(hit=_as_street(seen.hit)))


class _Place(NamedTuple):
    """Where on its car a hit is, [R] each."""

    shape: Shapes  # of the car that was hit
    along: Array
    across: Array  # distance from the middle plane
    height: Array
    cabin: Array  # bool
    wheel: Array  # bool
    soft: Array  # metres over which thin lines fade: half a pixel


def _place(scene: CarScene, seen: Seen) -> _Place:
    identity = seen.hit.identity
    wheel, cabin = is_in(identity, AXLES), is_in(identity, CAR_CABINS)
    first = jnp.where(wheel, AXLES.start, CAR_BODIES.start)
    number = identity - first
    number = jnp.where(number >= NUM_CARS, number - NUM_CARS, number)
    shape = Shapes(*(pick(number, values) for values in scene.shapes))
    along = (seen.point[0] - shape.x) * shape.heading
    across = jnp.abs(seen.point[1] - shape.y)
    return _Place(shape, along, across, seen.point[2], cabin, wheel, 0.5 * seen.pixel)


def _glass(p: _Place, seen: Seen) -> Array:
    """[R] bool: is a hit on a window? Pillars, roof edges and a van's sides are not."""
    s, face = p.shape, seen.hit.face - SLANTED
    rise = s.roof - s.waist
    level = (p.height - s.waist) / rise
    # Distances from the screens' planes, measured along the car.
    front = 0.5 * s.length - s.bonnet - level * s.windscreen - p.along
    back = p.along - (s.boot - 0.5 * s.length + level * s.rear_screen)
    half = 0.5 * s.width - 0.03 - 0.27 * rise * level
    screen = (face == WINDSCREEN) | (face == REAR_SCREEN)
    screen &= (p.across < half - 0.07) & (level > 0.1) & (level < 0.9)
    side = (jnp.abs(seen.normal[1]) > 0.5) & (level > 0.08) & (level < 0.82)
    side &= (front > 0.1) & (back > 0.12) & (p.along > s.rear_axle - s.panel)
    pillar = jnp.abs(p.along + 0.02 * s.length) < 0.045
    rear_pillar = jnp.abs(p.along - s.rear_axle - 0.1) < 0.04
    return p.cabin & (screen | (side & ~pillar & ~rear_pillar))


def _seams(p: _Place, seen: Seen) -> Array:
    """[R] 0-1 cover of the dark lines round doors and of their handles."""
    s = p.shape
    hinge, latch = 0.5 * s.length - s.bonnet - 0.1, -0.02 * s.length
    doors = (hinge, latch, s.rear_axle + 0.1)
    gap = functools.reduce(jnp.minimum, (jnp.abs(p.along - x) for x in doors))
    line = jnp.clip(1.0 - gap / (0.008 + p.soft), 0.0, 1.0)
    line = line * (p.height > 0.32) * ~p.cabin
    after = jnp.minimum(*(jnp.abs(p.along - x - 0.12) for x in doors[1:]))
    handle = (after < 0.08) & (jnp.abs(p.height - s.waist + 0.13) < 0.018) & ~p.cabin
    return (jnp.abs(seen.normal[1]) > 0.9) * jnp.maximum(0.7 * line, 0.8 * handle)


def _wheel(p: _Place, seen: Seen) -> Array:
    """[R] grey of tyres, rims and the dark between the wheels of an axle."""
    s = p.shape
    axle = jnp.where(p.along > 0.0, s.front_axle, s.rear_axle)
    x, z = (p.along - axle) / s.wheel, p.height / s.wheel - 1.0
    radius = jnp.sqrt(x * x + z * z)
    # Five spokes: cos 5a = c (16 c^4 - 20 c^2 + 5), c = cos a.
    c = x / jnp.maximum(radius, 1e-3)
    five = c * (16.0 * c**4 - 20.0 * c**2 + 5.0)
    rim = jnp.where((five > -0.1) | (radius < 0.2), 0.72, 0.3)
    disc = jnp.where(radius < 0.62, rim, 0.09)
    between = p.across < 0.5 * s.width - 0.22
    return jnp.where(seen.hit.face == 1, disc, jnp.where(between, 0.02, 0.08))


def _dark(p: _Place, seen: Seen) -> tuple[Array, Array]:
    """[R] cover and grey of a body's unpainted parts: arches, sills, grille, plates."""
    s = p.shape
    arch = jnp.minimum(
        *((p.along - x) ** 2 + (p.height - s.wheel) ** 2 for x in (s.front_axle, s.rear_axle))
    )
    arch = (arch < (1.16 * s.wheel) ** 2) & (p.across > 0.5 * s.width - 0.05)
    end = 0.5 * s.length - jnp.abs(p.along)
    front = (p.along > 0.0) & (end < 0.3)
    sill = p.height < 0.3
    bumper = 0.45 * s.nose + 0.1
    grille = front & (p.across < 0.5) & (jnp.abs(p.height - bumper - 0.08) < 0.07)
    plate = (end < 0.2) & (p.across < 0.26) & (jnp.abs(p.height - bumper + 0.06) < 0.055)
    under = seen.normal[2] < -0.5
    grey = jnp.where(plate, 0.85, jnp.where(arch | under, 0.03, jnp.where(grille, 0.08, 0.12)))
    return ~p.cabin & (arch | sill | grille | plate | under), grey


def _lamps(p: _Place) -> tuple[Array, Array]:
    """[R] bool each: headlamps, tail lamps."""
    s = p.shape
    outer = p.across > 0.5 * s.width - 0.48
    end = 0.5 * s.length
    front = (p.along > end - 0.42) & outer & (jnp.abs(p.height - s.nose + 0.1) < 0.075)
    back = (p.along < 0.22 - end) & (p.across > 0.5 * s.width - 0.34)
    back &= jnp.abs(p.height - s.tail + 0.16) < 0.1
    return ~p.cabin & front, ~p.cabin & back


def _mirror(scene: CarScene, seen: Seen) -> Colour:
    """Linear light that comes from where rays are thrown back to: sky, or dark ground."""
    along = 2.0 * dot(seen.direction, seen.normal)
    bounced = triple(d - along * n for d, n in zip(seen.direction, seen.normal, strict=True))
    rise = bounced[2] * jax.lax.rsqrt(dot(bounced, bounced))
    # Houses stand before the lowest part of the sky.
    above = jnp.clip(4.0 * rise - 0.4, 0.0, 1.0)
    light = scene.city.light
    blend = jnp.clip(rise, 0.0, 1.0)
    return triple(
        0.1 + above * (h + blend * (z - h) - 0.1)
        for h, z in zip(light.horizon, light.zenith, strict=True)
    )


class _Surface(NamedTuple):
    """Surface shown at hits, [R] each."""

    albedo: Colour  # display-referred
    gloss: Array  # how much of the mirrored light shows, facing the surface


def _car_surface(p: _Place, seen: Seen, paint: Colour) -> _Surface:
    """Surface at hits on cars; `paint` is the car's colour."""
    glass, (dark, grey), (head, tail) = _glass(p, seen), _dark(p, seen), _lamps(p)
    seams, wheel = 1.0 - _seams(p, seen), _wheel(p, seen)
    colour = []
    for i, red in enumerate((0.62, 0.05, 0.05)):
        plane = jnp.where(dark, grey, paint[i] * seams)
        plane = jnp.where(head, 0.9, jnp.where(tail, red, plane))
        colour.append(jnp.where(p.wheel, wheel, jnp.where(glass, 0.1, plane)))
    dull = p.wheel | dark
    return _Surface(triple(colour), jnp.where(glass, 0.1, jnp.where(dull, 0.0, 0.05)))


def _floor(scene: CarScene, seen: Seen, street: Colour) -> Colour:
    """Ground: a kerb along the street's road, or a studio's floor and turntable."""
    city, point = scene.city, seen.point
    road, _ = streets.road_at(city, point)
    nearer = (point[0], point[1] - 0.16 * jnp.sign(point[1]), point[2])
    stone = ~road & streets.road_at(city, nearer)[0]
    radius = jnp.sqrt((point[0] - scene.shapes.x[0]) ** 2 + (point[1] - scene.shapes.y[0]) ** 2)
    rim = jnp.clip(1.0 - jnp.abs(radius - _TURNTABLE) / (0.02 + 0.5 * seen.pixel), 0.0, 1.0)
    disc = jnp.where(radius < _TURNTABLE, 0.9, 1.0) * (1.0 - 0.5 * rim)
    return triple(
        jnp.where(scene.studio, b * disc, jnp.where(stone, 0.72, s))
        for b, s in zip(scene.backdrop, street, strict=True)
    )


def colour(scene: CarScene, seen: Seen, texel: Colour, sunlit: Array) -> Colour:
    """Display-referred colours of hits."""
    street = seen._replace(hit=_as_street(seen.hit))
    p = _place(scene, seen)
    one = jnp.ones_like(seen.pixel)
    surface = streets.albedo(scene.city, street, texel, one)
    car = is_in(street.hit.identity, slice(CAR_BODIES.start, CAR_CABINS.stop))
    body, gloss = _car_surface(p, seen, surface)
    ground = _floor(scene, seen, surface)
    floor = street.hit.identity == GROUND
    surface = triple(
        jnp.where(car, b, jnp.where(floor, g, s))
        for b, g, s in zip(body, ground, surface, strict=True)
    )
    shown = streets.shade(scene.city, street, texel, sunlit, surface)
    # Schlick's approximation: mirrors more the more it is seen edge on.
    facing = jnp.abs(dot(seen.direction, seen.normal))
    facing = facing * jax.lax.rsqrt(dot(seen.direction, seen.direction))
    edge = jnp.clip(1.0 - facing, 0.0, 1.0)
    share = jnp.where(car & (gloss > 0.0), gloss + (0.75 - gloss) * edge**4, 0.0)
    # A studio's floor rises into the backdrop without a seam.
    reach = jnp.sqrt(seen.point[0] ** 2 + seen.point[1] ** 2)
    fade = jnp.where(scene.studio & floor, jnp.clip(0.1 * reach - 0.5, 0.0, 1.0), 0.0)
    result = []
    for x, mirrored, h in zip(shown, _mirror(scene, seen), scene.city.light.horizon, strict=True):
        linear = x * x + share * (mirrored - x * x)
        result.append(jnp.sqrt(linear + fade * (h - linear)))
    return triple(result)
