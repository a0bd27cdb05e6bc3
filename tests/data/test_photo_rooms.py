"""Rooms made of photographs: against pure rotation, a wall's homography, and rendered courts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from posenet_jax import geometry
from posenet_jax.data import photo_rooms, virtual_rotation
from posenet_jax.data.photo_rooms import Room, RoomViews
from posenet_jax.scenes import DevelopmentConfig

FIELD = 1.1
SIZE = 60


@pytest.fixture(scope="module")
def photo():
    """Smooth colours, so that between pixels they are what interpolation says."""
    noise = np.random.default_rng(0).normal(size=(120, 160, 3))
    smooth = ndimage.gaussian_filter(noise, (4, 4, 0))
    return np.clip(128 + 60 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def _camera(heading, pitch, roll):
    """[3, 3] camera to world: x ahead and y left at heading 0, by SciPy."""
    level = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    turned = Rotation.from_euler("z", heading).as_matrix() @ level
    return turned @ Rotation.from_euler("xz", [pitch, roll]).as_matrix()


def _room(low=(-9.0, -4.0, -1.6), high=(12.0, 5.0, 9.0)):
    rotation = jnp.asarray(_camera(0.2, 0.05, 0.02), jnp.float32)
    return Room(rotation, jnp.float32(FIELD), jnp.array(low), jnp.array(high))


def test_without_a_step_the_room_is_the_photograph_turned(photo):
    room, plain = _room(), jnp.asarray(photo, jnp.float32)
    turn = geometry.rotation_from_yaw_pitch_roll(jnp.array([0.1, -0.05, 0.03]))
    image, shown = photo_rooms.see(
        plain, room, room.rotation @ turn, jnp.zeros(3), jnp.float32(0.7), SIZE
    )
    turned = virtual_rotation.resample(plain, turn, room.field_of_view, jnp.float32(0.7), SIZE)
    np.testing.assert_allclose(image, turned, atol=0.1)
    assert np.asarray(shown).mean() > 0.95


def test_a_wall_moves_by_its_homography(photo):
    """Pixels on one plane move by K2 (R - t nᵀ / d) K1⁻¹ (Hartley and Zisserman, 13.2)."""
    room = _room(low=(-500.0, -500.0, -500.0), high=(10.0, 500.0, 500.0))  # a wall ahead alone
    first, second = np.asarray(room.rotation, float), _camera(-0.1, 0.02, -0.03)
    centre, view = np.array([2.0, -1.5, 0.4]), 0.8
    plain = jnp.asarray(photo, jnp.float32)
    image, shown = photo_rooms.see(
        plain, room, jnp.asarray(second, jnp.float32), jnp.asarray(centre), jnp.float32(view), SIZE
    )
    height, width = photo.shape[:2]
    k1, k2 = (
        np.array([[0.5 * w / np.tan(0.5 * f), 0, w / 2], [0, 0.5 * w / np.tan(0.5 * f), h / 2],
                  [0, 0, 1]]) for w, h, f in ((width, height, FIELD), (SIZE, SIZE, view))
    )  # fmt: skip
    between, step = second.T @ first, -second.T @ centre
    normal, distance = first.T @ np.array([1.0, 0.0, 0.0]), 10.0
    homography = k2 @ (between + np.outer(step, normal) / distance) @ np.linalg.inv(k1)
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    source = np.linalg.inv(homography) @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    column, row = source[:2] / source[2] - 0.5
    inside = (column > 1) & (column < width - 2) & (row > 1) & (row < height - 2)
    expected = ndimage.map_coordinates(photo[..., 0].astype(float), [row, column], order=1)
    found = np.asarray(image)[..., 0].ravel()
    assert inside.mean() > 0.5 and np.asarray(shown).ravel()[inside].all()
    np.testing.assert_allclose(found[inside], expected[inside], atol=0.5)
    still, _ = photo_rooms.see(
        plain, room, jnp.asarray(second, jnp.float32), jnp.zeros(3), jnp.float32(view), SIZE
    )
    assert np.abs(found - np.asarray(still)[..., 0].ravel())[inside].mean() > 10.0


def test_rays_meet_the_nearest_wall():
    room, rng = _room(), np.random.default_rng(1)
    directions = rng.normal(size=(200, 3)).astype(np.float32)
    directions[:3] = np.eye(3)  # along two walls each
    centre = np.array([1.0, -2.0, 0.3])
    points = np.asarray(photo_rooms.walls(room, jnp.asarray(centre), jnp.asarray(directions)))
    low, high = np.asarray(room.low), np.asarray(room.high)
    assert (points > low - 1e-3).all() and (points < high + 1e-3).all()
    gaps = np.minimum(np.abs(points - low), np.abs(points - high)).min(axis=1)
    assert (gaps < 1e-3).all()
    np.testing.assert_allclose(
        np.cross(points - centre, directions), 0.0, atol=1e-3 * np.abs(points).max()
    )


def test_cameras_stay_in_their_room_and_pairs_are_what_they_say(photo):
    still = DevelopmentConfig(automatic=(0.0, 0.0), noise=0.0, difference=0.0)
    config = RoomViews(size=SIZE, development=still)
    room = _room()
    sample = jax.jit(photo_rooms.sample_room_pair, static_argnames="config")
    keys = jax.random.split(jax.random.key(0), 8)
    pairs = [sample(k, photo, room.rotation, room.field_of_view, config) for k in keys]
    for key, pair in zip(keys, jax.device_get(pairs), strict=True):
        box = photo_rooms.sample_room(
            jax.random.split(key, 3)[0], room.rotation, room.field_of_view, config
        )
        box = jax.device_get(box)
        assert (pair.centre > config.way * box.low).all()
        assert (pair.centre < config.way * box.high).all()
        for view in range(2):
            _, shown = photo_rooms.see(
                jnp.asarray(photo, jnp.float32),
                box,
                pair.rotation[view],
                pair.centre[view],
                pair.field_of_view[view],
                SIZE,
            )
            assert abs(float(pair.beyond[view]) - (1.0 - np.asarray(shown).mean())) < 0.01
    assert len({float(f) for pair in pairs for f in pair.field_of_view}) == 16
    assert pairs[0].image.dtype == jnp.uint8 and pairs[0].image.shape == (2, SIZE, SIZE, 3)
    beyond = np.array([pair.beyond for pair in pairs])
    assert (beyond < 0.15).mean() > 0.8
    again = sample(keys[0], photo, room.rotation, room.field_of_view, config)
    np.testing.assert_array_equal(again.image, pairs[0].image)


def test_converging_cameras_look_at_one_point_of_the_wall():
    config = RoomViews(chance_converging=1.0, off_point=0.0)
    room = _room()
    for number in range(4):
        keys = jax.random.split(jax.random.key(number), 3)
        point = photo_rooms.sample_point(keys[2], room, config)
        on_wall = np.isclose(point, room.low, atol=1e-3) | np.isclose(point, room.high, atol=1e-3)
        assert on_wall.any()
        # Within `turn` of the photograph's half field from its centre.
        x, y, ahead = np.asarray(room.rotation.T @ point) / np.tan(0.5 * FIELD)
        assert ahead > 0 and max(abs(x), abs(y)) <= config.turn * ahead * (1 + 1e-5)
        for key in keys[:2]:
            rotation, centre, _ = photo_rooms.sample_camera(
                key, room, point, jnp.bool_(True), config
            )
            way = np.asarray(point - centre)
            np.testing.assert_allclose(rotation[:, 2], way / np.linalg.norm(way), atol=1e-4)
            assert np.linalg.norm(centre) > 0.1
