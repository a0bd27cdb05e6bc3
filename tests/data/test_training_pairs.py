"""Sources of training pairs: two targets a street, exact weights, draws that follow the key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from PIL import Image

from posenet_jax import geometry, scenes
from posenet_jax.data import photo_rooms, training_pairs
from posenet_jax.errors import InputError

CONFIG = scenes.SceneConfig(height=24, width=24, rays=1)


@pytest.fixture(scope="module")
def mesh():
    return Mesh(np.asarray(jax.devices()), ("pairs",))


@pytest.fixture(scope="module")
def source(mesh):
    atlas = scenes.procedural_atlas(jax.random.key(0), num=4, size=32)
    return training_pairs.RenderedPairs(atlas, CONFIG, 4, mesh)


@pytest.fixture(scope="module")
def drawn(source):
    return source(jax.random.key(3))


def test_consecutive_pairs_share_a_street_and_not_a_target(source):
    scene = source.scenes(jax.random.key(3))
    low = np.asarray(scene.world.boxes.low)
    np.testing.assert_array_equal(low[0], low[1])
    assert not np.array_equal(low[1], low[2])
    target = np.asarray(scene.target)
    assert not np.allclose(target[0], target[1])


def test_poses_without_pictures_are_those_of_the_pictures(source, drawn):
    rotation, centre, visible = source.poses(jax.random.key(3))
    np.testing.assert_array_equal(rotation, drawn.rotation)
    np.testing.assert_array_equal(centre, drawn.centre)
    np.testing.assert_array_equal(visible, np.asarray(drawn.pose_weight) > 0)


def test_the_same_key_draws_the_same_pairs_and_another_does_not(source, drawn):
    again, other = source(jax.random.key(3)), source(jax.random.key(4))
    for a, b in zip(jax.tree.leaves(drawn), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(drawn.image, other.image)


def test_the_normal_faces_the_first_camera(drawn):
    normal = np.asarray(drawn.normal)
    np.testing.assert_allclose(np.linalg.norm(normal, axis=1), 1.0, atol=1e-5)
    assert np.all(normal[:, 2] < 0)  # the target lies ahead, its wall looks back


def test_swapped_pairs_are_the_renderers_own_seen_from_view_2(source, drawn):
    views = scenes.render_scenes(source.scenes(jax.random.key(3)), source.atlas, source.config)
    swapped = training_pairs.swapped(drawn)
    np.testing.assert_array_equal(swapped.image, np.asarray(views.image)[:, ::-1])
    np.testing.assert_allclose(swapped.normal, views.camera_normal[:, 1], atol=1e-5)
    # The relative poses are each other's inverse, as 4×4 matrices have them.
    for pair, other in zip(*(_relative(p) for p in (drawn, swapped)), strict=True):
        np.testing.assert_allclose(other, np.linalg.inv(pair), atol=1e-4)


def _relative(pairs):
    """[P, 4, 4] view 2's coordinates to view 1's, by NumPy."""
    to_world = np.tile(np.eye(4), (len(pairs.image), 2, 1, 1))
    to_world[..., :3, :3], to_world[..., :3, 3] = pairs.rotation, pairs.centre
    return np.linalg.inv(to_world[:, 0]) @ to_world[:, 1]


def test_pairs_that_look_past_their_target_count_in_the_pose_alone():
    """By where the target's pixel lies in views whose pictures are not needed for it."""
    config = scenes.SceneConfig(
        field_of_view_difference=1.0, chance_aside=0.5, aside=0.45, centre_jitter=0.05
    )
    scene = scenes.sample_scenes(jax.random.split(jax.random.key(5), 64), config=config)
    cameras = scene.cameras
    nothing = np.zeros((64, 2, 8, 8, 3), np.uint8)
    views = scenes.Views(
        nothing, *cameras, scene.target, scene.normal, jnp.zeros((64, 2, 3)), scene.visible
    )
    pairs = jax.device_get(training_pairs._from_views(views))
    seen = np.einsum("bvji,bvj->bvi", cameras.rotation, scene.target[:, None] - cameras.centre)
    half = np.tan(0.5 * np.asarray(cameras.field_of_view))
    # Distance from the middle of the picture, in halves of its width.
    off = (np.linalg.norm(seen[..., :2], axis=-1) / seen[..., 2] / half).max(axis=1)
    visible = np.asarray(scene.visible).all(axis=1)
    np.testing.assert_array_equal(pairs.pose_weight > 0, visible)
    for weight in (pairs.match_weight, pairs.normal_weight):
        assert (weight[visible & (off < 0.2)] == 1.0).all()
        assert (weight[off > 0.45] == 0.0).all()
    assert 0.3 < (off < 0.2).mean() < 0.7 and (off > 0.45).sum() > 10


def test_views_along_the_street_are_near_each_other_and_turn_by_less_than_they_see():
    """Headings to the street's axis, the world's x, by arctangents; what `chance_along` says."""
    config = scenes.SceneConfig(field_of_view_difference=1.0, chance_along=0.5)
    keys = jax.random.split(jax.random.key(5), 128)
    scene = scenes.sample_scenes(keys, config=config)
    rotation, centre = np.asarray(scene.cameras.rotation), np.asarray(scene.cameras.centre)
    field = np.degrees(np.asarray(scene.cameras.field_of_view))
    apart = np.linalg.norm(centre[:, 0] - centre[:, 1], axis=1)
    axis = rotation[..., 2]  # where the cameras look
    heading = np.degrees(np.arctan2(axis[..., 1], axis[..., 0]))
    turn = np.abs((heading[:, 0] - heading[:, 1] + 180) % 360 - 180)
    off = np.abs((heading[:, 0] + 90) % 180 - 90)
    plain = scenes.sample_scenes(keys, config=scenes.SceneConfig(field_of_view_difference=1.0))
    along = np.abs(rotation - np.asarray(plain.cameras.rotation)).max(axis=(1, 2, 3)) > 1e-3
    assert 0.35 < along.mean() < 0.65
    assert (turn[along] <= 0.45 * field[along].min(axis=1) + 0.1).all()
    assert off[along].max() <= 40.2 and off[along].max() > 30 and apart[along].max() < 4.6
    assert 0.7 < (apart[along] > 0).mean() < 1.0
    # Of another program, which may round otherwise.
    expected = np.asarray(plain.cameras.centre)
    np.testing.assert_allclose(centre[along, 0], expected[along, 0], atol=1e-3)
    # The others are those of a street where nobody looks along it.
    np.testing.assert_allclose(centre[~along], expected[~along], atol=1e-3)


def test_photographs_teach_matching_and_not_pose(mesh):
    photos = jnp.asarray(np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3)), jnp.uint8)
    made = training_pairs.PhotoPairs(photos, 4, mesh)(jax.random.key(0))
    assert made.image.shape == (4, 2, 100, 100, 3)
    assert np.all(np.asarray(made.match_weight) == 1)
    assert not np.any(made.pose_weight) and not np.any(made.normal_weight)
    posed = training_pairs.PhotoPairs(photos, 4, mesh, posed=True)(jax.random.key(0))
    assert np.all(np.asarray(posed.pose_weight) == 1)
    np.testing.assert_array_equal(posed.image, made.image)
    poses = geometry.relative_poses(made.rotation, made.centre)
    assert np.all(np.asarray(poses[:, 3:]) == 0) and np.any(np.asarray(poses[:, :3]) != 0)


def test_photographs_that_cannot_be_read_are_named(tmp_path, mesh):
    Image.new("RGB", (30, 20), (200, 10, 10)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("not a picture")
    photos, failures = training_pairs.load_photos(str(tmp_path), mesh, size=16)
    assert photos.shape == (1, 16, 16, 3) and len(failures) == 1
    assert "bad.png" in str(failures[0])
    (tmp_path / "good.png").unlink()
    with pytest.raises(InputError, match="none of the images"):
        training_pairs.load_photos(str(tmp_path), mesh)


def test_held_out_facades_are_not_those_of_training(tmp_path, mesh):
    colours = np.random.default_rng(0).integers(0, 256, (10, 3))
    for i, colour in enumerate(colours):
        Image.new("RGB", (32, 32), tuple(map(int, colour))).save(tmp_path / f"{i}.png")
    train, held_out, skipped = training_pairs.facade_atlases(str(tmp_path), jax.random.key(0), mesh)
    assert skipped == []
    same = training_pairs.facade_atlases(f"{tmp_path}/*.png", jax.random.key(0), mesh)
    for made, other in zip((train, held_out), same, strict=False):
        np.testing.assert_array_equal(made.texels, other.texels)
    materials = len(scenes.Material)
    layers = [len(atlas.texels) - materials for atlas in (train, held_out)]
    assert layers == [9, 1]
    (tmp_path / "one").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "one" / "facade.png")
    with pytest.raises(InputError, match="at least two"):
        training_pairs.facade_atlases(str(tmp_path / "one"), jax.random.key(0), mesh)
    deeper, _, _ = training_pairs.facade_atlases(str(tmp_path), jax.random.key(0), mesh)
    assert len(deeper.texels) - materials == 10


def test_facades_of_which_none_can_be_read_are_one_sentence(tmp_path, mesh):
    for name in "abc":
        (tmp_path / f"{name}.jpg").write_text("not a picture")
    with pytest.raises(InputError, match="none of the 2 facades in .*a.jpg: not an image") as error:
        training_pairs.facade_atlases(str(tmp_path), jax.random.key(0), mesh)
    assert f"in {tmp_path} " in str(error.value) and "\n" not in str(error.value)
    for name in "de":
        Image.new("RGB", (40, 40)).save(tmp_path / f"{name}.png")
    with pytest.raises(InputError, match="the limit is 1599 in all"):
        training_pairs.facade_atlases(f"{tmp_path}/*.png", jax.random.key(0), mesh, max_pixels=1599)


def test_photographs_as_rooms_teach_the_pose_where_they_show_enough(mesh):
    rng = np.random.default_rng(0)
    photos = jnp.asarray(rng.integers(0, 256, (3, 60, 60, 3), np.uint8))
    level = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]], np.float32)
    cameras = jnp.asarray(np.stack([level] * 3)), jnp.array([0.8, 1.0, 1.2])
    config = photo_rooms.RoomViews(size=24)
    pairs = training_pairs.RoomPairs(photos, cameras, 8, mesh, config)(jax.random.key(0))
    assert pairs.image.shape == (8, 2, 24, 24, 3) and len(pairs.image.sharding.device_set) == 2
    assert (np.asarray(pairs.match_weight) == 0).all()
    assert (np.asarray(pairs.normal_weight) == 0).all()
    weight = np.asarray(pairs.pose_weight)
    assert set(weight) <= {0.0, 1.0} and weight.mean() > 0.7
    assert np.linalg.norm(pairs.centre[:, 0] - pairs.centre[:, 1], axis=-1).min() > 0.01
    again = training_pairs.RoomPairs(photos, cameras, 8, mesh, config)(jax.random.key(0))
    np.testing.assert_array_equal(again.image, pairs.image)


def test_pairs_are_drawn_until_there_are_enough(source):
    """Draws of four pairs each, keyed by their number: five pairs take two."""
    key, done = jax.random.key(8), []
    found = training_pairs.drawn(source, key, 5, progress=done.append)
    assert done == [4, 4]
    for number in range(2):
        expected = source(jax.random.fold_in(key, number))
        rows = slice(4 * number, 4 * number + 4)
        for column, one in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert isinstance(column, np.ndarray)
            np.testing.assert_array_equal(column[rows], one)
