"""Pairs of 3D_Street_View images, and what training takes from them."""

import itertools
from collections import Counter

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from street_view_files import CITIES, moved, offset_by_ecef, write_view

from posenet_jax.data.street_view import camera_rotation, read_folder, read_metadata
from posenet_jax.data.street_view_pairs import (
    load_pair,
    negative_pairs,
    positive_pairs,
    read_matching_list,
    read_pose_list,
    relative_cameras,
    rotation_angle,
)
from posenet_jax.errors import ImageError, InputError
from posenet_jax.images.image_files import read_image
from posenet_jax.images.preprocessing import Preprocessing

SPACE = Preprocessing(means=(100.0, 110.0, 120.0), size=20)
SOUTH, SOUTH_WEST, WEST = (0.0, -20.0, -2.0), (-15.0, -15.0, -2.0), (-20.0, 0.0, -2.0)


def _read(folder, **fields):
    return read_metadata(write_view(folder, **fields))


def _keys(pairs):
    return [tuple((i.dataset, i.target, i.street_view) for i in pair) for pair in pairs]


@pytest.fixture
def images(tmp_path):
    """Three targets of dataset 6, of one, two and three views, and one of dataset 7."""
    sizes = {(6, 20): 3, (6, 21): 2, (6, 22): 1, (7, 20): 2}
    for (dataset, target), views in sizes.items():
        for view in range(views):
            write_view(tmp_path, dataset=dataset, target=target, view=view, picture=True)
    return read_folder(tmp_path).images


# ---- relative pose


def test_both_cameras_stand_in_the_frame_of_the_firsts_target(tmp_path):
    first = _read(tmp_path, view=1, place=SOUTH)
    # The second writes the same target a metre off, and its camera about that.
    shift = np.array([0.7, -0.4, 0.5])
    city = moved(CITIES["New York"], shift)
    second = _read(tmp_path, view=2, place=WEST, city=tuple(city))
    rotation, centre = relative_cameras(first, second)
    assert rotation.dtype == centre.dtype == np.float64
    np.testing.assert_allclose(centre, [SOUTH, WEST + shift], atol=1e-3)
    expected = offset_by_ecef(second.camera_location, first.target_location)
    np.testing.assert_allclose(centre[1], expected, atol=1e-3)
    np.testing.assert_array_equal(rotation[0], first.rotation)
    np.testing.assert_allclose(rotation[1][:, 2], -np.array(WEST) / np.linalg.norm(WEST), atol=1e-4)


def test_a_quarter_turn_seen_from_the_first_camera(tmp_path):
    first = _read(tmp_path, view=1, place=(0.0, -20.0, 0.0))
    second = _read(tmp_path, view=2, place=(-20.0, 0.0, 0.0))
    rotation, centre = relative_cameras(first, second)
    # It stands to the left and ahead, and looks to the right.
    np.testing.assert_allclose(
        rotation[0].T @ (centre[1] - centre[0]), [-20.0, 0.0, 20.0], atol=1e-3
    )
    between = rotation[0].T @ rotation[1]
    np.testing.assert_allclose(between[:, 2], [1.0, 0.0, 0.0], atol=1e-5)


@pytest.mark.parametrize("turn", [0.0, 1e-9, 1e-3, 1.0, 3.0, np.pi])
def test_angles_between_rotations_are_scipys(turn):
    generator = np.random.default_rng(1)
    first = camera_rotation(1.0, 0.2, 0.0)
    axis = generator.normal(size=3)
    second = first @ Rotation.from_rotvec(turn * axis / np.linalg.norm(axis)).as_matrix()
    expected = (Rotation.from_matrix(first).inv() * Rotation.from_matrix(second)).magnitude()
    assert abs(rotation_angle(first, second) - turn) < 1e-7 + 1e-6 * (turn > 3)
    assert abs(rotation_angle(first, second) - expected) < 1e-7
    if turn < 1e-2:
        assert abs(rotation_angle(first, second) - turn) < 1e-15


# ---- matching pairs


def test_positive_pairs_are_all_of_a_target_and_only_those(images):
    pairs = list(positive_pairs(images))
    assert set(_keys(pairs)) == {
        ((6, 20, 0), (6, 20, 1)),
        ((6, 20, 0), (6, 20, 2)),
        ((6, 20, 1), (6, 20, 2)),
        ((6, 21, 0), (6, 21, 1)),
        ((7, 20, 0), (7, 20, 1)),
    }
    assert len(pairs) == 5
    assert all(pair.first.target_name == pair.second.target_name for pair in pairs)


def test_two_images_from_one_place_are_no_pair(tmp_path):
    views = [_read(tmp_path, view=view, street_view=view // 2) for view in range(4)]
    pairs = _keys(positive_pairs(views))
    assert len(pairs) == 4
    assert all(first != second for first, second in pairs)


def test_a_cap_on_the_rotation_is_the_geodesic_one(tmp_path):
    places = [SOUTH, SOUTH_WEST, WEST, (10.0, -30.0, 8.0), (0.0, -3.0, -10.0)]
    views = [_read(tmp_path, view=n, place=place) for n, place in enumerate(places)]
    rotations = Rotation.from_matrix([view.rotation for view in views])
    angles = {
        (i, j): (rotations[i].inv() * rotations[j]).magnitude()
        for i, j in itertools.combinations(range(len(views)), 2)
    }
    for cap in (*(a - 1e-9 for a in angles.values()), *(a + 1e-9 for a in angles.values())):
        expected = {pair for pair, angle in angles.items() if angle < cap}
        found = positive_pairs(views, largest_rotation=cap)
        assert {(p.first.street_view, p.second.street_view) for p in found} == expected


# ---- other pairs


@pytest.mark.parametrize("same_dataset", [False, True])
def test_negative_pairs_are_any_two_of_different_targets(images, same_dataset):
    pairs = _keys(negative_pairs(images, 0, 2000, same_dataset=same_dataset))
    assert len(pairs) == 2000
    every = {(i.dataset, i.target, i.street_view) for i in images}
    expected = {
        (a, b)
        for a, b in itertools.product(every, every)
        if a[:2] != b[:2] and (not same_dataset or a[0] == b[0])
    }
    assert set(pairs) == expected


def test_partners_are_drawn_uniformly(images):
    pairs = _keys(negative_pairs(images, 3, 16_000))
    first = Counter(pair[0] for pair in pairs)
    assert max(abs(count - 2000) for count in first.values()) < 4 * np.sqrt(2000)
    # Each of the three views of one target has the same five partners.
    second = Counter(pair[1] for pair in pairs if pair[0][:2] == (6, 20))
    assert len(second) == 5
    assert max(abs(count - 1200) for count in second.values()) < 4 * np.sqrt(1200)


def test_a_seed_decides_the_negative_pairs_and_the_order_of_images_does_not(images):
    one, again = (_keys(negative_pairs(images, 5, 50)) for _ in range(2))
    assert one == again == _keys(negative_pairs(images[::-1], 5, 50))
    assert one != _keys(negative_pairs(images, 6, 50))
    assert negative_pairs(images, 5, 0) == []


def test_one_target_alone_has_no_negative_pair(images):
    alone = [image for image in images if image.dataset == 7]
    for few, same_dataset in ((alone, False), (alone, True), ([], False)):
        with pytest.raises(InputError, match="no two of different targets"):
            negative_pairs(few, 0, 10, same_dataset=same_dataset)
    one_each = [image for image in images if image.target == 20]
    assert negative_pairs(one_each, 0, 10)
    with pytest.raises(InputError, match="5 images hold .* different targets within a dataset"):
        negative_pairs(one_each, 0, 10, same_dataset=True)


# ---- arrays


def _bordered(colour):
    """640x640 grey with a border of one colour, which a crop would lose."""
    picture = np.full((640, 640, 3), 128, np.uint8)
    picture[:64], picture[-64:], picture[:, :64], picture[:, -64:] = (colour,) * 4
    return picture


def test_a_pair_loads_whole_images_and_its_cameras(tmp_path):
    red, blue = (250, 10, 10), (10, 10, 250)
    first = _read(tmp_path, view=1, place=SOUTH, picture=_bordered(red))
    second = _read(tmp_path, view=2, place=SOUTH_WEST, picture=_bordered(blue))
    loaded = load_pair((first, second), SPACE)
    assert loaded.image.shape == (2, 20, 20, 3) and loaded.image.dtype == np.uint8
    np.testing.assert_array_equal(loaded.image[0], SPACE.resize(read_image(first.path)))
    for image, colour in zip(loaded.image, (red, blue), strict=True):
        border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        assert np.abs(border.astype(int) - colour).max() < 25
    rotation, centre = relative_cameras(first, second)
    assert loaded.rotation.dtype == loaded.centre.dtype == loaded.normal.dtype == np.float32
    np.testing.assert_allclose(loaded.rotation, rotation, atol=1e-6)
    np.testing.assert_allclose(loaded.centre, centre, atol=1e-5)


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_the_normal_faces_the_first_camera_in_its_frame(tmp_path, side):
    # A facade along the street, seen head on; then one seen from the left at 45 degrees.
    facing_south = tuple(side * np.array([0.0, -1.0, 0.0]))
    level, oblique = (0.0, -20.0, 0.0), (-20.0, -20.0, 0.0)
    half = np.sqrt(0.5)
    for view, place, expected in ((1, level, (0, 0, -1)), (2, oblique, (half, 0, -half))):
        first = _read(tmp_path, view=view, place=place, normal=facing_south)
        normal = load_pair((first, first), SPACE).normal
        np.testing.assert_allclose(normal, expected, atol=1e-4)


def test_an_image_that_cannot_be_read_is_named(tmp_path, images):
    broken = _read(tmp_path, target=90, view=1)
    broken.path.write_bytes(broken.path.read_bytes()[:100])
    with pytest.raises(ImageError, match=r"_0090\.jpg: "):
        load_pair((images[0], broken), SPACE)


# ---- lists of test pairs


def test_a_matching_list_keeps_its_good_lines(tmp_path):
    path = tmp_path / "matching.txt"
    path.write_text(
        "a.jpg b.jpg 1\n\na.jpg c.jpg 0\na.jpg b.jpg\na b 2\n  d.jpg\te.jpg 0\nx 1 1 1\n"
    )
    found = read_matching_list(path)
    assert found.names == [("a.jpg", "b.jpg"), ("a.jpg", "c.jpg"), ("d.jpg", "e.jpg")]
    assert found.matching.dtype == bool
    np.testing.assert_array_equal(found.matching, [True, False, False])
    assert [str(failure) for failure in found.failures] == [
        f"{path}, line 4: expected two image names and a label; found 2 words",
        f"{path}, line 5: the label is '2'; expected 0 or 1",
        f"{path}, line 7: expected two image names and a label; found 4 words",
    ]


def test_a_pose_list_holds_matching_pairs(tmp_path):
    path = tmp_path / "pose.txt"
    path.write_text("a.jpg b.jpg\nc.jpg\nc.jpg d.jpg\n")
    found = read_pose_list(path)
    assert found.names == [("a.jpg", "b.jpg"), ("c.jpg", "d.jpg")]
    np.testing.assert_array_equal(found.matching, [True, True])
    assert [str(f) for f in found.failures] == [
        f"{path}, line 2: expected two image names; found 1 words"
    ]


@pytest.mark.parametrize("read", [read_matching_list, read_pose_list])
def test_a_list_without_any_pair_is_refused(tmp_path, read):
    with pytest.raises(InputError, match="cannot be opened"):
        read(tmp_path / "absent.txt")
    path = tmp_path / "list.txt"
    path.write_text("\n")
    with pytest.raises(InputError, match=r"list\.txt: no line of . words, two image names[^;]*$"):
        read(path)
    path.write_text("\none\n")
    with pytest.raises(InputError, match=r"; first failure: .*line 2: expected two image names"):
        read(path)
