"""Furniture and what hangs on walls, as boxes laid out in one room. Unbatched; metres.

The origin is the middle of the floor; the windows are in the wall at x > 0, the door and the sofa
at y < 0, the bed and cupboards at y > 0, shelves at x < 0. The order of the boxes is that of the
ids in `rooms`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from posenet_jax.scenes.config import RoomConfig
from posenet_jax.scenes.solids import BURIED, Balls, Boxes, Crowns, box_around, bury
from posenet_jax.scenes.vectors import between

Array = jax.Array

SKIN = 0.02  # metres either side of a wall that a panel takes


class Plan(NamedTuple):
    """The room's half sizes and what is in it."""

    a: Array  # [] half of the extent in x
    b: Array  # [] in y
    height: Array
    bed: Array  # [] bool
    sofa: Array
    table: Array
    low: Array  # is the table a low one without chairs?


def stack(*boxes: Boxes) -> Boxes:
    """All of them in a row; single ones may lack the leading axis."""
    return jax.tree.map(lambda *x: jnp.concatenate([jnp.atleast_2d(y) for y in x]), *boxes)


def draw_plan(key: Array, config: RoomConfig) -> Plan:
    """Bedrooms, living rooms, and rooms that are both."""
    r = jax.random.uniform(key, (7,))
    a, b = (0.5 * between(r[i], *config.room_size) for i in (0, 1))
    bed = r[3] < 0.45
    sofa = ~bed | ((r[4] < 0.4) & (b > 2.2))
    table = ~bed | (a * b > 5.0)
    low = sofa & (r[5] < 0.4)
    return Plan(a, b, between(r[2], *config.room_height), bed, sofa, table, low)


def _legs(
    x: Array, y: Array, size_x: ArrayLike, size_y: ArrayLike, top: ArrayLike, thick: float
) -> Boxes:
    """Four legs under the corners of a top of that size around (x, y)."""
    sx, sy = jnp.array([-1.0, 1.0, -1.0, 1.0]), jnp.array([-1.0, -1.0, 1.0, 1.0])
    dx, dy = 0.5 * size_x - 0.7 * thick, 0.5 * size_y - 0.7 * thick
    return box_around(x + sx * dx, y + sy * dy, thick, thick, 0.0, top)


def _chair(x: Array, y: Array, way: tuple[float, float], r: Array) -> Boxes:
    """Six boxes of a chair at (x, y) whose back is toward `way`; r [2] in [0, 1)."""
    high = between(r[0], 0.8, 1.02)
    seat = box_around(x, y, 0.43, 0.43, 0.42, 0.47)
    along, across = abs(way[1]) * 0.43 + 0.04 * abs(way[0]), abs(way[0]) * 0.43 + 0.04 * abs(way[1])
    back = box_around(x + 0.2 * way[0], y + 0.2 * way[1], along, across, 0.55, high)
    return stack(seat, back, _legs(x, y, 0.43, 0.43, 0.42, 0.045))


def table_group(key: Array, plan: Plan) -> Boxes:
    """Ids 1 to 23, about a place between the room's middle and the window."""
    r = jax.random.uniform(key, (12,))
    x, y = between(r[0], 0.0, 0.35) * plan.a, between(r[1], -0.25, 0.15) * plan.b
    length, width = between(r[2], 1.0, 1.7), between(r[3], 0.7, 0.95)
    scale = jnp.where(plan.low, 0.75, 1.0)
    length, width = scale * length, scale * width
    height = jnp.where(plan.low, between(r[4], 0.36, 0.48), between(r[4], 0.7, 0.77))
    thick = between(r[5], 0.03, 0.06)
    top = box_around(x, y, length, width, height - thick, height)
    out = between(r[6], 0.02, 0.3)
    side = 0.5 * width + out
    chairs = stack(
        _chair(x - 0.2 * length, y + side, (0.0, 1.0), r[7:9]),
        _chair(x + 0.22 * length * r[9], y - side, (0.0, -1.0), r[7:9]),
        _chair(x - 0.5 * length - out, y, (-1.0, 0.0), r[7:9]),
    )
    missing = r[9:12] < jnp.array([0.1, 0.15, 0.4])
    absent = plan.low | ~plan.table | jnp.repeat(missing, 6)
    table = stack(top, _legs(x, y, length, width, height - thick, 0.07))
    return stack(bury(table, jnp.broadcast_to(~plan.table, (5,))), bury(chairs, absent))


def bed_and_night_table(key: Array, plan: Plan) -> Boxes:
    """Ids 24 to 28 and the night table: head against the wall at y > 0, in the corner x < 0."""
    r = jax.random.uniform(key, (5,))
    width, length = between(r[0], 0.9, 1.7), 2.02
    x, y = -plan.a + 0.5 * width + between(r[1], 0.02, 0.5), plan.b - 0.5 * length - 0.04
    base, top = between(r[2], 0.2, 0.32), between(r[2], 0.45, 0.62)
    head = plan.b - 0.04
    pillow = 0.5 * width - 0.12
    boxes = stack(
        box_around(x, y, width, length, 0.08, base),
        box_around(x, y - 0.02, width - 0.04, length - 0.06, base, top),
        box_around(x, head, width + 0.06, 0.06, 0.0, between(r[3], 0.75, 1.2)),
        box_around(x - 0.25 * width, head - 0.3, pillow, 0.4, top, top + 0.12),
        box_around(x + 0.25 * width, head - 0.3, pillow, 0.4, top, top + 0.12),
        box_around(x + 0.5 * width + 0.3, head - 0.2, 0.42, 0.38, 0.0, between(r[4], 0.4, 0.6)),
    )
    return bury(boxes, jnp.broadcast_to(~plan.bed, (6,)))


def sofa_of(key: Array, plan: Plan) -> Boxes:
    """Ids 29 to 34: its back against the wall at y < 0, in the corner x < 0."""
    r = jax.random.uniform(key, (5,))
    width, deep = between(r[0], 1.5, 2.2), between(r[1], 0.8, 0.95)
    x, y = -plan.a + 0.5 * width + between(r[2], 0.1, 0.4), -plan.b + 0.5 * deep + 0.03
    seat, back = between(r[3], 0.36, 0.44), between(r[3], 0.72, 0.95)
    arm = seat + 0.2
    boxes = stack(
        box_around(x, y, width, deep, 0.08, seat),
        box_around(x, -plan.b + 0.14, width, 0.22, 0.08, back),
        box_around(x - 0.5 * width + 0.09, y, 0.18, deep, 0.06, arm),
        box_around(x + 0.5 * width - 0.09, y, 0.18, deep, 0.06, arm),
        box_around(x - 0.26 * width, y - 0.04, 0.4, 0.16, seat, seat + 0.38),
        box_around(x + 0.2 * width, y - 0.06, 0.42, 0.15, seat, seat + 0.38),
    )
    return bury(boxes, jnp.broadcast_to(~plan.sofa, (6,)))


def storage(key: Array, plan: Plan) -> Boxes:
    """Ids 35 to 44: tall cupboard, sideboard, screen, shelves and the books in them."""
    r = jax.random.uniform(key, (9,))
    wide, tall, north = between(r[0], 0.8, 1.5), between(r[1], 1.7, 2.25), plan.b
    cupboard = box_around(plan.a - 0.5 * wide - 0.1, north - 0.3, wide, 0.6, 0.0, tall)
    board = box_around(-0.35 * plan.a, north - 0.22, between(r[2], 1.1, 1.7), 0.42, 0.0, 0.55)
    across = between(r[3], 0.8, 1.25)
    screen = box_around(-0.35 * plan.a, north - 0.2, across, 0.05, 0.6, 0.6 + 0.58 * across)
    y, width = between(r[4], -0.1, 0.15) * plan.b, between(r[5], 0.7, 1.2)
    west, high, deep = -plan.a + 0.16, between(r[6], 1.1, 2.1), 0.3
    ends = box_around(west, y + jnp.array([-0.5, 0.5]) * width, deep, 0.035, 0.0, high)
    levels = high * jnp.array([0.04, 0.34, 0.67, 1.0])
    boards = box_around(west, y, deep, width, levels - 0.035, levels)
    books = box_around(west - 0.04, y, deep - 0.08, width - 0.04, 0.0, high - 0.02)
    absent = jnp.stack([r[7] < 0.3, plan.bed, plan.bed | (r[7] < 0.5)])
    shelves = stack(ends, boards, books)
    return stack(
        bury(stack(cupboard, board, screen), absent),
        bury(shelves, jnp.broadcast_to(r[8] < 0.3, (7,))),
    )


def wall_panels(key: Array, plan: Plan) -> tuple[Boxes, Array]:
    """Windows, door and pictures; and how far curtains are drawn beside the windows, [2] metres."""
    r = jax.random.uniform(key, (7, 7))
    sill = between(r[0, 0], 0.75, 1.0)
    head = jnp.minimum(plan.height - 0.2, between(r[0, 1], 2.0, 2.3))
    half = jnp.minimum(between(r[1, :2], 0.45, 0.9), 0.42 * plan.b)
    y = jnp.array([0.5, -0.5]) * plan.b
    y = jnp.where(r[0, 2] < 0.4, 0.0 * y, y)  # one window alone in the middle
    windows = box_around(plan.a, y, 2 * SKIN, 2.0 * half, sill, head)
    windows = bury(windows, jnp.stack([jnp.array(False), r[0, 2] < 0.4]))
    door = box_around(plan.a - between(r[0, 3], 0.65, 0.8), -plan.b, 0.86, 2 * SKIN, -SKIN, 2.05)
    width, tall = between(r[2, :4], 0.3, 1.0), between(r[3, :4], 0.3, 0.75)
    middle = jnp.minimum(between(r[4, :4], 1.45, 1.7), plan.height - 0.55)
    across = jnp.array([plan.a, plan.a, plan.b, plan.b]) * between(r[5, :4], -0.5, 0.1)
    x = jnp.stack([across[0], across[1], -plan.a, -plan.a])
    y = jnp.stack([-plan.b, plan.b, across[2] - 0.25 * plan.b, across[3] + 0.55 * plan.b])
    flat = jnp.array([False, False, True, True])
    size_x, size_y = jnp.where(flat, 2 * SKIN, width), jnp.where(flat, width, 2 * SKIN)
    pictures = box_around(x, y, size_x, size_y, middle - 0.5 * tall, middle + 0.5 * tall)
    pictures = bury(pictures, r[6, :4] < 0.25)
    return stack(windows, door, pictures), between(r[1, 2:4], 0.1, 0.5)


def curtains_beside(windows: Boxes, drawn: Array, absent: Array) -> Boxes:
    """Two beside each of the windows [2], covering `drawn` [2] metres of the wall."""
    low, high, drawn = windows.low, windows.high, drawn[:, None]
    left = Boxes(
        jnp.concatenate([low[:, :1] - 0.06, low[:, 1:2] - 0.7 * drawn, 0.0 * drawn + 0.04], -1),
        jnp.concatenate([low[:, :1], low[:, 1:2] + 0.3 * drawn, high[:, 2:] + 0.1], -1),
    )
    right = Boxes(
        jnp.concatenate([low[:, :1] - 0.06, high[:, 1:2] - 0.3 * drawn, 0.0 * drawn + 0.04], -1),
        jnp.concatenate([low[:, :1], high[:, 1:2] + 0.7 * drawn, high[:, 2:] + 0.1], -1),
    )
    return bury(stack(left, right), absent | jnp.tile(low[:, 2] < 0.0, 2))


def small_things(key: Array, plan: Plan) -> tuple[Boxes, Crowns, Balls]:
    """Lamp stand, flower pot and rug; the plant; the two lamps."""
    r = jax.random.uniform(key, (10,))
    x, y = plan.a - 0.4, -0.05 * plan.b - 0.3 * r[0]
    shade, has_stand = between(r[1], 1.35, 1.65), r[2] < 0.6
    stand = box_around(-plan.a + 0.35, -0.35 * plan.b, 0.04, 0.04, 0.0, shade)
    pot = box_around(x, y, 0.3, 0.3, 0.0, 0.3)
    wide = jnp.minimum(between(r[3], 1.2, 2.2), 1.4 * plan.b)
    long = jnp.minimum(between(r[4], 1.6, 3.0), 1.5 * plan.a)
    rug = box_around(0.1 * plan.a, 0.0, long, wide, 0.0, 0.015)
    absent = jnp.stack([~has_stand, r[5] < 0.4, r[6] < 0.4])
    tall = between(r[7], 0.3, 0.6)
    plant = jnp.stack([x, y, 0.25 + tall + BURIED * absent[1]])
    hang = plan.height - between(r[8], 0.2, 0.6)
    standing = jnp.stack([-plan.a + 0.35, -0.35 * plan.b, shade + 0.1 + BURIED * absent[0]])
    lamps = jnp.stack([jnp.stack([0.0 * x, 0.0 * x, hang]), standing])
    globe = between(r[9], 0.1, 0.2)
    sizes = jnp.stack([jnp.stack([globe, globe, 0.8 * globe]), jnp.array([0.2, 0.2, 0.17])])
    leaves = jnp.stack([0.3, 0.3, 1.0]) * jnp.stack([1.0 + tall, 1.0 + tall, tall])
    return (
        bury(stack(stand, pot, rug), absent),
        Crowns(plant[None], leaves[None]),
        Balls(lamps, sizes),
    )


def mirror(boxes: Boxes, signs: Array) -> Boxes:
    """Boxes [n] in a world mirrored where signs [3] are -1."""
    one, two = boxes.low * signs[None], boxes.high * signs[None]
    return Boxes(jnp.minimum(one, two), jnp.maximum(one, two))
