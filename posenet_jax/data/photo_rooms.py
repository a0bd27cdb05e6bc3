"""Pairs of views of one photograph taken as a room: real pixels, exact rotation and translation.

Horry, Anjyo and Arai (Tour into the Picture, 1997): a photograph's vanishing points say how its
camera stood to the scene's axes; a box along those axes around the camera, painted with what the
photograph shows, is a room to move in. The box's extent is not known and is drawn: what the two
views show is consistent with the drawn box, and that is what their pose refers to.

World axes are the scene's (z up), the photograph's camera is at the origin; metres, radians.
Unbatched; uint8 in, uint8 out (RGB, HWC).
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from posenet_jax import geometry
from posenet_jax.data.virtual_rotation import interpolated, projected
from posenet_jax.scenes import DevelopmentConfig, photometry

Array = jax.Array

_COARSE = 12  # pixels across a view, to see how much of it the photograph shows


class Room(NamedTuple):
    """A photograph's camera and the box that is painted with what it shows."""

    rotation: Array  # [3, 3] of the photograph's camera, to the box's axes
    field_of_view: Array  # [] radians, of the photograph
    low: Array  # [3] metres, negative
    high: Array  # [3] metres, positive


@dataclasses.dataclass(frozen=True)
class RoomViews:
    """Ranges of boxes and of cameras in them."""

    size: int = 100
    distance: tuple[float, float] = (3.0, 30.0)  # of walls
    eye_height: tuple[float, float] = (1.3, 2.2)
    wall_height: tuple[float, float] = (5.0, 25.0)
    # Of the way to the walls, which a camera may go toward each.
    way: float = 0.4
    turn: float = 0.6  # largest turn from the photograph's camera, of its half field of view
    # Of the pairs whose cameras look at one point from two sides; others look about.
    chance_converging: float = 0.5
    off_point: float = 0.15  # largest turn away from that point, of the photograph's half field
    roll: float = 0.09
    view_fraction: tuple[float, float] = (0.5, 1.0)  # of the photograph's field of view
    # Views of which more than this fraction lies beyond the photograph's frame are refused.
    most_beyond: float = 0.08
    candidates: int = 24  # cameras tried, of which the first two that are not refused are taken
    development: DevelopmentConfig = DevelopmentConfig(automatic=(0.0, 0.3))


@struct.dataclass
class RoomPair:
    """Two views of one room."""

    image: Array  # [2, size, size, 3] uint8
    rotation: Array  # [2, 3, 3] camera to the box's axes
    centre: Array  # [2, 3] metres
    field_of_view: Array  # [2] radians
    beyond: Array  # [2] fraction of the view that the photograph does not show


def walls(room: Room, centre: Array, direction: Array) -> Array:
    """[..., 3] where rays from a camera centre [3] along directions [..., 3] meet the box."""
    # Ranks are given: a caller may forbid JAX to promote them.
    centre, low, high = (x.reshape((1,) * (direction.ndim - 1) + (3,)) for x in (centre, *room[2:]))
    along = jnp.abs(direction) < 1e-9  # a ray along a wall never meets it
    wall = jnp.where(direction > 0.0, high, low) - centre
    reach = jnp.where(along, jnp.inf, wall / jnp.where(along, 1.0, direction))
    return centre + jnp.min(reach, axis=-1, keepdims=True) * direction


def see(
    photo: Array, room: Room, rotation: Array, centre: Array, field_of_view: Array, size: int
) -> tuple[Array, Array]:
    """([size, size, 3] float32, [size, size] bool: shown by the photograph) of one camera's view.

    photo: [H, W, 3] float32.
    """
    rays = geometry.pixel_rays(size, size, field_of_view) @ rotation.T
    points = walls(room, centre, rays) @ room.rotation
    height, width = photo.shape[:2]
    column, row, shown = projected(points, width, height, room.field_of_view)
    return interpolated(photo, column, row), shown


def sample_room(key: Array, rotation: Array, field_of_view: Array, config: RoomViews) -> Room:
    """A box around a photograph's camera; each wall at a distance of its own."""
    wall_key, floor_key = jax.random.split(key)
    near, far = jnp.log(jnp.array(config.distance))
    sides = jnp.exp(jax.random.uniform(wall_key, (2, 2), minval=near, maxval=far))
    low, high = jnp.array([config.eye_height, config.wall_height]).T
    floor, roof = jax.random.uniform(floor_key, (2,), minval=low, maxval=high)
    return Room(rotation, field_of_view, -jnp.append(sides[0], floor), jnp.append(sides[1], roof))


def sample_point(key: Array, room: Room, config: RoomViews) -> Array:
    """[3] a point of the box that the photograph shows, for cameras to look at."""
    reach = config.turn * jnp.tan(0.5 * room.field_of_view)
    across = reach * jax.random.uniform(key, (2,), minval=-1.0)
    ray = room.rotation @ jnp.append(across, 1.0)
    return walls(room, jnp.zeros(3), ray)


def sample_camera(
    key: Array, room: Room, point: Array, converging: Array, config: RoomViews
) -> tuple[Array, Array, Array]:
    """Rotation [3, 3], centre [3] and field of view [] of a camera in the room.

    It looks about, or if `converging` [] bool, at `point` [3].
    """
    way_key, turn_key, roll_key, view_key = jax.random.split(key, 4)
    way = config.way * jax.random.uniform(way_key, (3,), minval=-1.0)
    centre = jnp.where(way > 0.0, way * room.high, -way * room.low)
    # Nobody flies: the eye stays within half a metre of its height.
    centre = centre.at[2].set(jnp.clip(centre[2], -0.5, 0.5))
    low, high = config.view_fraction
    view = room.field_of_view * jax.random.uniform(view_key, (), minval=low, maxval=high)
    share = jnp.where(converging, config.off_point, config.turn)
    heading, tilt = (
        share * 0.5 * room.field_of_view * jax.random.uniform(turn_key, (2,), minval=-1.0)
    )
    roll = config.roll * jax.random.uniform(roll_key, (), minval=-1.0)
    turn = geometry.rotation_from_yaw_pitch_roll(jnp.stack([heading, 0.5 * tilt, roll]))
    aimed = geometry.look_at(centre, point, jnp.zeros(()))
    return jnp.where(converging, aimed, room.rotation) @ turn, centre, view


def _choose(
    cameras: tuple[Array, Array, Array], room: Room, aspect: float, config: RoomViews
) -> tuple[Array, Array, Array]:
    """Returns the first two of the cameras [K] that look at what the photograph shows.

    aspect: of the photograph, height by width. Where there are no two, those that see most of it.
    """
    frame = jnp.zeros((round(_COARSE * aspect), _COARSE, 3))
    _, shown = jax.vmap(lambda r, c, f: see(frame, room, r, c, f, _COARSE))(*cameras)
    beyond = 1.0 - jnp.mean(shown, axis=(1, 2))
    order = jnp.arange(beyond.shape[0]) / beyond.shape[0]
    chosen = jnp.argsort(jnp.where(beyond < config.most_beyond, order, 1.0 + beyond))[:2]
    return jax.tree.map(lambda x: x[chosen], cameras)


def sample_room_pair(
    key: Array, photo: Array, rotation: Array, field_of_view: Array, config: RoomViews
) -> RoomPair:
    """Two views in a room made of `photo` [H, W, 3] uint8.

    rotation [3, 3] and field_of_view []: of the photograph's camera (`vanishing.cameras`).
    """
    room_key, view_key, develop_key = jax.random.split(key, 3)
    plain = photo.astype(jnp.float32)
    room = sample_room(room_key, rotation, field_of_view, config)
    point_key, chance_key, *keys = jax.random.split(view_key, 2 + config.candidates)
    point = sample_point(point_key, room, config)
    converging = jax.random.bernoulli(chance_key, config.chance_converging)
    tried = jax.vmap(sample_camera, (0, None, None, None, None))(
        jnp.stack(keys), room, point, converging, config
    )
    cameras = _choose(tried, room, photo.shape[0] / photo.shape[1], config)
    images, shown = jax.vmap(lambda r, c, f: see(plain, room, r, c, f, config.size))(*cameras)
    developments = photometry.sample_developments(develop_key, config.development)
    planes = jnp.moveaxis(images / 255.0, -1, 1)
    blurred = jax.vmap(photometry.blur)(planes, developments.blur)
    image = jnp.moveaxis(jax.vmap(photometry.develop)(blurred, developments), 1, -1)
    rotations, centres, fields = cameras
    beyond = 1.0 - jnp.mean(shown, axis=(1, 2))
    return RoomPair(
        image=image, rotation=rotations, centre=centres, field_of_view=fields, beyond=beyond
    )
