"""Photographs with cameras: files written by hand, frames against SciPy's resampling."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from scipy.spatial.transform import Rotation

from posenet_jax.data import photograph_cameras, photograph_pairs
from posenet_jax.errors import InputError

# Of photographs twice as large as the files: calibrations are not rescaled with their images.
_WIDTH, _HEIGHT, _FOCAL = 180, 120, 200.0


def _write_view(folder, name, rotation, centre, *, point=(90.0, 60.0), seed=0):
    folder.mkdir(exist_ok=True)
    noise = np.random.default_rng(seed).normal(size=(_HEIGHT // 2, _WIDTH // 2, 3))
    picture = np.clip(128 + 600 * ndimage.gaussian_filter(noise, (4, 4, 0)), 0, 255)
    Image.fromarray(picture.astype(np.uint8)).save(folder / name)
    lines = [
        f"{_FOCAL} 0 {point[0]}",
        f"0 {_FOCAL} {point[1]}",
        "0 0 1",
        "0 0 0",
        *(" ".join(str(value) for value in row) for row in rotation),
        " ".join(str(value) for value in centre),
        f"{_WIDTH} {_HEIGHT}",
    ]
    (folder / f"{name}.camera").write_text("\n".join(lines) + "\n")


@pytest.fixture
def scene(tmp_path):
    """Four views in one scene and two in another, about the vertical: 0, 20, 50, 100; 0, 10."""
    for name, angles in (("one", (0, 20, 50, 100)), ("two", (0, 10))):
        for i, angle in enumerate(angles):
            rotation = Rotation.from_euler("y", angle, degrees=True).as_matrix()
            _write_view(tmp_path / name, f"{i}.png", rotation, (i, 0.5, -i), seed=i)
    return tmp_path


def test_pairs_are_all_those_of_a_scene_that_turn_less_than_the_limit(scene):
    pairs, failures = photograph_pairs.read_pairs(scene, size=20)
    assert not failures
    expected = [("one", 0, 1), ("one", 0, 2), ("one", 1, 2), ("one", 2, 3), ("two", 0, 1)]
    assert pairs.names == [(f"{s}/{a}.png", f"{s}/{b}.png") for s, a, b in expected]
    turns = Rotation.from_matrix(
        np.einsum("pji,pjk->pik", pairs.rotation[:, 0], pairs.rotation[:, 1])
    )
    angles = np.degrees(turns.magnitude())
    np.testing.assert_allclose(angles, [20, 50, 30, 50, 10], atol=1e-3)
    np.testing.assert_allclose(pairs.centre[1, 1], [2, 0.5, -2])
    assert pairs.image.shape == (5, 2, 20, 20, 3) and pairs.image.dtype == np.uint8


def test_the_frame_has_its_field_of_view_about_the_principal_point(tmp_path):
    _write_view(tmp_path, "a.png", np.eye(3), (0, 0, 0), point=(84.0, 66.0))
    camera = photograph_cameras.read_camera(tmp_path / "a.png.camera")
    image = np.asarray(Image.open(tmp_path / "a.png"))
    size, view = 30, np.radians(20.0)
    frame = photograph_cameras.square_frame(image, camera, view, size)
    # The file has half the calibration's size; pixel i covers [i, i + 1].
    focal = size / (2 * np.tan(view / 2))
    offset = (np.arange(size) + 0.5 - size / 2) / focal
    column, row = (0.5 * (_FOCAL * offset + p) - 0.5 for p in (84.0, 66.0))
    grid = np.meshgrid(row, column, indexing="ij")
    for channel in range(3):
        expected = ndimage.map_coordinates(image[..., channel].astype(float), grid, order=3)
        np.testing.assert_allclose(frame[..., channel], expected, atol=4.0)


def test_beyond_the_photograph_its_edge_is_repeated(tmp_path):
    _write_view(tmp_path, "a.png", np.eye(3), (0, 0, 0))
    camera = photograph_cameras.read_camera(tmp_path / "a.png.camera")
    flat = np.full((60, 90, 3), 77, np.uint8)
    np.testing.assert_array_equal(
        photograph_cameras.square_frame(flat, camera, np.radians(80), 40), 77
    )
    flat[0] = 200
    frame = photograph_cameras.square_frame(flat, camera, np.radians(80), 40)
    assert (frame[:5] == 200).all() and (frame[20:] == 77).all()


def test_a_damaged_photograph_is_left_out_and_named(scene):
    (scene / "one" / "1.png").write_bytes(b"not a picture")
    pairs, failures = photograph_pairs.read_pairs(scene, size=10)
    assert len(pairs.names) == 3 and "1.png" in str(failures[0])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 2 3", "holds 3 numbers"),
        ("one two", "not a camera file"),
        ("1 " * 26, "not a rotation"),
        (None, "no 0.png.camera beside it, and no COLMAP model"),
    ],
)
def test_a_bad_camera_file_is_named(scene, text, words):
    path = scene / "one" / "0.png.camera"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(InputError, match=words) as error:
        photograph_pairs.read_pairs(scene)
    assert "0.png.camera" in str(error.value)


def test_a_folder_without_pairs_is_refused(tmp_path):
    _write_view(tmp_path / "one", "0.png", np.eye(3), (0, 0, 0))
    with pytest.raises(InputError, match="no two photographs"):
        photograph_pairs.read_pairs(tmp_path)
