"""A random street as boxes, tree crowns, ground and light. Unbatched.

The street runs along the world's x axis; y is across it, z up, metres. Box numbers are static:
which kind a box is follows from its index alone (`BUILDINGS`, `TURNED`, ...). An absent object is
a box below the ground. The boxes in `TURNED` are given in a frame turned by `City.turn` about z.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from posenet_jax.numerics import own_dtypes
from posenet_jax.scenes.config import SceneConfig
from posenet_jax.scenes.keys import SceneKeys, scene_keys
from posenet_jax.scenes.solids import (
    BURIED,
    Boxes,
    Crowns,
    Ground,
    Solids,
    Turned,
    box_around,
    bury,
)
from posenet_jax.scenes.vectors import between

Array = jax.Array

LOTS = 7  # buildings a side
BUILDINGS = slice(0, 14)
TURNED = slice(14, 18)
CAR_BODIES = slice(18, 23)
CAR_CABINS = slice(23, 28)
POLES = slice(28, 34)
TRUNKS = slice(34, 38)
NUM_BOXES = 38
NUM_CROWNS = 4
CROWNS = slice(NUM_BOXES, NUM_BOXES + NUM_CROWNS)
GROUND = CROWNS.stop  # the ids a ray can hit: boxes, crowns, ground, sky
SKY = GROUND + 1
NUM_IDS = SKY + 1
OPEN = 1e3  # metres: beyond all that is seen


class Street(NamedTuple):
    """The ground's plan, metres."""

    line: Array  # [2] distance of the building line from the axis, at y > 0 and y < 0
    kerb: Array  # [2] distance of the kerb, likewise
    crossing: Array  # [] x of a pedestrian crossing
    marked: Array  # [] 1 if the road has a dashed middle line, else 0
    end: Array  # [2] distance of the walls that close a court, at x > 0 and x < 0; OPEN: none


class Surface(NamedTuple):
    """Texture and colour."""

    facade: Array  # [38] in [0, 1): which facade of the atlas, as a fraction of their number
    tile: Array  # [38] metres that one texture covers
    shift: Array  # [38] in [0, 1): horizontal texture offset
    tint: Array  # [44, 3] colour of each id: a factor on textures, a colour in 0-1 on paint


class Light(NamedTuple):
    """Sun, sky and air. Linear colours."""

    sun: Array  # [3] unit vector toward the sun
    sunlight: Array  # [3] irradiance of a surface that faces the sun
    ambient: Array  # [3] irradiance in shade
    zenith: Array  # [3] linear colour of the sky overhead
    horizon: Array  # [3] linear colour of the sky at the horizon, and of haze
    cloud: Array  # [] cover in [0, 1]
    haze: Array  # [] per metre


class City(NamedTuple):
    """Everything that does not depend on the camera."""

    boxes: Boxes
    crowns: Crowns
    street: Street
    surface: Surface
    light: Light
    turn: Array  # [] radians: heading of the frame of the boxes in TURNED

    def solids(self) -> Solids:
        """Solids that rays can meet."""
        before, turned, after = (
            Boxes(self.boxes.low[part], self.boxes.high[part])
            for part in (BUILDINGS, TURNED, slice(TURNED.stop, NUM_BOXES))
        )
        return (
            (0, before),
            (TURNED.start, Turned(turned, self.turn)),
            (TURNED.stop, after),
            (CROWNS.start, self.crowns),
            (GROUND, Ground()),
        )


def _street(key: Array, config: SceneConfig) -> Street:
    r = jax.random.uniform(key, (7,))
    # Squared: narrow streets are the more common ones.
    line = between(r[:2] ** 1.5, *config.street_half_width)
    square = r[2] < config.chance_of_square
    far_side = jnp.where(r[3] < 0.5, jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]))
    kerb = jnp.maximum(line - between(r[4], 1.2, 4.0), 2.5)
    line = line + square * far_side * between(r[2] / config.chance_of_square, 6.0, 20.0)
    marked = (r[6] < 0.6).astype(jnp.float32)
    return Street(line, kerb, between(r[5], -30.0, 30.0), marked, jnp.full(2, OPEN))


def _row(key: Array, side: float, line: Array, config: SceneConfig) -> Boxes:
    """The seven buildings of one side; `side` is the sign of their y."""
    r = jax.random.uniform(key, (6, LOTS))
    base = r[5, 0]
    width = between(r[0], 7.0, 20.0)
    street = between(r[1] / config.chance_of_gap, 1.5, 11.0)
    gap = jnp.where(r[1] < config.chance_of_gap, street, 0.0)
    end = jnp.cumsum(width + gap)
    start = end - width - between(r[5, 1], 0.35, 0.65) * end[-1]
    height = between(jnp.clip(base + 0.5 * (r[2] - 0.5), 0.0, 1.0), *config.building_height)
    setback = jnp.where(r[3] < 0.5, 0.0, between(r[3], -0.6, 1.5))
    depth = between(r[4], 8.0, 14.0)
    y = side * (line + setback + 0.5 * depth)
    return box_around(start + 0.5 * width, y, width, depth, 0.0, height)


def _backdrop(key: Array, config: SceneConfig) -> Boxes:
    """Four buildings beyond the ends of the street, in the turned frame's orientation."""
    r = jax.random.uniform(key, (5, 4))
    end = jnp.array([1.0, 1.0, -1.0, -1.0])
    x = end * between(r[0], 75.0, 120.0)
    y = between(r[1], -25.0, 25.0)
    height = between(r[2] ** 2, config.building_height[0], 2.0 * config.building_height[1])
    return box_around(x, y, between(r[3], 10.0, 26.0), between(r[4], 10.0, 26.0), 0.0, height)


def _cars(key: Array, street: Street) -> tuple[Boxes, Boxes]:
    """Five parked cars: bodies and cabins."""
    r = jax.random.uniform(key, (7, 5))
    slots = jnp.arange(5.0)
    left = r[0] < 0.5
    side = jnp.where(left, 1.0, -1.0)
    kerb = jnp.where(left, street.kerb[0], street.kerb[1])
    x = (slots - 2.0) * 13.0 + between(r[1], -4.0, 4.0)
    y = side * (kerb - between(r[2], 1.0, 1.3))
    length, width = between(r[3], 3.7, 4.9), between(r[4], 1.65, 1.9)
    waist, roof = between(r[5], 0.8, 1.05), between(r[6], 1.4, 1.95)
    absent = r[2] * 5.0 % 1.0 < 0.15
    body = box_around(x, y, length, width, 0.18, waist)
    cabin = box_around(x - 0.05 * length, y, 0.58 * length, 0.88 * width, waist, roof)
    return bury(body, absent), bury(cabin, absent)


def _poles(key: Array, street: Street) -> Boxes:
    """Four lamp posts and two kiosks or boxes on the pavements."""
    r = jax.random.uniform(key, (5, 6))
    left = r[0] < 0.5
    y = jnp.where(left, street.kerb[0] + 0.5, -street.kerb[1] - 0.5)
    kiosk = jnp.arange(6) >= 4
    width = jnp.where(kiosk, between(r[1], 0.6, 1.6), between(r[1], 0.12, 0.22))
    height = jnp.where(kiosk, between(r[2], 1.1, 2.6), between(r[2], 3.0, 8.5))
    x = (jnp.arange(6) % 4 - 1.5) * 20.0 + between(r[3], -9.0, 9.0)
    return bury(box_around(x, y, width, width, 0.0, height), r[4] < 0.25)


def _trees(key: Array, street: Street) -> tuple[Boxes, Crowns]:
    """Trunks and crowns along the pavements."""
    r = jax.random.uniform(key, (7, NUM_CROWNS))
    left = r[0] < 0.5
    y = jnp.where(left, street.kerb[0] + 0.8, -street.kerb[1] - 0.8)
    x = (jnp.arange(NUM_CROWNS) - 1.5) * 17.0 + between(r[1], -8.0, 8.0)
    radius = between(r[2], 1.3, 3.6)
    stem = between(r[3], 2.4, 3.8)
    tall = radius * between(r[4], 0.9, 1.5)
    trunk = box_around(x, y, 0.1 * radius, 0.1 * radius, 0.0, stem + 0.3 * tall)
    absent = r[5, 0] * (0.4 + r[6]) < 0.3
    centre = jnp.stack([x, y, stem + tall + BURIED * absent], axis=-1)
    return bury(trunk, absent), Crowns(centre, jnp.stack([radius, radius, tall], axis=-1))


def _geometry(key: Array, config: SceneConfig) -> tuple[Boxes, Crowns, Street, Array]:
    street_key, left_key, right_key, end_key, car_key, pole_key, tree_key, turn_key = (
        jax.random.split(key, 8)
    )
    street = _street(street_key, config)
    bodies, cabins = _cars(car_key, street)
    trunks, crowns = _trees(tree_key, street)
    parts = [
        _row(left_key, 1.0, street.line[0], config),
        _row(right_key, -1.0, street.line[1], config),
        _backdrop(end_key, config),
        bodies,
        cabins,
        _poles(pole_key, street),
        trunks,
    ]
    boxes = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
    return boxes, crowns, street, jax.random.uniform(turn_key, (), minval=-0.2, maxval=0.2)


def _car_paint(key: Array) -> Array:
    """[5, 3] mostly white to black, some coloured."""
    r = jax.random.uniform(key, (5, 5))
    grey = jnp.broadcast_to(between(r[:, :1], 0.08, 0.95), (5, 3))
    coloured = between(r[:, 1:4] ** 2, 0.04, 0.75)
    return jnp.where(r[:, 4:] < 0.65, grey, coloured)


def _tints(key: Array, config: SceneConfig) -> Array:
    """[44, 3] one colour an id."""
    wall_key, car_key, pole_key, tree_key, ground_key = jax.random.split(key, 5)
    wall = jax.random.uniform(wall_key, (18, 4), minval=-1.0)
    walls = (1.0 + config.tint * wall[:, :3]) * (0.95 + 0.2 * wall[:, 3:])
    cars = _car_paint(car_key)
    poles = jax.random.uniform(pole_key, (6, 1), minval=0.06, maxval=0.5)
    poles = jnp.broadcast_to(poles, (6, 3))
    trunks = jnp.broadcast_to(jnp.array([0.27, 0.21, 0.16]), (4, 3))
    leaf = jax.random.uniform(tree_key, (NUM_CROWNS, 3), minval=0.5, maxval=1.05)
    ground = jax.random.uniform(ground_key, (1, 1), minval=0.75, maxval=1.3)
    rest = [leaf, jnp.broadcast_to(ground, (1, 3)), jnp.ones((1, 3))]
    return jnp.concatenate([walls, cars, cars, poles, trunks, *rest])


def _surface(texture_key: Array, colour_key: Array, config: SceneConfig) -> Surface:
    facade, tile, shift = jax.random.uniform(texture_key, (3, NUM_BOXES))
    return Surface(facade, between(tile, *config.tile), shift, _tints(colour_key, config))


def _light(key: Array) -> Light:
    """From overcast to low sun. Irradiances are such that a white wall in sun is about 1."""
    r = jax.random.uniform(key, (8,))
    azimuth, height = 2.0 * jnp.pi * r[0], between(r[1], 0.3, 1.2)
    flat = jnp.stack([jnp.cos(azimuth), jnp.sin(azimuth)]) * jnp.cos(height)
    sunny = jnp.clip(1.5 * r[2], 0.0, 1.0)
    warm = (1.2 - height) * r[3]
    sunlight = 1.1 * sunny * jnp.stack([1.0 + 0.1 * warm, 1.0 - 0.05 * warm, 0.95 - 0.25 * warm])
    ambient = (1.0 - 0.5 * sunny) * jnp.stack([1.0 - 0.06 * sunny, 1.0, 1.0 + 0.12 * sunny])
    brightness = between(r[4], 0.65, 1.1)
    blue = sunny * between(r[5], 0.3, 1.0)
    grey = jnp.array([0.78, 0.82, 0.86])
    zenith = brightness * (grey + blue * (jnp.array([0.1, 0.28, 0.68]) - grey))
    horizon = brightness * (jnp.array([0.9, 0.92, 0.94]) - 0.25 * blue * jnp.array([1.0, 0.5, 0.0]))
    cloud = between(r[6], 0.0, 0.9)
    haze = 0.004 * r[7] ** 3
    return Light(jnp.append(flat, jnp.sin(height)), sunlight, ambient, zenith, horizon, cloud, haze)


@own_dtypes
def build_city(keys: SceneKeys, config: SceneConfig) -> City:
    """A city of its parts' keys; parts whose key is the same are the same, bit for bit."""
    boxes, crowns, street, turn = _geometry(keys.geometry, config)
    surface = _surface(keys.texture, keys.colour, config)
    return City(boxes, crowns, street, surface, _light(keys.light), turn)


@own_dtypes
def sample_city(key: Array, config: SceneConfig) -> City:
    """A random city, unbatched."""
    return build_city(scene_keys(key), config)
