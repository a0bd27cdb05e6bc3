"""What reconstructions keep: measures against closed forms, SciPy and scenes of known geometry."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage, stats

from posenet_jax import metrics, scenes
from posenet_jax.analysis import structure
from posenet_jax.scenes.raycast import Camera

SIZE = 64


def _noise(seed, size=SIZE):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def test_chroma_correlation_is_that_of_jpegs_channels():
    """JFIF's Cb and Cr; Pillow's are the same, cut to whole values."""
    picture, original = (np.kron(_noise(s, 4), np.ones((16, 16, 1), np.uint8)) for s in (0, 1))
    picture[:, :, 0] //= 3

    def planes(image):
        red, green, blue = np.moveaxis(image.astype(float), -1, 0)
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        chroma = [(blue - luma) / 1.772, (red - luma) / 1.402]
        pillows = np.asarray(Image.fromarray(image).convert("YCbCr"), float)[..., 1:] - 128.0
        assert np.abs(np.stack(chroma, -1) - pillows).max() < 1.0
        return [ndimage.gaussian_filter(plane, 4.0, mode="reflect").ravel() for plane in chroma]

    a, b = (np.concatenate(planes(image)) for image in (picture, original))
    expected = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert float(structure.chroma_correlation(picture, original)) == pytest.approx(
        expected, abs=1e-4
    )
    grey = np.repeat(picture[..., :1], 3, axis=-1)
    assert float(structure.chroma_correlation(grey, original)) == pytest.approx(0.0, abs=1e-3)
    assert float(structure.chroma_correlation(original, original)) == pytest.approx(1.0, abs=1e-5)


def test_gradients_are_scipys():
    image = _noise(2)
    grey = ndimage.gaussian_filter(np.asarray(metrics.luminance(image)), 1.0, mode="reflect")
    expected = [ndimage.correlate1d(grey, [-0.5, 0, 0.5], axis=axis)[1:-1, 1:-1] for axis in (1, 0)]
    for found, wanted in zip(structure.gradients(image), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-2)


def _rays(point, count=24):
    """A star of dark and bright sectors whose edges all run toward a point (x, y) in pixels."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    angle = np.arctan2(y - point[1], x - point[0])
    grey = 127 + 120 * np.sin(count * angle)
    return np.repeat(grey[..., None], 3, axis=-1).astype(np.uint8)


def test_edges_of_a_star_run_toward_its_centre():
    point = (-20.0, 30.0)
    vanishing = jnp.array([[*point, 1.0], [0.0, 1.0, 0.0]])
    found = structure.edge_measures(_rays(point, 60), _rays(point, 60), vanishing)
    assert float(found["vanishing_share"]) > 0.95
    assert float(found["vanishing_edges"]) == pytest.approx(1.0, abs=1e-5)
    # The same point far away in homogeneous pixels, and in units of its own.
    scaled = structure.edge_measures(
        _rays(point, 60), _rays(point, 60), vanishing * jnp.array([[-3.0], [5.0]])
    )
    assert float(scaled["vanishing_share"]) == pytest.approx(float(found["vanishing_share"]))


def test_stripes_are_vertical_and_noise_is_neither():
    stripes = np.repeat((127 + 120 * np.sin(np.arange(SIZE)))[None, :, None], SIZE, axis=0)
    stripes = np.repeat(stripes, 3, axis=-1).astype(np.uint8)
    vanishing = jnp.array([[32.0, 32.0, 1.0], [0.0, 1.0, 0.0]])
    energies = structure.edge_energies(stripes, vanishing)
    totals = {name: float(energy.sum()) for name, energy in energies.items()}
    # Straight above and below the main point both are the same direction.
    assert totals["vertical"] > 0.6 * sum(totals.values()) and totals["across"] == 0.0
    shares = structure.edge_measures(_noise(3), _noise(4), vanishing)
    assert float(shares["vanishing_share"]) == pytest.approx(1 / 6, abs=0.04)
    assert abs(float(shares["vanishing_edges"])) < 0.25


def test_sky_separation_is_mann_and_whitneys():
    rng = np.random.default_rng(5)
    sky = np.arange(SIZE)[:, None] < rng.integers(20, 40, SIZE)[None, :]
    picture = _noise(6)
    picture[sky] = np.minimum(picture[sky].astype(int) + 40, 255)
    grey = np.asarray(metrics.luminance(picture))
    rows = np.arange(SIZE)
    near = np.abs(rows[:, None] - rows[None, :]) <= 12
    above, below = sky & ((near @ ~sky) > 0), ~sky & ((near @ sky) > 0)
    wins = stats.mannwhitneyu(grey[above], grey[below]).statistic
    expected = wins / above.sum() / below.sum()
    assert float(structure.sky_separation(picture, sky)) == pytest.approx(expected, abs=2e-3)
    assert np.isnan(float(structure.sky_separation(picture, np.zeros_like(sky))))


def test_coherence_of_one_octave_and_of_strangers():
    image = _noise(7)
    same = structure.coherence(image, image)
    assert [float(v) for v in same.values()] == pytest.approx([1.0] * 5, abs=1e-5)
    turned = structure.coherence(255 - image, image)
    assert [float(v) for v in turned.values()] == pytest.approx([-1.0] * 5, abs=1e-4)
    # Blurring leaves every frequency's phase, whatever is left of it.
    blurred = np.stack(
        [ndimage.gaussian_filter(image[..., k], 1.0, mode="wrap") for k in range(3)], -1
    )
    assert float(structure.coherence(blurred, image)["octave_2"]) > 0.97
    assert abs(float(structure.coherence(_noise(8), image)["octave_4"])) < 0.15


def test_the_main_point_is_the_horizontal_one_nearest_the_middle():
    heading = np.radians(70.0)  # y lies 20° to the left of the view, x 70° to the right
    cosine, sine = np.cos(heading), np.sin(heading)
    forward, right = np.array([cosine, sine, 0]), np.array([sine, -cosine, 0])
    rotation = np.stack([right, [0, 0, -1.0], forward], axis=1)
    camera = Camera(jnp.asarray(rotation, jnp.float32), jnp.zeros(3), jnp.float32(np.radians(90.0)))
    points = np.asarray(scenes.vanishing_points(camera, SIZE, SIZE))[None]
    main, vertical = structure.main_vanishing(points, SIZE)[0]
    assert main[0] / main[2] == pytest.approx(32 - 32 * np.tan(np.radians(20.0)), rel=1e-4)
    assert vertical[2] == pytest.approx(0.0, abs=1e-6) and abs(vertical[0]) < 1e-4


def test_a_batch_is_its_images():
    pictures, originals = (np.stack([_noise(s + i) for i in range(2)]) for s in (10, 20))
    vanishing = np.tile(np.array([[[10, 20, 1], [0, 1, 0]]], np.float32), (2, 1, 1))
    sky = np.zeros((2, SIZE, SIZE), bool)
    sky[:, :20] = True
    both = structure.measures(pictures, originals, vanishing, sky)
    alone = structure.measures(pictures[1:], originals[1:], vanishing[1:], sky[1:])
    for name, values in both.items():
        assert values[1] == pytest.approx(alone[name][0], abs=1e-5), name


def test_flat_pictures_are_finite():
    flat = np.full((SIZE, SIZE, 3), 90, np.uint8)
    vanishing = np.array([[[10, 20, 1], [0, 1, 0]]], np.float32)
    found = structure.measures(flat[None], flat[None], vanishing, np.zeros((1, SIZE, SIZE), bool))
    assert all(np.isfinite(values).all() for name, values in found.items() if name != "sky")
