"""A furnished room as boxes, lamps, a plant, and what is painted on its walls. Unbatched.

The origin is the middle of the floor, z up, metres. Furniture is laid out once, with the window in
the wall at x > 0, and the whole is then mirrored in x, in y or in both. Ids are static; absent
things lie below the floor. The table and its chairs stand in a frame turned by `Room.turn`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from posenet_jax.scenes.atlas import Material
from posenet_jax.scenes.config import RoomConfig
from posenet_jax.scenes.keys import SceneKeys
from posenet_jax.scenes.room import furniture
from posenet_jax.scenes.solids import Balls, Boxes, Crowns, Hollow, Solids, Turned
from posenet_jax.scenes.vectors import between

Array = jax.Array

WALLS = 0
TABLE = slice(1, 6)  # top and four legs
CHAIRS = slice(6, 24)  # three of a seat, a back and four legs
BED = slice(24, 29)  # frame, mattress, headboard, two pillows
SOFA = slice(29, 35)  # seat, back, two arms, two cushions
CUPBOARDS = slice(35, 37)  # a tall one and a sideboard
SCREEN = 37
SHELVES = slice(38, 44)  # two sides, three boards, top
BOOKS = 44
CURTAINS = slice(45, 49)
STAND = 49  # of the floor lamp
POT = 50
RUG = 51
NIGHT_TABLE = 52
PLANT = 53
LAMPS = slice(54, 56)  # at the ceiling, on the stand
NUM_IDS = 57  # with the sky, which no ray from inside meets
_FURNITURE = BED.start  # first id that stands in the room's own frame

# What is painted on the walls.
WINDOWS = slice(0, 2)
DOOR = 2
PICTURES = slice(3, 7)
NUM_PANELS = 7


class Look(NamedTuple):
    """Textures and colours."""

    layer: Array  # int32 [57] material of each id; of WALLS, the wallpaper
    floor: Array  # int32 [] material
    tint: Array  # [57, 3] factor on the material's colour
    surround: Array  # [4, 3] colours of floor, ceiling, woodwork and window frames
    door: Array  # [3] colour
    facade: Array  # [7] in [0, 1): picture in the atlas, for pictures and views from windows
    framed: Array  # [] how wide a white mount the pictures have, metres


class Lighting(NamedTuple):
    """Linear colours. The main light casts shadows, the others do not."""

    main: Array  # [4] homogeneous: (x, y, z, 1) a lamp or window, (x, y, z, 0) toward the sun
    power: Array  # [3] of the main light
    window: Array  # [3] radiance of the windows, besides the main light
    outside: Array  # [] brightness of what one sees through them
    lamp: Array  # [] brightness of lamps
    ambient: Array  # [3]


class Room(NamedTuple):
    """Everything that does not depend on the camera."""

    walls: Boxes  # n = 1
    boxes: Boxes  # [52] ids 1 to 52
    plant: Crowns
    lamps: Balls
    turn: Array  # [] radians
    panels: Boxes  # [7] thin boxes about parts of the walls
    look: Look
    light: Lighting

    def solids(self) -> Solids:
        """Solids that rays can meet."""
        first = _FURNITURE - TABLE.start
        table, rest = (
            Boxes(self.boxes.low[part], self.boxes.high[part])
            for part in (slice(0, first), slice(first, None))
        )
        return (
            (WALLS, Hollow(self.walls)),
            (TABLE.start, Turned(table, self.turn)),
            (_FURNITURE, rest),
            (PLANT, self.plant),
            (LAMPS.start, self.lamps),
        )


def _colours(key: Array) -> tuple[Array, Array, Array]:
    """Tints of the ids [57, 3], of floor, ceiling, woodwork and frames [4, 3], and the door's."""
    wood_key, stain_key, cloth_key, wall_key, dye_key, floor_key = jax.random.split(key, 6)
    woods = jnp.array([[0.5, 0.33, 0.2], [0.78, 0.6, 0.4], [0.32, 0.21, 0.15], [0.9, 0.88, 0.84]])
    wood = woods[jax.random.randint(wood_key, (5,), 0, 4)]
    wood = wood * jax.random.uniform(stain_key, (5, 1), minval=0.8, maxval=1.2)
    cloth = jax.random.uniform(cloth_key, (6, 3), minval=0.12, maxval=0.95)
    cloth = 0.4 * cloth.mean(axis=1, keepdims=True) + 0.6 * cloth
    linen = 0.75 + 0.25 * cloth[:1]
    r = jax.random.uniform(wall_key, (6,))
    wall = between(r[0], 0.7, 1.1) * (1.0 - r[1] ** 2 * 0.4 * jax.random.uniform(dye_key, (3,)))
    floor = woods[jax.random.randint(floor_key, (), 0, 3)] * between(r[2], 0.9, 1.3)
    # Dyed or not whatever it is made of, so that another material leaves it the same colour.
    floor = jnp.where(r[5] < 0.35, 0.4 + 0.5 * cloth[0], floor)
    ceiling, woodwork = jnp.full(3, between(r[3], 0.95, 1.1)), jnp.full(3, between(r[4], 0.6, 1.05))
    dark = jnp.full((1, 3), 0.1)

    def rows(colour: Array, number: int) -> Array:
        return jnp.broadcast_to(colour, (number, 3))

    tint = [
        rows(wall, 1), rows(wood[0], 5), jnp.tile(_chair_tints(wood[1], cloth[4]), (3, 1)),
        rows(wood[2], 1), cloth[1:2], rows(wood[2], 1), rows(linen, 2), rows(cloth[2], 4),
        cloth[3:5], rows(wood[3], 2), 0.4 * dark, rows(wood[4], 6), jnp.ones((1, 3)),
        rows(cloth[5], 4), dark, cloth[3:4], cloth[0:1], rows(wood[2], 1),
        jnp.array([[0.5, 0.75, 0.4]]), jnp.ones((2, 3)), jnp.ones((1, 3)),
    ]  # fmt: skip
    door = jnp.where(r[3] < 0.5, woodwork, wood[4])
    return jnp.concatenate(tint), jnp.stack([floor, ceiling, woodwork, woodwork]), door


def _chair_tints(wood: Array, cloth: Array) -> Array:
    """[6, 3] of a seat, a back and four legs."""
    return jnp.stack([cloth, wood, wood, wood, wood, wood])


def _layers(key: Array) -> tuple[Array, Array]:
    """Materials of the ids [57] and of the floor."""
    wall_key, floor_key = jax.random.split(key)
    walls = jnp.array([Material.PLASTER, Material.PLASTER, Material.STRIPES, Material.DAMASK])
    floors = jnp.array([Material.PLANKS, Material.PLANKS, Material.CARPET, Material.TILES])
    layer = jnp.full(NUM_IDS, Material.GRAIN, jnp.int32)
    for soft in (slice(25, 26), slice(27, 29), SOFA, CURTAINS):
        layer = layer.at[soft].set(Material.FABRIC)
    layer = layer.at[RUG].set(Material.DAMASK).at[BOOKS].set(Material.BOOKS)
    layer = layer.at[PLANT].set(Material.FOLIAGE).at[LAMPS].set(Material.PLASTER)
    layer = layer.at[SCREEN].set(Material.PLASTER).at[POT].set(Material.PLASTER)
    layer = layer.at[WALLS].set(walls[jax.random.randint(wall_key, (), 0, 4)])
    return layer, floors[jax.random.randint(floor_key, (), 0, 4)]


def _look(texture_key: Array, colour_key: Array) -> Look:
    layer_key, facade_key, mount_key = jax.random.split(texture_key, 3)
    layer, floor = _layers(layer_key)
    tint, surround, door = _colours(colour_key)
    mount = jnp.maximum(0.12 * jax.random.uniform(mount_key) - 0.04, 0.0)
    facade = jax.random.uniform(facade_key, (NUM_PANELS,))
    return Look(layer, floor, tint, surround, door, facade, mount)


def _lighting(key: Array, room: Boxes, windows: Boxes, lamp: Array, east: Array) -> Lighting:
    """By day sun or a bright sky in the window, by night the lamp; `east` is the window's side."""
    r = jax.random.uniform(key, (8,))
    day, sunny = r[0] < 0.7, r[1] < 0.55
    azimuth, height = between(r[2], -0.9, 0.9), between(r[3], 0.25, 0.85)
    flat = jnp.cos(height)
    sun = jnp.stack([east * flat * jnp.cos(azimuth), flat * jnp.sin(azimuth), jnp.sin(height), 0.0])
    pane = 0.5 * (windows.low[0] + windows.high[0]) - jnp.array([0.08, 0.0, 0.0]) * east
    main = jnp.where(day, jnp.where(sunny, sun, jnp.append(pane, 1.0)), jnp.append(lamp, 1.0))
    warm = jnp.array([1.0, 0.82, 0.62])
    warm = 1.0 - (0.3 + 0.7 * r[4]) * (1.0 - warm)
    white, blue = jnp.array([1.0, 0.97, 0.9]), jnp.array([0.93, 0.98, 1.05])
    area = jnp.prod((windows.high - windows.low)[0, 1:])
    power = jnp.where(sunny, 2.6 * white, 1.8 * area * blue)
    size = room.high[0, 0] * room.high[0, 1]
    power = jnp.where(day, power, (1.3 + 0.4 * size) * between(r[5], 0.7, 1.2) * warm)
    ambient = jnp.where(day, between(r[6], 0.16, 0.4) * (0.5 * white + 0.5), 0.13 * warm)
    glow = jnp.where(day, 0.9 * blue, 0.0 * blue)
    return Lighting(
        main,
        power,
        glow,
        jnp.where(day, between(r[7], 1.0, 1.5), 0.06),
        jnp.where(day, 0.0, 1.0),
        ambient,
    )


def build_room(keys: SceneKeys, config: RoomConfig) -> Room:
    """A room of its parts' keys; parts whose key is the same are the same, bit for bit."""
    plan_key, table_key, bed_key, sofa_key, storage_key, panel_key, small_key, side_key = (
        jax.random.split(keys.geometry, 8)
    )
    plan = furniture.draw_plan(plan_key, config)
    r = jax.random.uniform(side_key, (4,))
    signs = jnp.where(jnp.append(r[:2], 1.0) < 0.5, -1.0, 1.0)
    panels, drawn = furniture.wall_panels(panel_key, plan)
    windows = Boxes(panels.low[WINDOWS], panels.high[WINDOWS])
    curtains = furniture.curtains_beside(windows, drawn, r[2] < 0.35)
    bed = furniture.bed_and_night_table(bed_key, plan)
    sofa = furniture.sofa_of(sofa_key, plan)
    small, plant, lamps = furniture.small_things(small_key, plan)
    boxes = furniture.stack(
        furniture.table_group(table_key, plan), Boxes(bed.low[:5], bed.high[:5]), sofa,
        furniture.storage(storage_key, plan), curtains, small, Boxes(bed.low[5:], bed.high[5:]),
    )  # fmt: skip
    half = jnp.stack([plan.a, plan.b])
    walls = Boxes(jnp.append(-half, 0.0)[None], jnp.append(half, plan.height)[None])
    panels, boxes = furniture.mirror(panels, signs), furniture.mirror(boxes, signs)
    plant = plant._replace(centre=plant.centre * signs[None])
    lamps = lamps._replace(centre=lamps.centre * signs[None])
    turn = jnp.where(r[3] < 0.5, 0.0, between(r[3], -1.2, 1.0))
    look = _look(keys.texture, keys.colour)
    windows = Boxes(panels.low[WINDOWS], panels.high[WINDOWS])
    light = _lighting(keys.light, walls, windows, lamps.centre[0], signs[0])
    return Room(walls, boxes, plant, lamps, turn, panels, look, light)
