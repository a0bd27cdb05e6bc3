"""Car scenes and rooms in float64 and closed forms: the oracle of what the ray caster meets.

Depth [R] and outward normal [R, 3] of one thing, seen from origin [3] along direction [R, 3]; depth
is inf where it is missed.
"""

import jax
import numpy as np

from posenet_jax.scenes import raycast
from posenet_jax.scenes.car import cars
from posenet_jax.scenes.room import rooms
from posenet_jax.scenes.street import city


def part(tree, index):
    return jax.tree.map(lambda x: x[index], tree)


def polyhedron(origin, direction, normal, offset):
    """Entry and exit of half-spaces normal [P, 3] . p <= offset [P], by clipping."""
    along, gap = direction @ normal.T, offset - origin @ normal.T
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = gap / along
    enters = np.where(along < 0, depth, -np.inf)
    leave = np.where(along > 0, depth, np.inf).min(-1)
    outside = ((along == 0) & (gap < 0)).any(-1)
    entry = enters.max(-1)
    met = (entry <= leave) & (entry > 1e-3) & ~outside
    return np.where(met, entry, np.inf), normal[enters.argmax(-1)]


def box(origin, direction, low, high, turn=0.0, normal=None, offset=None):
    """Entry and exit of a box turned about z and cut by further half-spaces."""
    c, s = np.cos(turn), np.sin(turn)
    axes = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    normals, offsets = np.concatenate([axes, -axes]), np.concatenate([high, -low])
    if normal is not None:
        normals = np.concatenate([normals, normal])
        offsets = np.concatenate([offsets, offset])
    return polyhedron(origin, direction, normals, offsets)


def quadric(origin, direction, centre, weight):
    """Entry and exit of sum weight (p - centre)^2 <= 1; normals at the entry."""
    start = origin - centre
    a = (weight * direction**2).sum(-1)
    b = (weight * start * direction).sum(-1)
    square = b**2 - a * ((weight * start**2).sum() - 1)
    root = np.sqrt(np.maximum(square, 0))
    entry, leave = (-b - root) / a, (-b + root) / a
    entry = np.where(square > 0, entry, np.inf)
    with np.errstate(invalid="ignore"):
        normal = weight * (start + np.where(np.isfinite(entry), entry, 0.0)[:, None] * direction)
    return entry, leave, normal / np.linalg.norm(normal, axis=-1, keepdims=True)


def ball(origin, direction, centre, radius):
    entry, _, normal = quadric(origin, direction, centre, radius**-2.0)
    return np.where(entry > 1e-3, entry, np.inf), normal


def roller(origin, direction, centre, radius, half_width):
    weight = np.array([radius**-2.0, 0.0, radius**-2.0])
    tread, leave, normal = quadric(origin, direction, centre, weight)
    ends = np.array([-half_width, half_width]) + centre[1] - origin[1]
    disc, out = np.sort(ends / direction[:, 1:2], axis=-1).T
    flat = np.stack([0 * disc, -np.sign(direction[:, 1]), 0 * disc], -1)
    entry = np.maximum(tread, disc)
    met = (entry <= np.minimum(leave, out)) & (entry > 1e-3)
    return np.where(met, entry, np.inf), np.where((disc > tread)[:, None], flat, normal)


def hollow(origin, direction, low, high):
    walls = np.where(direction > 0, high, low)
    depth = (walls - origin) / direction
    axis = depth.argmin(-1)
    return depth.min(-1), -np.sign(direction) * np.eye(3)[axis]


def ground(origin, direction):
    depth = np.where(direction[:, 2] < 0, -origin[2] / direction[:, 2], np.inf)
    return np.where(depth < 0.5 * raycast.FAR, depth, np.inf), np.eye(3)[[2] * len(direction)]


def things_of_room(world, origin, direction):
    """{id: (depth, normal)} of everything but leaves; world unbatched, float64."""
    low, high = world.boxes.low, world.boxes.high
    turned = range(rooms.TABLE.start, rooms.CHAIRS.stop)
    found = {rooms.WALLS: hollow(origin, direction, world.walls.low[0], world.walls.high[0])}
    for i in range(len(low)):
        turn = world.turn if i + 1 in turned else 0.0
        found[i + 1] = box(origin, direction, low=low[i], high=high[i], turn=turn)
    for i, number in enumerate(range(rooms.LAMPS.start, rooms.LAMPS.stop)):
        found[number] = ball(
            origin, direction, centre=world.lamps.centre[i], radius=world.lamps.radius[i]
        )
    return found


def things_about_cars(world, origin, direction):
    """The same of a car scene."""
    low, high = world.city.boxes.low, world.city.boxes.high
    turned = range(city.TURNED.start, city.TURNED.stop)
    found = {city.GROUND: ground(origin, direction)}
    for i in range(city.NUM_BOXES):
        turn = world.city.turn if i in turned else 0.0
        found[i] = box(origin, direction, low=low[i], high=high[i], turn=turn)
    for i in range(2 * cars.NUM_CARS):
        bounds, normal, offset = part(world.wedges, i)
        found[city.CAR_BODIES.start + i] = box(
            origin, direction, low=bounds.low, high=bounds.high, normal=normal, offset=offset
        )
        found[cars.AXLES.start + i] = roller(origin, direction, *part(world.axles, i))
    return found


def oracle(world, origin, direction):
    """Depth, id and normal of the nearest thing; depth of the nearest that is no wall or ground."""
    indoors = isinstance(world, rooms.Room)
    world = jax.tree.map(np.float64, world)
    find = things_of_room if indoors else things_about_cars
    found = find(world, np.float64(origin), np.float64(direction))
    number = np.array(list(found))
    depth = np.stack([depth for depth, _ in found.values()])
    normal = np.stack([normal for _, normal in found.values()])
    first, every = depth.argmin(0), np.arange(depth.shape[1])
    loose = depth[number != (rooms.WALLS if indoors else city.GROUND)]
    return depth[first, every], number[first], normal[first, every], loose.min(0)
