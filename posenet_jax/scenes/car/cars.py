"""A car in the street or in a studio, with other cars parked about it. Unbatched.

The world is a city whose cars are wedges instead of boxes: bodies and cabins keep the city's ids,
axles follow the city's. The first car is the one that is looked at. A car's own frame has its
middle on the ground as origin and x forward; cars stand along the world's x axis, one way or the
other.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from posenet_jax.scenes.config import CarConfig
from posenet_jax.scenes.keys import SceneKeys
from posenet_jax.scenes.solids import BURIED, Boxes, Rollers, Solids, Wedges
from posenet_jax.scenes.street.city import CAR_BODIES, CAR_CABINS, NUM_IDS, City, Light, build_city
from posenet_jax.scenes.vectors import between

Array = jax.Array
Planes = tuple[Array, Array]  # outward normals [5, 3] and offsets [5], one of each car

NUM_CARS = 5
AXLES = slice(NUM_IDS, NUM_IDS + 2 * NUM_CARS)  # front ones, then rear ones
SKY_ID = AXLES.stop
PLANES = 8  # slanted planes a wedge
WINDSCREEN, REAR_SCREEN = 0, 1  # the first of a cabin's
_CLEAR = 0.2  # metres under the body

# length, width, waist, roof, nose, bonnet, run of the windscreen, boot, run of the rear screen,
# tail, where side windows end (from the rear axle, backward), wheel radius
_BODIES = (
    (4.60, 1.78, 0.92, 1.43, 0.70, 1.25, 0.80, 0.80, 0.80, 0.88, 2.0, 0.32),  # saloon
    (4.05, 1.76, 0.93, 1.48, 0.72, 1.05, 0.75, 0.10, 0.45, 0.93, 2.0, 0.31),  # hatchback
    (4.70, 1.80, 0.93, 1.48, 0.70, 1.25, 0.80, 0.06, 0.35, 0.93, 2.0, 0.32),  # estate
    (4.90, 1.92, 1.08, 1.95, 0.85, 0.90, 0.70, 0.03, 0.06, 1.08, -1.5, 0.33),  # van
    (4.45, 1.86, 1.06, 1.70, 0.88, 1.15, 0.65, 0.08, 0.30, 1.06, 2.0, 0.37),  # off-road car
    (3.60, 1.64, 0.93, 1.52, 0.75, 0.80, 0.70, 0.05, 0.30, 0.93, 2.0, 0.29),  # small car
)
_PAINTS = (
    (0.92, 0.92, 0.91), (0.72, 0.73, 0.75), (0.42, 0.43, 0.45), (0.13, 0.13, 0.14),
    (0.68, 0.08, 0.09), (0.14, 0.25, 0.58), (0.09, 0.14, 0.28), (0.12, 0.34, 0.22),
    (0.88, 0.70, 0.12), (0.85, 0.38, 0.10), (0.72, 0.66, 0.55), (0.35, 0.62, 0.78),
)  # fmt: skip


class Shapes(NamedTuple):
    """Cars' measures, [5] each, metres; heights above the ground."""

    x: Array  # of the middle, world
    y: Array
    heading: Array  # 1 or -1: which way along the world's x axis the car points
    length: Array
    width: Array
    waist: Array  # where windows begin
    roof: Array
    nose: Array  # height of the bonnet's front edge
    bonnet: Array  # its length, from the nose to the windscreen's foot
    windscreen: Array  # how far it leans back
    boot: Array  # length behind the rear screen's foot
    rear_screen: Array  # how far it leans forward
    tail: Array  # height of the boot's rear edge
    panel: Array  # side windows end this far behind the rear axle; vans', before it
    wheel: Array  # radius
    front_axle: Array  # x in the car's frame
    rear_axle: Array


class CarScene(NamedTuple):
    """Everything that does not depend on the camera."""

    city: City  # its car boxes are those around the wedges
    wedges: Wedges  # [10] five bodies, five cabins
    axles: Rollers  # [10] one cylinder joins two wheels
    shapes: Shapes
    studio: Array  # [] bool
    backdrop: Array  # [3] display-referred colour of a studio's floor

    def solids(self) -> Solids:
        """Solids that rays can meet: the city's, with wedges in the place of its cars."""
        boxes, rest = self.city.boxes, slice(CAR_CABINS.stop, None)
        after = Boxes(boxes.low[rest], boxes.high[rest])
        first, turned, _, crowns, ground = self.city.solids()
        return (
            first,
            turned,
            (CAR_BODIES.start, self.wedges),
            (CAR_CABINS.stop, after),
            crowns,
            ground,
            (AXLES.start, self.axles),
        )


def _shapes(key: Array, kerb: Array, config: CarConfig) -> tuple[Shapes, Array]:
    """Cars in two rows along the kerbs, and which of them are absent, [5] bool."""
    type_key, size_key, place_key = jax.random.split(key, 3)
    kind = jax.random.randint(type_key, (NUM_CARS,), 0, len(_BODIES))
    measures = jnp.array(_BODIES)[kind] * jnp.exp(
        0.03 * jax.random.normal(size_key, (NUM_CARS, len(_BODIES[0])))
    )
    length, width, waist, roof, nose, bonnet, screen, boot, rear, tail, panel, wheel = measures.T
    r = jax.random.uniform(place_key, (5, NUM_CARS))
    # The first in the middle, one before and one behind it, two across the street.
    slot = jnp.array([0.0, 6.3, -6.3, 3.0, -4.5])
    x = slot + between(r[0], -0.5, 0.5) * jnp.array([0.0, 1.0, 1.0, 4.0, 4.0])
    own = jnp.where(r[1, 0] < 0.5, 1.0, -1.0)
    side = own * jnp.array([1.0, 1.0, 1.0, -1.0, -1.0])
    edge = jnp.where(side > 0.0, kerb[0], kerb[1])
    y = side * (edge - 0.5 * width - between(r[2], 0.1, 0.4))
    # Cars keep to the right mostly, but park both ways.
    heading = jnp.where(r[3] < 0.8, -side, side)
    absent = r[4] < jnp.array([0.0, 0.35, 0.35, 0.4, 0.4])
    tail = jnp.minimum(tail, waist)
    return Shapes(
        x, y, heading, length, width, waist, roof, nose, bonnet, screen, boot, rear, tail,
        panel, wheel, 0.31 * length, -0.32 * length,
    ), absent  # fmt: skip


def _plane(x: Array, z: Array, run: ArrayLike, rise: ArrayLike) -> Planes:
    """Planes across cars through (x, z) in profile, along (run, rise): the outside is to the right.

    Profiles have x to the right and z up.
    """
    run, rise = (jnp.broadcast_to(a, x.shape) for a in (run, rise))
    scale = jax.lax.rsqrt(run * run + rise * rise)
    normal = jnp.stack([rise * scale, jnp.zeros_like(run), -run * scale], axis=-1)
    return normal, normal[:, 0] * x + normal[:, 2] * z


def _corner(x: Array, y: Array, cut_x: float, cut_y: float) -> Planes:
    """Upright planes that cut a corner (x, y) of the plan by cut_x along and cut_y across."""
    normal = jnp.stack([jnp.sign(x) * cut_y, jnp.sign(y) * cut_x, jnp.zeros_like(x)], axis=-1)
    normal = normal / math.hypot(cut_x, cut_y)
    return normal, normal[:, 0] * (x - jnp.sign(x) * cut_x) + normal[:, 1] * y


def _lean(y: Array, z: Array, inward: Array, rise: Array) -> Planes:
    """Planes along the car through (y, z) that lean inward by `inward` over `rise`."""
    scale = jax.lax.rsqrt(inward * inward + rise * rise)
    normal = jnp.stack([jnp.zeros_like(y), jnp.sign(y) * rise * scale, inward * scale], axis=-1)
    return normal, normal[:, 1] * y + normal[:, 2] * z


def _body_planes(s: Shapes) -> list[Planes]:
    end, half = 0.5 * s.length, 0.5 * s.width
    foot = 0.45 * s.nose + 0.1
    return [
        _plane(end, s.nose, -s.bonnet, s.waist - s.nose),
        _plane(s.boot - end, s.waist, -s.boot, s.tail - s.waist - 1e-3),
        _plane(end, foot, -0.14, s.nose - foot),
        _plane(-end + 0.1, s.tail, -0.1, foot - s.tail),
        *(_corner(end, sign * half, 0.5, 0.2) for sign in (-1.0, 1.0)),
        *(_corner(-end, sign * half, 0.25, 0.12) for sign in (-1.0, 1.0)),
    ]


def _cabin_planes(s: Shapes) -> list[Planes]:
    end, half, rise = 0.5 * s.length, 0.5 * s.width - 0.03, s.roof - s.waist
    front, back = end - s.bonnet, s.boot - end
    unused = (jnp.zeros((NUM_CARS, 3)), jnp.ones(NUM_CARS))
    edge = 0.06
    return [
        _plane(front, s.waist, -s.windscreen, rise),
        _plane(back + s.rear_screen, s.roof, -s.rear_screen, -rise),
        *(_lean(sign * half, s.waist, 0.27 * rise, rise) for sign in (-1.0, 1.0)),
        # Roofs curve down to the screens.
        _plane(front - s.windscreen + 0.02, s.roof - edge, -0.35, edge),
        _plane(back + s.rear_screen + 0.33, s.roof, -0.35, -edge),
        unused,
        unused,
    ]


def _to_world(s: Shapes, planes: list[Planes]) -> Planes:
    """Planes of the cars' frames -> normals [5, 8, 3] and offsets [5, 8] in the world's."""
    normal, offset = (jnp.stack(part, axis=1) for part in zip(*planes, strict=True))
    turned = normal * jnp.stack([s.heading, jnp.ones(NUM_CARS), jnp.ones(NUM_CARS)], -1)[:, None]
    shift = turned[..., 0] * s.x[:, None] + turned[..., 1] * s.y[:, None]
    return turned, offset + shift


def _bounds(s: Shapes, back: Array, front: Array, half: Array, low: Array, high: Array) -> Boxes:
    """World boxes of intervals in the cars' frames."""
    one, two = s.x + s.heading * back, s.x + s.heading * front
    return Boxes(
        jnp.stack([jnp.minimum(one, two), s.y - half, low], axis=-1),
        jnp.stack([jnp.maximum(one, two), s.y + half, high], axis=-1),
    )


def _wedges(s: Shapes, absent: Array) -> Wedges:
    """Five bodies, five cabins. The cabin's foot is a little inside the body."""
    end, half = 0.5 * s.length, 0.5 * s.width
    down = jnp.where(absent, BURIED, 0.0)
    body = _bounds(s, -end, end, half, _CLEAR + down, s.waist + down)
    cabin = _bounds(
        s, s.boot - end, end - s.bonnet, half - 0.03, s.waist - 0.02 + down, s.roof + down
    )
    boxes = jax.tree.map(lambda *x: jnp.concatenate(x), body, cabin)
    planes = [_to_world(s, p) for p in (_body_planes(s), _cabin_planes(s))]
    normal, offset = (jnp.concatenate(part) for part in zip(*planes, strict=True))
    return Wedges(boxes, normal, offset)


def _axles(s: Shapes, absent: Array) -> Rollers:
    centre = [
        jnp.stack([s.x + s.heading * at, s.y, s.wheel + jnp.where(absent, BURIED, 0.0)], axis=-1)
        for at in (s.front_axle, s.rear_axle)
    ]
    # Wheels stand out of the body by a little, so that their discs show.
    half = 0.5 * s.width + 0.012
    return Rollers(jnp.concatenate(centre), jnp.tile(s.wheel, 2), jnp.tile(half, 2))


def _paint(key: Array) -> Array:
    """[5, 3] colours of cars."""
    choice_key, jitter_key = jax.random.split(key)
    paint = jnp.array(_PAINTS)[jax.random.randint(choice_key, (NUM_CARS,), 0, len(_PAINTS))]
    return paint * jax.random.uniform(jitter_key, (NUM_CARS, 3), minval=0.85, maxval=1.1)


def _studio_light(key: Array, outdoors: Light) -> tuple[Light, Array]:
    """Light from above and aside before a plain backdrop, and the floor's colour."""
    place_key, tone_key = jax.random.split(key)
    r = jax.random.uniform(place_key, (5,))
    azimuth, height = 2.0 * jnp.pi * r[0], between(r[1], 0.7, 1.2)
    sun = jnp.stack([jnp.cos(azimuth), jnp.sin(azimuth)]) * jnp.cos(height)
    grey = between(r[2] ** 0.5, 0.15, 0.95)
    backdrop = grey * (1.0 - 0.4 * r[3] ** 3 * jax.random.uniform(tone_key, (3,)))
    soft = between(r[4], 0.3, 0.7)
    light = outdoors._replace(
        sun=jnp.append(sun, jnp.sin(height)),
        sunlight=jnp.full(3, 1.5 - soft),
        ambient=jnp.full(3, soft),
        zenith=backdrop,
        horizon=backdrop,
        cloud=jnp.float32(0.0),
        haze=jnp.float32(0.003),
    )
    return light, jnp.sqrt(backdrop)


def _clear(city: City, studio: Array) -> City:
    """A city without buildings, trees and posts where `studio` holds."""
    down = jnp.where(studio, jnp.array([0.0, 0.0, 10.0 * BURIED]), 0.0)[None]
    boxes = Boxes(city.boxes.low + down, city.boxes.high + down)
    crowns = city.crowns._replace(centre=city.crowns.centre + down)
    # No building line darkens the floor.
    street = city.street._replace(line=jnp.where(studio, 1e3, city.street.line))
    return city._replace(boxes=boxes, crowns=crowns, street=street)


def build_cars(keys: SceneKeys, config: CarConfig) -> CarScene:
    """A scene of its parts' keys; parts whose key is the same are the same, bit for bit."""
    studio_key, shape_key = jax.random.split(jax.random.fold_in(keys.geometry, 1))
    studio = jax.random.uniform(studio_key) < config.chance_of_studio
    city = _clear(build_city(keys, config), studio)
    shapes, absent = _shapes(shape_key, city.street.kerb, config)
    absent |= studio & (jnp.arange(NUM_CARS) > 0)
    wedges = _wedges(shapes, absent)
    cars = slice(CAR_BODIES.start, CAR_CABINS.stop)
    boxes = Boxes(
        city.boxes.low.at[cars].set(wedges.boxes.low),
        city.boxes.high.at[cars].set(wedges.boxes.high),
    )
    paint = jnp.tile(_paint(jax.random.fold_in(keys.colour, 1)), (2, 1))
    surface = city.surface._replace(tint=city.surface.tint.at[cars].set(paint))
    indoors, backdrop = _studio_light(jax.random.fold_in(keys.light, 1), city.light)
    light = jax.tree.map(lambda a, b: jnp.where(studio, a, b), indoors, city.light)
    city = city._replace(boxes=boxes, surface=surface, light=light)
    return CarScene(city, wedges, _axles(shapes, absent), shapes, studio, backdrop)
