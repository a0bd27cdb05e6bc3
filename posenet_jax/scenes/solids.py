"""Solids that rays can meet (see `intersections`). Unbatched; metres.

A solid's fields hold n things of one sort.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

Array = jax.Array

BURIED = -50.0  # metres: how deep an absent thing lies


class Boxes(NamedTuple):
    """Axis-aligned boxes."""

    low: Array  # [n, 3] smallest corner
    high: Array  # [n, 3] largest corner


class Turned(NamedTuple):
    """Boxes in a frame turned about z."""

    boxes: Boxes
    turn: Array  # [] radians: the frame's heading in the world


class Crowns(NamedTuple):
    """Ellipsoids of leaves, ragged at the silhouette."""

    centre: Array  # [n, 3]
    radius: Array  # [n, 3] semi-axes of the ellipsoids


class Balls(NamedTuple):
    """Smooth ellipsoids."""

    centre: Array  # [n, 3]
    radius: Array  # [n, 3] semi-axes


class Wedges(NamedTuple):
    """Convex polyhedra: boxes cut by slanted planes, of which they keep normal . p <= offset.

    An unused plane has normal 0 and a positive offset.
    """

    boxes: Boxes
    normal: Array  # [n, k, 3] unit, outward
    offset: Array  # [n, k] metres from the origin


class Rollers(NamedTuple):
    """Solid cylinders about axes along y."""

    centre: Array  # [n, 3]
    radius: Array  # [n]
    half_width: Array  # [n] half of the extent along y


class Hollow(NamedTuple):
    """The inside of one box, seen by rays that start in it."""

    box: Boxes  # n = 1


class Ground(NamedTuple):
    """The plane z = 0, from above."""


Solid = Boxes | Turned | Crowns | Balls | Wedges | Rollers | Hollow | Ground
# Each with the id of its first thing; the others follow.
Solids = tuple[tuple[int, Solid], ...]


def count(solid: Solid) -> int:
    """How many things a solid holds, and so how many ids it takes."""
    match solid:
        case Ground() | Hollow():
            return 1
        case Turned(boxes, _):
            return count(boxes)
        case Wedges(boxes, _, _):
            return count(boxes)
        case _:
            return solid[0].shape[0]


def box_around(
    x: ArrayLike,
    y: ArrayLike,
    size_x: ArrayLike,
    size_y: ArrayLike,
    bottom: ArrayLike,
    top: ArrayLike,
) -> Boxes:
    """Boxes around (x, y); arguments broadcast to [n]."""
    x, y, sx, sy, z0, z1 = jnp.broadcast_arrays(x, y, size_x, size_y, bottom, top)
    low = jnp.stack([x - 0.5 * sx, y - 0.5 * sy, z0], axis=-1)
    return Boxes(low, jnp.stack([x + 0.5 * sx, y + 0.5 * sy, z1], axis=-1))


def bury(boxes: Boxes, absent: Array) -> Boxes:
    """Boxes [n] with those for which `absent` [n] holds moved out of sight."""
    down = jnp.where(absent[:, None], jnp.array([[0.0, 0.0, BURIED]]), 0.0)
    return Boxes(boxes.low + down, boxes.high + down)


def bounds(solid: Solid) -> Boxes:
    """Axis-aligned boxes around the things, in their own frame; of ground and walls, none."""
    match solid:
        case Boxes():
            return solid
        case Turned(boxes, _) | Wedges(boxes, _, _):
            return boxes
        case Crowns(centre, radius) | Balls(centre, radius):
            return Boxes(centre - radius, centre + radius)
        case Rollers(centre, radius, half_width):
            size = jnp.stack([radius, half_width, radius], axis=-1)
            return Boxes(centre - size, centre + size)
        case _:
            return Boxes(jnp.zeros((0, 3)), jnp.zeros((0, 3)))
