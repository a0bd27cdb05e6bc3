"""COLMAP models written by hand, against SciPy's quaternions and files of single cameras."""

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from posenet_jax.data import colmap, photograph_cameras, photograph_pairs
from posenet_jax.errors import InputError

_CAMERAS = """# Camera list with one line of data per camera:
1 PINHOLE 180 120 200 201 90 60
7 SIMPLE_RADIAL 180 120 150 88 61 0.01
"""


def _image(number, rotation, centre, camera, name, points="1.5 2.5 -1 30 40 17"):
    """Two lines of images.txt for a camera-to-world rotation and a centre."""
    back = rotation.inv()
    x, y, z, w = back.as_quat()
    t = -back.apply(centre)
    numbers = " ".join(repr(float(value)) for value in (w, x, y, z, *t))
    return f"{number} {numbers} {camera} {name}\n{points}\n"


def _turn(seed):
    return Rotation.random(random_state=seed)


def _write(folder, images, cameras=_CAMERAS):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cameras.txt").write_text(cameras)
    (folder / "images.txt").write_text("# Image list\n" + "".join(images))


@pytest.fixture
def scene(tmp_path):
    """Three photographs in `images`, the model in `sparse/0`; one has no points in it."""
    (tmp_path / "images" / "left").mkdir(parents=True)
    names = ["left/a 1.png", "left/2.png", "b.png"]
    for name in names:
        noise = np.random.default_rng(len(name)).integers(0, 256, (60, 90, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "images" / name)
    lines = [
        _image(number, _turn(number), (number, 0.5, -2.0), camera, name, points)
        for number, (name, camera, points) in enumerate(
            zip(names, (1, 7, 1), ("", "1 2 3", "1.5 2.5 -1 3 4 5"), strict=True)
        )
    ]
    _write(tmp_path / "sparse" / "0", lines)
    return tmp_path


def test_cameras_are_those_that_were_written(scene):
    cameras = colmap.read_model(scene / "sparse" / "0")
    assert list(cameras) == ["left/a 1.png", "left/2.png", "b.png"]
    for number, camera in enumerate(cameras.values()):
        np.testing.assert_allclose(camera.rotation, _turn(number).as_matrix(), atol=1e-12)
        np.testing.assert_allclose(camera.centre, (number, 0.5, -2.0), atol=1e-12)
        assert (camera.width, camera.height) == (180, 120)
    pinhole, radial = cameras["b.png"].calibration, cameras["left/2.png"].calibration
    np.testing.assert_array_equal(pinhole, [[200, 0, 90], [0, 201, 60], [0, 0, 1]])
    np.testing.assert_array_equal(radial, [[150, 0, 88], [0, 150, 61], [0, 0, 1]])


def test_pairs_are_those_of_camera_files_that_say_the_same(scene, tmp_path_factory):
    both = tmp_path_factory.mktemp("files")
    for name, camera in colmap.read_model(scene / "sparse" / "0").items():
        path = both / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((scene / "images" / name).read_bytes())
        rows = [*camera.calibration, (0, 0, 0), *camera.rotation, camera.centre, (180, 120)]
        text = "\n".join(" ".join(repr(float(x)) for x in row) for row in rows)
        (path.parent / f"{path.name}.camera").write_text(text)
    left, also = (
        photograph_pairs.read_pairs(folder, size=12, largest_rotation=np.pi)[0]
        for folder in (scene / "images" / "left", both / "left")
    )
    assert left.names == also.names == [("left/2.png", "left/a 1.png")]
    for one, other in zip(left[:3], also[:3], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_camera_file_beside_goes_before_a_model(scene):
    path = scene / "images" / "b.png"
    camera = photograph_pairs.camera_of(path, {})
    rows = ["120 0 90", "0 120 60", "0 0 1", "0 0 0", "1 0 0", "0 1 0", "0 0 1", "9 9 9", "180 120"]
    (scene / "images" / "b.png.camera").write_text("\n".join(rows))
    assert photograph_pairs.camera_of(path, {}).centre[0] == 9.0 != camera.centre[0]


@pytest.mark.parametrize(
    ("cameras", "images", "words"),
    [
        ("1 FISHEYE 180 120 200", None, "cameras.txt, line 1: no camera of a known model"),
        ("1 PINHOLE 180 120 200 200 90", None, "line 1: PINHOLE has 4 parameters, not 3"),
        ("1 PINHOLE 180 12e9999 200 200 90 60", None, "line 1: a number is not finite"),
        ("1 PINHOLE 18_0 120 200 200 90 60", None, "line 1: could not convert"),
        (None, "1 9 9 9 9 0 0 0 1 a.png\n\n", "images.txt, line 1: QW to QZ are not a rotation"),
        (None, "1 1 0 0 0 0 0 0 5 a.png\n\n", "line 1: neither an image of a camera in cameras"),
        (None, "1 1 0 0 0 0 0 1e99 1 a.png\n\n", "line 1: numbers that are too large"),
        (None, "# nothing\n", "images.txt holds no image"),
        ("1 PINHOLE 180 120 0.5 0.5 90 60", "1 1 0 0 0 0 0 0 1 a.png\n", "the focal length is not"),
    ],
)
def test_what_is_no_model_is_named_with_its_line(tmp_path, cameras, images, words):
    _write(tmp_path, [], cameras or _CAMERAS)
    (tmp_path / "images.txt").write_text(images or "1 1 0 0 0 0 0 0 1 a.png\n\n")
    with pytest.raises(InputError, match=words):
        colmap.read_model(tmp_path)


def test_a_photograph_without_a_camera_says_where_one_was_looked_for(scene):
    path = scene / "images" / "c.png"
    with pytest.raises(InputError, match=r"no c.png.camera beside it, and no COLMAP model"):
        photograph_pairs.camera_of(path, {})
    with pytest.raises(InputError, match="cannot be opened"):
        photograph_cameras.read_camera(scene / "images" / "c.png.camera")
