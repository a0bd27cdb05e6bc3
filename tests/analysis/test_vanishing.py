"""Vanishing points against drawings of lines that run toward known ones."""

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.spatial.transform import Rotation

from posenet_jax.analysis import structure, vanishing

pytestmark = pytest.mark.optimised

SIZE = 100
FOCAL = 95.0


def _points(heading, pitch, roll):
    """[3, 3] homogeneous: of a camera that SciPy turned, x right, y down, z ahead."""
    turned = Rotation.from_euler("yxz", [heading, pitch, roll], degrees=True).as_matrix()
    # Rows: the world's axes across, ahead and down, as the camera sees them.
    across, down, ahead = turned
    return np.array([
        (FOCAL * x + SIZE / 2 * z, FOCAL * y + SIZE / 2 * z, z) for x, y, z in (across, ahead, down)
    ])  # fmt: skip


def _drawing(points, rng, lines=40):
    """Short lines, four times as large as wanted, every one toward one of the points."""
    scale = 4
    image = Image.new("RGB", (SIZE * scale, SIZE * scale), (128, 128, 128))
    draw = ImageDraw.Draw(image)
    for number in range(lines):
        place = rng.uniform(10, SIZE - 10, 2)
        point = points[number % 3]
        way = point[:2] - point[2] * place
        way = way / np.linalg.norm(way) * rng.uniform(8, 20)
        grey = int(rng.integers(0, 256))
        ends = [tuple(scale * (place - way)), tuple(scale * (place + way))]
        draw.line(ends, fill=(grey, grey, grey), width=6)
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BOX))


def _ray(points):
    x, y, w = np.moveaxis(np.asarray(points, float), -1, 0)
    ray = np.stack([x - SIZE / 2 * w, y - SIZE / 2 * w, FOCAL * w], axis=-1)
    return ray / np.linalg.norm(ray, axis=-1, keepdims=True)


def _angles(found, wanted):
    """Degrees between the directions to points, whichever way they look."""
    cosine = np.abs(np.sum(_ray(found) * _ray(wanted), axis=-1))
    return np.degrees(np.arccos(np.clip(cosine, 0, 1)))


def test_the_points_that_lines_run_toward_are_found():
    rng = np.random.default_rng(0)
    truth, drawings = [], []
    for _ in range(6):
        heading, pitch, roll = rng.uniform((-40, -14, -7), (40, 14, 7))
        truth.append(_points(heading, pitch, roll))
        drawings.append(_drawing(truth[-1], rng))
    found = vanishing.estimates(np.stack(drawings))
    main, wanted = (structure.main_vanishing(np.asarray(p), SIZE) for p in (found, truth))
    errors = _angles(main, wanted)
    # The grid's steps are 2° to 4°, its focal lengths a third apart.
    assert np.median(errors[:, 0]) < 3.0 and np.median(errors[:, 1]) < 4.0
    others = _angles(np.roll(main, 1, axis=0), wanted)
    assert np.median(others[:, 0]) > 15.0


def test_every_candidate_has_three_perpendicular_axes():
    tried = vanishing.candidates(SIZE)
    for number in (0, 777, len(tried) - 1):
        field = np.radians(vanishing._FIELDS[number * len(vanishing._FIELDS) // len(tried)])
        focal = 0.5 * SIZE / np.tan(0.5 * field)
        x, y, w = tried[number].T
        axes = np.stack([(x - SIZE / 2 * w) / focal, (y - SIZE / 2 * w) / focal, w], axis=1)
        np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-4)
        assert abs(axes[2, 1]) > 0.9  # upright


def test_an_image_of_fewer_pixels_than_edges_are_wanted():
    truth = _points(20, 5, -3)
    drawing = Image.fromarray(_drawing(truth, np.random.default_rng(1)))
    small = np.asarray(drawing.resize((40, 40), Image.Resampling.BOX))
    found = vanishing.estimates(small[None]) * [SIZE / 40, SIZE / 40, 1.0]
    main, wanted = (structure.main_vanishing(p, SIZE) for p in (found, truth[None]))
    assert _angles(main, wanted).max() < 4.0


def test_the_camera_of_points_is_the_one_that_has_them():
    rng = np.random.default_rng(3)
    turns = rng.uniform((-40, -14, -7), (40, 14, 7), (5, 3))
    points = np.stack([_points(*turn) for turn in turns])
    rotation, field = vanishing.cameras(points, SIZE)
    np.testing.assert_allclose(field, 2 * np.arctan(0.5 * SIZE / FOCAL), rtol=1e-5)
    turned = Rotation.from_euler("yxz", turns, degrees=True).as_matrix()
    np.testing.assert_allclose(rotation, turned[:, [0, 2, 1]], atol=1e-5)


def test_cameras_of_the_same_images_are_found_once(tmp_path, monkeypatch):
    asked = []

    def estimates(images, fields):
        asked.append(len(images))
        return np.stack([_points(number, 5, 2) for number in range(len(images))])

    monkeypatch.setattr(vanishing, "estimates", estimates)
    images = np.zeros((70, SIZE, SIZE, 3), np.uint8)
    path = tmp_path / "cameras.safetensors"
    first = vanishing.cameras_of(images, path)
    assert asked == [35, 35] and first[0].shape == (70, 3, 3) and first[1].shape == (70,)
    for one, other in zip(first, vanishing.cameras_of(images, path), strict=True):
        np.testing.assert_array_equal(one, other)
    assert asked == [35, 35]
    vanishing.cameras_of(images + 1, path)
    assert asked == [35, 35, 35, 35]
