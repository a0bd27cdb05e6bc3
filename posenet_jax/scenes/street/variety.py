"""Streets less alike: closed courts, traffic and people in the way, weather. Unbatched.

Each function takes a finished city and returns it changed with a chance; the rest stays as it was.
Metres, radians, linear colours.
"""

import jax
import jax.numpy as jnp

from posenet_jax.numerics import own_dtypes
from posenet_jax.scenes.config import SceneConfig
from posenet_jax.scenes.keys import SceneKeys
from posenet_jax.scenes.solids import Boxes, box_around, bury
from posenet_jax.scenes.street.city import (
    CAR_BODIES,
    CAR_CABINS,
    GROUND,
    POLES,
    TURNED,
    City,
    Light,
    build_city,
)
from posenet_jax.scenes.vectors import between

Array = jax.Array

_DEPTH = 10.0  # of the buildings that close a court
_PERSON = (0.35, 0.6)
_PERSON_HEIGHT = (1.1, 1.9)


def _put(boxes: Boxes, part: slice, new: Boxes, where: Array) -> Boxes:
    """Returns the boxes with `new` in a part of them, where `where` is true."""
    low, high = (
        old.at[part].set(jnp.where(where[..., None], fresh, old[part]))
        for old, fresh in zip(boxes, new, strict=True)
    )
    return Boxes(low, high)


@own_dtypes
def closed(key: Array, city: City, chance: float) -> City:
    """A court: two buildings across each end of a short piece of the street.

    One of the four may be missing, so that a passage leads out.
    """
    chance_key, key = jax.random.split(key)
    court = jax.random.bernoulli(chance_key, chance)
    r = jax.random.uniform(key, (4, 4))
    side = jnp.array([1.0, -1.0, 1.0, -1.0])  # which half of the end, across the street
    end = jnp.array([1.0, 1.0, -1.0, -1.0])
    distance = jnp.repeat(between(r[0, :2], 7.0, 28.0), 2)
    reach = jnp.where(side > 0.0, city.street.line[0], city.street.line[1]) + 4.0
    x = end * (distance + between(r[1], 0.0, 1.5) + 0.5 * _DEPTH)
    height = city.boxes.high[TURNED, 2] * jnp.where(r[2] < 0.5, 1.0, 0.6)
    walls = box_around(x, 0.5 * side * reach, _DEPTH, reach, 0.0, height)
    passage = (jnp.arange(4) == jnp.floor(4.0 * r[3, 0])) & (r[3, 1] < 0.4)
    walls = bury(walls, passage)
    boxes = _put(city.boxes, TURNED, walls, jnp.broadcast_to(court, (4,)))
    ends = jnp.where(court, distance[::2], city.street.end)
    turn = jnp.where(court, 0.4 * city.turn, city.turn)
    return city._replace(boxes=boxes, turn=turn, street=city.street._replace(end=ends))


def _vehicles(key: Array, city: City) -> tuple[Boxes, Boxes]:
    """Bodies and cabins of five vehicles anywhere on the ground, from small cars to buses."""
    r = jax.random.uniform(key, (7, 5))
    left, right = city.street.line
    x, y = between(r[0], -25.0, 25.0), between(r[1], 2.0 - right, left - 2.0)
    large = r[2] < 0.4
    length = jnp.where(large, between(r[3], 5.0, 12.0), between(r[3], 3.4, 4.9))
    width = jnp.where(large, between(r[4], 1.9, 2.5), between(r[4], 1.6, 1.9))
    waist = jnp.where(large, between(r[5], 1.0, 1.5), between(r[5], 0.8, 1.05))
    roof = jnp.where(large, between(r[6], 2.2, 3.3), between(r[6], 1.4, 1.95))
    share = jnp.where(large, 0.96, 0.58)
    body = box_around(x, y, length, width, 0.18, waist)
    return body, box_around(x, y, share * length, 0.9 * width, waist, roof)


def _people(key: Array, city: City) -> tuple[Boxes, Array]:
    """Six people anywhere on the ground, and their colours [6, 3]."""
    r = jax.random.uniform(key, (7, 6))
    left, right = city.street.line
    x, y = between(r[0], -16.0, 16.0), between(r[1], 0.5 - right, left - 0.5)
    width, height = between(r[2], *_PERSON), between(r[3], *_PERSON_HEIGHT)
    return box_around(x, y, width, 0.7 * width, 0.0, height), between(r[4:].T ** 2, 0.03, 0.9)


@own_dtypes
def crowded(key: Array, city: City, chance: float) -> City:
    """Vehicles of any size anywhere, and people where posts stood."""
    chance_key, car_key, people_key, which_key = jax.random.split(key, 4)
    crowd = jax.random.bernoulli(chance_key, chance)
    bodies, cabins = _vehicles(car_key, city)
    people, clothes = _people(people_key, city)
    boxes = _put(city.boxes, CAR_BODIES, bodies, jnp.broadcast_to(crowd, (5,)))
    boxes = _put(boxes, CAR_CABINS, cabins, jnp.broadcast_to(crowd, (5,)))
    here = crowd & jax.random.bernoulli(which_key, 0.7, (6,))
    tint = city.surface.tint
    tint = tint.at[POLES].set(jnp.where(here[:, None], clothes, tint[POLES]))
    surface = city.surface._replace(tint=tint)
    return city._replace(boxes=_put(boxes, POLES, people, here), surface=surface)


def _low_sun(light: Light, height: Array) -> Light:
    """The sun near the horizon: long shadows, warm light, a bright sky around them."""
    flat = light.sun[:2] / jnp.maximum(jnp.linalg.norm(light.sun[:2]), 1e-6)
    sun = jnp.append(flat * jnp.cos(height), jnp.sin(height))
    warm = jnp.array([1.35, 0.95, 0.55])
    return light._replace(sun=sun, sunlight=1.1 * warm, horizon=light.horizon * warm)


def _night(light: Light, lamps: Array) -> Light:
    """No sun, a dark sky, and the light of lamps from all sides."""
    dark = 0.03 * jnp.array([0.6, 0.7, 1.0])
    ambient = between(lamps, 0.15, 0.5) * jnp.array([1.25, 0.95, 0.6])
    return light._replace(
        sunlight=jnp.zeros(3), ambient=ambient, zenith=dark, horizon=2.0 * dark, cloud=0.0 * lamps
    )


def _overcast(light: Light) -> Light:
    """No sun, and a sky that is white all over."""
    grey = jnp.array([0.88, 0.9, 0.92])
    return light._replace(sunlight=jnp.zeros(3), ambient=grey, zenith=grey, horizon=grey)


@own_dtypes
def weathered(key: Array, city: City, chance: float) -> City:
    """Low sun, night, snow under an overcast sky, or fog; each as likely."""
    chance_key, which_key, amount_key = jax.random.split(key, 3)
    other = jax.random.bernoulli(chance_key, chance)
    which = jax.random.randint(which_key, (), 0, 4)
    amount = jax.random.uniform(amount_key, (2,))
    light = city.light
    overcast = _overcast(light)
    choices = (
        _low_sun(light, between(amount[0], 0.06, 0.3)),
        _night(light, amount[0]),
        overcast,
        overcast._replace(haze=between(amount[0], 0.008, 0.03)),
    )
    for number, choice in enumerate(choices):
        here = other & (which == number)
        light = jax.tree.map(lambda new, old, here=here: jnp.where(here, new, old), choice, light)
    snow = other & (which == 2)
    white = jnp.where(snow, between(amount[1], 1.6, 2.6), 1.0)
    tint = city.surface.tint.at[GROUND].multiply(white)
    return city._replace(light=light, surface=city.surface._replace(tint=tint))


@own_dtypes
def build_street(keys: SceneKeys, config: SceneConfig) -> City:
    """`build_city`, and what the configuration's chances change of it.

    Courts and traffic follow from the key of the geometry, weather from that of the light.
    """
    city = build_city(keys, config)
    if config.chance_of_court:
        city = closed(jax.random.fold_in(keys.geometry, 1), city, config.chance_of_court)
    if config.chance_of_traffic:
        city = crowded(jax.random.fold_in(keys.geometry, 2), city, config.chance_of_traffic)
    if config.chance_of_weather:
        city = weathered(jax.random.fold_in(keys.light, 1), city, config.chance_of_weather)
    return city
