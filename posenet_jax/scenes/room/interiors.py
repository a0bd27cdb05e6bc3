"""How a room looks: what is on its walls, its materials, windows and lamps. Unbatched.

Which panel (window, door, picture) a point of the walls lies on is found anew by each stage that
asks: it is a few comparisons.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from posenet_jax.scenes import raycast
from posenet_jax.scenes.atlas import Material
from posenet_jax.scenes.raycast import Hit
from posenet_jax.scenes.room.rooms import (
    BED,
    BOOKS,
    CHAIRS,
    CUPBOARDS,
    CURTAINS,
    DOOR,
    LAMPS,
    NIGHT_TABLE,
    NUM_PANELS,
    PICTURES,
    PLANT,
    POT,
    RUG,
    SOFA,
    STAND,
    TABLE,
    WALLS,
    WINDOWS,
    Room,
)
from posenet_jax.scenes.shading import (
    Colour,
    Seen,
    Semantic,
    Texture,
    classes,
    fold,
    is_in,
    local,
    pack_colour,
    pick,
    remainder,
    stretch,
    unpack_colour,
)
from posenet_jax.scenes.vectors import Vector, dot, triple

Array = jax.Array

_NO_PANEL = NUM_PANELS
_CASTERS = range(TABLE.start, PLANT + 1)
# What darkens the floor beneath and beside it.
_STANDING = (BED.start, SOFA.start, CUPBOARDS.start, CUPBOARDS.start + 1, BOOKS, POT, NIGHT_TABLE)
_OUTDOORS = 9.0  # metres from a window to the house that one sees
_FACADE_TILE = 11.0  # metres that a facade covers


def _panel(room: Room, hit: Hit, point: Vector) -> Array:
    """[R] int32: the panel at a point of the walls, or NUM_PANELS."""
    found = jnp.full(hit.identity.shape, _NO_PANEL)
    upright = (hit.identity == WALLS) & (hit.face < 2)
    for i in range(NUM_PANELS):
        low, high = room.panels.low[i], room.panels.high[i]
        inside = upright
        for axis in range(3):
            inside &= (point[axis] > low[axis]) & (point[axis] < high[axis])
        found = jnp.where(inside, i, found)
    return found


class _Spot(NamedTuple):
    """Where on the panels of its walls a hit is, [R] each; lengths in metres."""

    panel: Array  # int32; elsewhere NUM_PANELS, and the rest means nothing
    u: Array  # rightward, in [0, 1]
    v: Array  # downward
    width: Array  # of the panel
    height: Array
    edge: Array  # distance from the panel's border


def _spot(room: Room, hit: Hit, point: Vector) -> _Spot:
    panel, face = _panel(room, hit, point), hit.face
    low, high = (
        triple(pick(panel, c) for c in corner.T) for corner in (room.panels.low, room.panels.high)
    )
    across = jnp.where(face == 0, point[1], point[0])
    start, end = (jnp.where(face == 0, c[1], c[0]) for c in (low, high))
    width, height = end - start, high[2] - low[2]
    u, v = (across - start) / width, (high[2] - point[2]) / height
    edge = jnp.minimum(jnp.minimum(u, 1.0 - u) * width, jnp.minimum(v, 1.0 - v) * height)
    return _Spot(panel, u, v, width, height, edge)


def _off(spot: _Spot, u: float, v: float) -> Array:
    """[R] metres from the nearer of the panel's lines at u and at v."""
    return jnp.minimum(jnp.abs(spot.u - u) * spot.width, jnp.abs(spot.v - v) * spot.height)


def _is_frame(spot: _Spot) -> Array:
    """[R] bool: of windows, the frame and the cross bars rather than the pane."""
    return (spot.edge < 0.07) | (_off(spot, 0.5, 0.3) < 0.025)


def _plain(room: Room, direction: Vector, hit: Hit, point: Vector) -> Texture:
    """Materials on everything, by position on faces along the axes."""
    identity, face = hit.identity, hit.face
    p, d = (local(room, v, identity) for v in (point, direction))
    u = jnp.where(face == 0, p[1], p[0])
    v = jnp.where(face == 2, p[1], -p[2])
    slope = jnp.abs(jnp.where(face == 0, d[0], jnp.where(face == 1, d[1], d[2])))
    ground = (identity == WALLS) & (face == 2)
    floor = ground & (point[2] < 1.0)
    layer = pick(identity, room.look.layer)
    layer = jnp.where(floor, room.look.floor, jnp.where(ground, Material.PLASTER, layer))
    scale = jnp.where(identity == WALLS, jnp.where(floor, 1.0 / 1.3, 1.0 / 0.8), 1.0 / 0.9)
    u, v = fold(u * scale), fold(v * scale)
    # A row of books stands on each of three boards.
    low, high = room.boxes.low[BOOKS - 1, 2], room.boxes.high[BOOKS - 1, 2]
    row = 1.0 - remainder(3.0 * (point[2] - low) / (high - low), 1.0)
    books = identity == BOOKS
    return Texture(layer, u, jnp.where(books, row, v), scale * stretch(slope))


def texture(room: Room, direction: Vector, hit: Hit, point: Vector, num_facades: int) -> Texture:
    """The texture that each ray shows: a picture, what is out of the window, or a material."""
    plain = _plain(room, direction, hit, point)
    spot = _spot(room, hit, point)
    number = jnp.minimum((room.look.facade * num_facades).astype(jnp.int32), num_facades - 1)
    layer = len(Material) + pick(spot.panel, number)
    # The house across the street, seen through the pane from a second floor.
    out, along = (jnp.where(hit.face == 0, direction[i], direction[j]) for i, j in ((0, 1), (1, 0)))
    far = _OUTDOORS / jnp.maximum(jnp.abs(out), 1e-3)
    place = jnp.where(hit.face == 0, point[1], point[0]) + far * along
    rise = (point[2] + far * direction[2] + 4.0) / _FACADE_TILE
    # A pixel covers several times as much of that house as of the pane before it.
    coarse = 4.0 * (1.0 + jnp.abs(direction[2])) / _FACADE_TILE
    house = Texture(layer, fold(place / _FACADE_TILE), 1.0 - jnp.clip(rise, 0.0, 1.0), coarse)
    hung = Texture(layer, spot.u, spot.v, 1.0 / spot.width)
    window, picture = is_in(spot.panel, WINDOWS), is_in(spot.panel, PICTURES)

    def choose(house: Array, hung: Array, plain: Array) -> Array:
        return jnp.where(window, house, jnp.where(picture, hung, plain))

    return jax.tree.map(choose, house, hung, plain)


def _leaves_by(room: Room, point: Vector, direction: Vector, panels: slice) -> Array:
    """[R] bool: does the ray leave the room through one of the panels?"""
    leave = []
    for axis in range(3):
        speed = jnp.where(jnp.abs(direction[axis]) < 1e-6, 1e-6, direction[axis])
        wall = jnp.where(speed > 0.0, room.walls.high[0, axis], room.walls.low[0, axis])
        leave.append((wall - point[axis]) / speed)
    depth = jnp.minimum(jnp.minimum(leave[0], leave[1]), leave[2])
    found = jnp.zeros(point[0].shape, bool)
    for i in range(panels.start, panels.stop):
        inside = depth > 0.0
        for axis in range(3):
            end = point[axis] + depth * direction[axis]
            low, high = room.panels.low[i, axis], room.panels.high[i, axis]
            inside &= (end > low) & (end < high)
        found |= inside
    return found


def _toward(room: Room, point: Vector) -> Vector:
    """To the main light: parameter 1 is the lamp itself; the sun is beyond any."""
    main = room.light.main
    return triple(main[i] - main[3] * point[i] for i in range(3))


def lit(room: Room, point: Vector) -> Array:
    """[R] bool: does the main light reach a point? The sun comes in by the windows alone."""
    way = _toward(room, point)
    near = room.light.main[3] > 0.5
    length = jnp.where(near, 1.0, raycast.FAR)
    free = ~raycast.blocked(room, point, way, length, _CASTERS)
    return free & (near | _leaves_by(room, point, way, WINDOWS))


def semantic(room: Room, seen: Seen) -> Array:
    """uint8 `Semantic` of hits."""
    identity = seen.hit.identity
    kinds = (
        (TABLE.stop, Semantic.TABLE),
        (CHAIRS.stop, Semantic.SEAT),
        (BED.stop, Semantic.BED),
        (SOFA.stop, Semantic.SEAT),
        (BOOKS + 1, Semantic.CUPBOARD),
        (CURTAINS.stop, Semantic.WINDOW),
        (STAND + 1, Semantic.LAMP),
        (POT + 1, Semantic.TREE),
        (RUG + 1, Semantic.FLOOR),
        (NIGHT_TABLE + 1, Semantic.CUPBOARD),
        (PLANT + 1, Semantic.TREE),
        (LAMPS.stop, Semantic.LAMP),
    )
    kind = classes(identity, kinds)
    panel = _panel(room, seen.hit, seen.point)
    flat = jnp.where(seen.point[2] < 1.0, Semantic.FLOOR, Semantic.CEILING)
    wall = jnp.where(seen.hit.face == 2, flat, Semantic.WALL)
    for panels, value in (
        (WINDOWS, Semantic.WINDOW),
        (slice(DOOR, DOOR + 1), Semantic.DOOR),
        (PICTURES, Semantic.PICTURE),
    ):
        wall = jnp.where(is_in(panel, panels), value, wall)
    return jnp.where(identity == WALLS, wall, kind).astype(jnp.uint8)


def _furniture_paint(room: Room, seen: Seen) -> Array:
    """[R] factor on colour: the seams of cupboards' doors and drawers, and their handles."""
    identity, p = seen.hit.identity, seen.point
    front = is_in(identity, CUPBOARDS) & (seen.hit.face == 1)
    boxes = slice(CUPBOARDS.start - 1, CUPBOARDS.stop - 1)
    low, high = (
        triple(pick(identity, c, CUPBOARDS.start) for c in corner[boxes].T)
        for corner in (room.boxes.low, room.boxes.high)
    )
    middle = 0.5 * (low[0] + high[0])
    soft = 0.012 + 0.5 * seen.pixel
    off = jnp.abs(p[0] - middle)
    seam = jnp.maximum(1.0 - off / soft, 1.0 - jnp.abs(p[2] - low[2] - 0.09) / soft)
    grip = (jnp.abs(off - 0.06) < 0.015) & (jnp.abs(p[2] - 0.5 * (low[2] + high[2])) < 0.1)
    dark = 1.0 - jnp.clip(seam, 0.0, 1.0) * 0.6
    return jnp.where(front, jnp.where(grip, 0.35, dark), 1.0)


def _wall_albedo(room: Room, seen: Seen, texel: Colour, wall: Colour) -> Colour:
    """Display-referred colour of floor, ceiling and walls with all that is on them.

    `wall` is the texture times the wallpaper's colour.
    """
    look, spot = room.look, _spot(room, seen.hit, seen.point)
    panel, edge = spot.panel, spot.edge
    flat, floor = seen.hit.face == 2, seen.point[2] < 1.0
    skirting = ~flat & (seen.point[2] < 0.09)
    window, picture, door = is_in(panel, WINDOWS), is_in(panel, PICTURES), panel == DOOR
    wooden = _is_frame(spot)
    rim, mount = picture & (edge < 0.03), picture & (edge < 0.03 + look.framed)
    # A door's grooves run along its border, and in the lower half round two fields.
    fields = _off(spot, 0.5, 0.5) - 0.1 + 10.0 * (spot.v < 0.5)
    groove = jnp.abs(jnp.minimum(edge - 0.12, fields)) < 0.012
    knob = jnp.abs(spot.u - 0.9) * spot.width < 0.03
    knob &= jnp.abs(spot.v - 0.5) * spot.height < 0.07
    shade = jnp.where(edge < 0.06, 0.8, jnp.where(knob, 0.3, jnp.where(groove, 0.7, 1.0)))
    colour = []
    for i in range(3):
        plane = jnp.where(
            flat, texel[i] * jnp.where(floor, look.surround[0, i], look.surround[1, i]), wall[i]
        )
        plane = jnp.where(skirting, look.surround[2, i], plane)
        plane = jnp.where(
            picture,
            jnp.where(rim, 0.5 * look.tint[STAND, i] + 0.1, jnp.where(mount, 0.95, texel[i])),
            plane,
        )
        plane = jnp.where(door, look.door[i] * shade, plane)
        plane = jnp.where(window, jnp.where(wooden, look.surround[3, i], texel[i]), plane)
        colour.append(plane)
    return triple(colour)


def _albedo(room: Room, seen: Seen, texel: Colour) -> Colour:
    identity = seen.hit.identity
    paint = _furniture_paint(room, seen)
    tints = unpack_colour(pick(identity, pack_colour(triple(room.look.tint.T))))
    # Materials are drawn a little darker than white.
    plain = triple(tint * paint * tex * 1.18 for tint, tex in zip(tints, texel, strict=True))
    white = triple(1.18 * tex for tex in texel)
    wall = _wall_albedo(room, seen, white, plain)
    return triple(jnp.where(identity == WALLS, w, p) for w, p in zip(wall, plain, strict=True))


def _corners(room: Room, seen: Seen) -> Array:
    """[R] how much of the ambient light arrives: less in corners, under and beside furniture."""
    low, high = room.walls.low[0], room.walls.high[0]
    open_space = jnp.ones_like(seen.pixel)
    for axis in range(3):
        for gap in (seen.point[axis] - low[axis], high[axis] - seen.point[axis]):
            # A wall does not darken itself.
            near = jnp.where(
                jnp.abs(seen.normal[axis]) > 0.9, 0.0, jnp.exp(-3.0 * jnp.maximum(gap, 0.0))
            )
            open_space = open_space * (1.0 - 0.4 * near)
    floor = (seen.point[2] < 0.03) & (seen.normal[2] > 0.5)
    for i in _STANDING:
        box_low, box_high = room.boxes.low[i - 1], room.boxes.high[i - 1]
        gaps = [
            jnp.maximum(jnp.maximum(box_low[a] - seen.point[a], seen.point[a] - box_high[a]), 0.0)
            for a in (0, 1)
        ]
        near = jnp.clip(1.0 - 3.0 * (gaps[0] + gaps[1]), 0.0, 1.0)
        open_space = open_space * (1.0 - 0.6 * jnp.where(floor & (box_low[2] > -1.0), near, 0.0))
    return open_space


def _window_light(room: Room, seen: Seen, number: int) -> Array:
    """[R] form factor of a window, as of a small one, without shadows."""
    low, high = room.panels.low[number], room.panels.high[number]
    size = high - low
    # The thin side of a panel is its normal's axis; x by construction.
    area = size[1] * size[2]
    way = triple(0.5 * (low[i] + high[i]) - seen.point[i] for i in range(3))
    square = dot(way, way)
    cosines = jnp.maximum(dot(way, seen.normal), 0.0) * jnp.abs(way[0])
    factor = area * cosines / (square * (jnp.pi * square + area))
    return jnp.where(low[2] > -1.0, factor, 0.0)


def _direct(room: Room, seen: Seen) -> Array:
    """[R] cosine of incidence of the main light, over the square of the distance to a lamp."""
    way, near = _toward(room, seen.point), room.light.main[3]
    square = dot(way, way)
    cosine = jnp.clip(dot(way, seen.normal) * jax.lax.rsqrt(square), 0.0, 1.0)
    soft = (seen.hit.identity == PLANT) * 0.3
    return (soft + (1.0 - soft) * cosine) / (1.0 - near + near * (square + 0.4))


def _glow(room: Room, seen: Seen, texel: Colour) -> tuple[Array, Colour]:
    """Mask of hits that shine (panes of windows, lamps), and their display-referred colours."""
    spot = _spot(room, seen.hit, seen.point)
    pane = is_in(spot.panel, WINDOWS) & ~_is_frame(spot)
    lamp = is_in(seen.hit.identity, LAMPS) & (room.light.lamp > 0.5)
    rise = seen.direction[2] * jax.lax.rsqrt(dot(seen.direction, seen.direction))
    sky = jnp.clip((rise - 0.22) * 40.0, 0.0, 1.0)
    colour = []
    for i, blue in enumerate((0.82, 0.9, 1.0)):
        view = (texel[i] + sky * (blue - texel[i])) * room.light.outside
        colour.append(jnp.where(lamp, 1.4 - 0.12 * i, view))
    return pane | lamp, triple(colour)


def colour(room: Room, seen: Seen, texel: Colour, reached: Array) -> Colour:
    """Display-referred colours of hits; reached [R] bool: by the main light."""
    light, albedo = room.light, _albedo(room, seen, texel)
    corners, direct = _corners(room, seen), jnp.where(reached, _direct(room, seen), 0.0)
    windows = sum(_window_light(room, seen, i) for i in range(WINDOWS.start, WINDOWS.stop))
    shines, glow = _glow(room, seen, texel)
    result = []
    for i in range(3):
        power = light.ambient[i] * corners + light.power[i] * direct + light.window[i] * windows
        result.append(jnp.where(shines, glow[i], albedo[i] * jnp.sqrt(power)))
    return triple(result)
