"""Reading 3D_Street_View. Every file is written here, from positions in metres by way of ECEF."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation
from street_view_files import ALIGNMENT, CITIES, metadata, offset_by_ecef, write_view

from posenet_jax import geometry
from posenet_jax.data import street_view
from posenet_jax.data.geodesy import Location, east_north_up
from posenet_jax.data.splits import split_of
from posenet_jax.data.street_view import StreetViewImage, read_folder, read_metadata, scan_folder
from posenet_jax.errors import InputError

# Cameras about a target, metres east, north and up of it, as a car would take them.
PLACES = [(3.0, -14.0, -2.0), (-40.0, -25.0, -6.0), (70.0, 60.0, 5.0), (0.5, 90.0, -20.0)]


# ---- what a file says


def test_every_field_is_where_the_readme_says(tmp_path):
    path = tmp_path / "0006_17_29_0087241.txt"
    path.write_text(
        "d 6 87241 17 29 40.5 -73.25 12.5 0.6 -0.8 0 40.25 -73.5 2.5 33.75 270 10 0\n"
        f"a {' '.join(map(str, range(1, 41)))}\n"
    )
    image = read_metadata(path)
    assert image.path == tmp_path / "0006_17_29_0087241.jpg"
    assert (image.dataset, image.target, image.patch, image.street_view) == (6, 87241, 17, 29)
    assert image.target_name == "6/87241"
    np.testing.assert_allclose(np.degrees(image.target_location[:2]), (40.5, -73.25))
    np.testing.assert_allclose(np.degrees(image.camera_location[:2]), (40.25, -73.5))
    assert (image.target_location.height, image.camera_location.height) == (12.5, 2.5)
    np.testing.assert_allclose(image.normal, (0.6, -0.8, 0.0))
    assert image.distance == 33.75
    np.testing.assert_allclose(np.degrees([image.heading, image.pitch, image.roll]), (270, 10, 0))
    alignment = image.alignment
    np.testing.assert_array_equal(alignment.patch_centre, [1, 2])
    np.testing.assert_array_equal(alignment.warp, np.arange(3, 12).reshape(3, 3))
    np.testing.assert_array_equal(alignment.box, np.arange(12, 20).reshape(4, 2))
    np.testing.assert_array_equal(alignment.registration, np.arange(20, 29).reshape(3, 3))
    scores = (alignment.flow_energy, alignment.inlier_ratio, alignment.similarity)
    assert (*scores, alignment.distortion) == (29, 30, 31, 32)
    np.testing.assert_array_equal(alignment.corrected_box, np.arange(33, 41).reshape(4, 2))
    assert not alignment.rest.size


def test_a_file_may_have_no_alignment_or_more_than_is_documented(tmp_path):
    assert read_metadata(write_view(tmp_path, view=1)).alignment is None
    longer = read_metadata(write_view(tmp_path, view=2, alignment=[*ALIGNMENT, 7.0, 8.0]))
    np.testing.assert_array_equal(longer.alignment.rest, [7.0, 8.0])


def test_the_image_or_its_text_may_be_named(tmp_path):
    path = write_view(tmp_path)
    assert read_metadata(path).path == read_metadata(path.with_suffix(".txt")).path == path
    assert read_metadata(str(path)).path == path


def test_line_ends_of_windows_and_empty_lines_are_no_matter(tmp_path):
    path = write_view(tmp_path, alignment=ALIGNMENT)
    text = path.with_suffix(".txt")
    text.write_bytes(b"\r\n" + text.read_bytes().replace(b"\n", b" \r\n") + b"\r\n\r\n")
    assert read_metadata(path).alignment is not None


def test_the_normal_is_made_exactly_one_long(tmp_path):
    image = read_metadata(write_view(tmp_path, normal=(0.6, -0.805, 0.0)))
    assert abs(np.linalg.norm(image.normal) - 1.0) < 1e-15


# ---- geometry


@pytest.mark.parametrize(
    ("heading", "pitch", "right", "down", "forward"),
    [
        (0, 0, (1, 0, 0), (0, 0, -1), (0, 1, 0)),
        (90, 0, (0, -1, 0), (0, 0, -1), (1, 0, 0)),
        (180, 0, (-1, 0, 0), (0, 0, -1), (0, -1, 0)),
        (270, 0, (0, 1, 0), (0, 0, -1), (-1, 0, 0)),
        (0, 90, (1, 0, 0), (0, 1, 0), (0, 0, 1)),
        (0, -90, (1, 0, 0), (0, -1, 0), (0, 0, -1)),
    ],
)
def test_headings_and_pitches_made_by_hand(heading, pitch, right, down, forward):
    rotation = street_view.camera_rotation(*np.radians([heading, pitch, 0.0]))
    np.testing.assert_allclose(rotation, np.stack([right, down, forward], axis=1), atol=1e-15)


@pytest.mark.parametrize(
    ("place", "heading", "forward"),
    [
        ((0.0, -20.0, 0.0), 0, (0, 1, 0)),  # south of the target, looking north
        ((-20.0, 0.0, 0.0), 90, (1, 0, 0)),
        ((0.0, 20.0, 0.0), 180, (0, -1, 0)),
        ((20.0, 0.0, 0.0), 270, (-1, 0, 0)),
    ],
)
def test_cameras_on_the_four_sides_of_a_target(tmp_path, place, heading, forward):
    image = read_metadata(write_view(tmp_path, place=place))
    assert abs(np.degrees(image.heading) % 360 - heading) % 360 < 0.01
    np.testing.assert_allclose(image.centre, place, atol=1e-3)
    np.testing.assert_allclose(image.rotation[:, 2], forward, atol=1e-4)
    np.testing.assert_array_equal(image.target_point, 0.0)


@pytest.mark.parametrize("city", CITIES)
@pytest.mark.parametrize("place", PLACES)
def test_the_camera_looks_from_its_centre_at_the_target(tmp_path, city, place):
    image = read_metadata(write_view(tmp_path, city=CITIES[city], place=place))
    np.testing.assert_allclose(image.centre, place, atol=5e-3)
    direction = image.target_point - image.centre
    # The file's distance and angles come from the place in metres, not from the coordinates.
    assert abs(np.linalg.norm(direction) - image.distance) < 5e-3
    direction /= np.linalg.norm(direction)
    np.testing.assert_allclose(image.rotation[:, 2], direction, atol=2e-4)


@pytest.mark.parametrize("angles", [(0.3, 0.2, 0.0), (4.0, -0.7, 0.0), (-2.5, 1.2, 0.4)])
def test_rotations_are_those_of_geometry_and_of_scipy(angles):
    heading, pitch, roll = angles
    ours = street_view.camera_rotation(heading, pitch, roll)
    theirs = geometry.camera_rotation(*map(jnp.float32, (np.pi / 2 - heading, pitch, roll)))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    # Turn about up, then tilt about the camera's right, then roll about its forward axis.
    north = Rotation.from_matrix([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    turned = Rotation.from_rotvec([0, 0, -heading]) * north
    expected = turned * Rotation.from_rotvec([pitch, 0, 0]) * Rotation.from_rotvec([0, 0, roll])
    np.testing.assert_allclose(ours, expected.as_matrix(), atol=1e-14)


@pytest.mark.parametrize("city", CITIES)
def test_metres_agree_with_earth_centred_coordinates(city):
    latitude, longitude, height = CITIES[city]
    origin = Location(np.radians(latitude), np.radians(longitude), height)
    generator = np.random.default_rng(0)
    # About 100 m: a thousandth of a degree of latitude is 111 m.
    steps = generator.uniform(-1e-3, 1e-3, (50, 2)) * [1.0, 1.0 / np.cos(origin.latitude)]
    for (north, east), up in zip(np.radians(steps), generator.uniform(-40, 40, 50), strict=True):
        place = Location(origin.latitude + north, origin.longitude + east, height + up)
        expected = offset_by_ecef(place, origin)
        # Beside the curvature in both directions, the radius of a higher place is larger.
        np.testing.assert_allclose(east_north_up(place, origin), expected, atol=6e-3)


def test_the_180th_meridian_is_crossed_the_short_way():
    west, east = (Location(-0.3, np.radians(angle), 0.0) for angle in (179.9999, -179.9999))
    np.testing.assert_allclose(east_north_up(east, west), offset_by_ecef(east, west), atol=1e-3)
    assert 15 < east_north_up(east, west)[0] < 25


# ---- malformed files

GOOD = metadata().split()


def _with(position: int, word: str) -> str:
    return " ".join([*GOOD[:position], word, *GOOD[position + 1 :]])


MALFORMED = {
    "empty": ("", 1, "empty"),
    "only blank": ("\n \n", 1, "empty"),
    "no d line": ("a " + " ".join(map(str, ALIGNMENT)), 1, "expected d"),
    "another letter": (_with(0, "x"), 1, "begins with 'x'"),
    "no letter": (" ".join(GOOD[1:]), 1, "expected d"),
    "too few": (" ".join(GOOD[:-1]), 1, "16 numbers after d; expected 17"),
    "too many": (" ".join([*GOOD, "0"]), 1, "18 numbers after d; expected 17"),
    "not a number": (_with(5, "north"), 1, "target latitude is 'north', not a number"),
    "comma": (_with(14, "12,5"), 1, "distance is '12,5', not a number"),
    "underscore": (_with(14, "1_5"), 1, "distance is '1_5', not a number"),
    "not UTF-8": (_with(7, "\udcff"), 1, "target height is"),
    "id not whole": (_with(3, "3.5"), 1, "PatchID is '3.5', not a whole number"),
    "id too long": (_with(4, "9" * 5000), 1, "StreetViewID is"),
    "nan": (_with(13, "nan"), 1, "camera height is nan, not finite"),
    "infinite": (_with(15, "-inf"), 1, "heading is -inf, not finite"),
    "overflow": (_with(14, "1e999"), 1, "distance is 1e999, not finite"),
    "target latitude": (_with(5, "90.5"), 1, "target latitude is 90.5, out of range"),
    "camera latitude": (_with(11, "-91"), 1, "camera latitude is -91, out of range"),
    "longitude": (_with(6, "200"), 1, "target longitude is 200, out of range"),
    "pitch": (_with(16, "100"), 1, "pitch is 100, out of range"),
    "distance": (_with(14, "-3"), 1, "distance is -3, which is negative"),
    "height": (_with(7, "2e5"), 1, "target height is 200000, out of range"),
    "heading": (_with(15, "-1000"), 1, "heading is -1000, out of range"),
    "far": (_with(14, "1e300"), 1, "distance is 1e300, larger than any such number"),
    "huge": (metadata() + "\na 1e300" + 39 * " 0", 2, "number 1 of the line is 1e300, larger"),
    "other dataset": (_with(1, "7"), 1, "dataset 7 and target 20"),
    "other target": (_with(2, "21"), 1, "target 21, where the file's name says 6 and 20"),
    "long normal": (_with(8, "1.02").replace(" -1.0 ", " 0.0 "), 1, "length is 1.02"),
    "no normal": (_with(9, "0"), 1, "the normal's length is 0; expected 1"),
    "second letter": (metadata() + "\nb 1 2 3", 2, "begins with 'b'; expected a"),
    "two cameras": (metadata() + "\n" + metadata(), 2, "begins with 'd'; expected a"),
    "short alignment": (metadata() + "\n\na 1 2 3", 3, "3 numbers after a; expected 40"),
    "bad alignment": (metadata() + "\na 1 x" + 38 * " 0", 2, "number 2 of the line is 'x'"),
    "third line": (metadata(alignment=ALIGNMENT) + "\nd", 3, "a third line"),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_file_is_refused_by_file_line_and_fault(tmp_path, kind):
    text, line, fault = MALFORMED[kind]
    path = tmp_path / "0006_1_1_0020.txt"
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(InputError) as refused:
        read_metadata(path)
    message = str(refused.value)
    assert message.startswith(f"{path}, line {line}: ")
    assert fault in message and "\n" not in message and len(message) < len(str(path)) + 200


@pytest.mark.parametrize("stem", ["photo", "0006_1_0020", "6_1_1_x", "a_1_1_20", "6_1_1_1_20"])
def test_a_file_named_otherwise_is_refused(tmp_path, stem):
    (tmp_path / f"{stem}.txt").write_text(metadata())
    with pytest.raises(InputError, match="not named DatasetID_ImageID_ViewID_TargetID"):
        read_metadata(tmp_path / f"{stem}.txt")


def test_an_absent_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"6_1_1_20\.txt: cannot be opened"):
        read_metadata(tmp_path / "6_1_1_20.jpg")


# ---- folders


@pytest.fixture
def dataset(tmp_path):
    """Three datasets, one nested twice as the archives are, and four kinds of failure."""
    for view in (2, 1):
        write_view(tmp_path / "0007" / "0007", dataset=7, view=view)
        write_view(tmp_path / "0006", dataset=6, view=view)
    write_view(tmp_path, dataset=8)
    write_view(tmp_path / "0006", dataset=6, view=3).with_suffix(".txt").unlink()
    write_view(tmp_path / "0006", dataset=6, view=4).unlink()
    write_view(tmp_path / "0006", dataset=6, view=5).with_suffix(".txt").write_text("d 1 2 3")
    Image.new("RGB", (4, 4)).save(tmp_path / "cover.jpg")
    (tmp_path / "cover.txt").write_text("what is on the cover")
    (tmp_path / "README.txt").write_text("about the data")
    (tmp_path / "pairs.csv").write_text("1,2")
    write_view(tmp_path / ".cache", dataset=6, view=9)
    return tmp_path


def test_a_folder_is_read_to_its_depth_and_its_failures_are_named(dataset):
    found = read_folder(dataset)
    assert [image.path.relative_to(dataset).as_posix() for image in found.images] == [
        "0006/0006_1_1_0020.jpg",
        "0006/0006_1_2_0020.jpg",
        "0007/0007/0007_1_1_0020.jpg",
        "0007/0007/0007_1_2_0020.jpg",
        "0008_1_1_0020.jpg",
    ]
    messages = sorted(str(failure).removeprefix(f"{dataset}/") for failure in found.failures)
    assert len(messages) == 4
    assert messages[0].startswith("0006/0006_1_3_0020.jpg: no 0006_1_3_0020.txt beside")
    assert messages[1].startswith("0006/0006_1_4_0020.txt: no image of this name beside")
    assert messages[2].startswith("0006/0006_1_5_0020.txt, line 1: 3 numbers after d")
    assert messages[3].startswith("cover.txt: not named")


def test_scanning_yields_before_everything_is_read(dataset):
    outcomes = scan_folder(dataset)
    seen = [next(outcomes)]
    (dataset / "0007" / "0007" / "0007_1_1_0020.txt").write_text("d")
    seen += outcomes
    kinds = [isinstance(outcome, StreetViewImage) for outcome in seen]
    assert kinds.count(True) == 4 and kinds.count(False) == 5


def test_a_folder_without_anything_to_read_is_refused(tmp_path):
    with pytest.raises(InputError, match="no image of 3D_Street_View to be read$"):
        read_folder(tmp_path)
    (tmp_path / "6_1_1_20.txt").write_text(metadata())
    with pytest.raises(InputError, match="the first of 1 failures: .*no image of this name"):
        read_folder(tmp_path)
    with pytest.raises(InputError, match=r"nowhere: no image.*cannot be listed"):
        read_folder(tmp_path / "nowhere")


def test_all_views_of_a_target_fall_in_one_split(tmp_path):
    for target in range(30):
        for view in range(3):
            write_view(tmp_path, target=target, view=view, picture=False)
    records = [read_metadata(path) for path in sorted(tmp_path.glob("*.txt"))]
    splits = {}
    for image in records:
        splits.setdefault((image.dataset, image.target), set()).add(split_of(image.target_name))
    assert len(records) == 90 and len(splits) == 30
    assert all(len(found) == 1 for found in splits.values())
    assert len(set.union(*splits.values())) > 1
