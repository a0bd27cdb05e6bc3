"""How like photographs pictures are, against closed forms."""

import numpy as np
import pytest
from PIL import Image

from posenet_jax import metrics
from posenet_jax.encoders.weights import random_encoder
from posenet_jax.evaluation import image_sets


def test_gradient_energy_is_that_of_pillows_grey_values():
    images = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    ramp = np.broadcast_to(np.arange(30, dtype=np.uint8)[None, :, None] * 4, (20, 30, 3))
    images[2] = ramp
    found = np.asarray(metrics.gradient_energies(images))
    for image, energy in zip(images, found, strict=True):
        grey = np.asarray(Image.fromarray(image).convert("L"), float)
        steps = [np.mean(np.square(np.diff(grey, axis=axis))) for axis in (0, 1)]
        assert energy == pytest.approx(np.mean(steps), rel=5e-3)  # Pillow rounds
    assert found[2] == pytest.approx(8.0)  # 4² in one of two directions


def test_the_kernel_distance_is_that_of_the_moments():
    """(xy + 1)³ compares the first three moments, weighted 3, 3, 1: of N(½, 1) and N(0, 1)."""
    rng = np.random.default_rng(0)
    real, same, other = rng.normal(size=(3, 4000, 1))
    expected = 3 * 0.5**2 + 3 * (1.25 - 1.0) ** 2 + (0.5**3 + 3 * 0.5) ** 2
    assert metrics.kernel_distance(other + 0.5, real) == pytest.approx(expected, rel=0.1)
    assert abs(metrics.kernel_distance(same, real)) < 0.02
    # In units of the real ones' root mean square.
    assert metrics.kernel_distance(7 * (other + 0.5), 7 * real) == pytest.approx(
        metrics.kernel_distance(other + 0.5, real)
    )


def test_the_kernel_distance_is_without_bias():
    """Distance of twenty features alike, over many draws: about zero, on both sides."""
    rng = np.random.default_rng(0)
    found = [metrics.kernel_distance(*rng.normal(size=(2, 20, 8))) for _ in range(300)]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(300)
    assert min(found) < 0 < max(found)


def test_diversity_is_the_deviation_of_pixels():
    pictures = np.zeros((4, 5, 5, 3), np.uint8)
    assert metrics.diversity(pictures) == 0.0
    pictures[:2] = 255
    assert metrics.diversity(pictures) == pytest.approx(0.5)


def test_features_of_maps_are_their_means():
    encoder = random_encoder("compact")
    pictures = np.random.default_rng(0).integers(0, 256, (70, 100, 100, 3), dtype=np.uint8)
    tap = encoder.tap("conv4")
    found = image_sets.features(tap, pictures)
    inside = encoder.preprocessing.to_network(pictures[69])
    expected = np.asarray(tap(inside), np.float64).mean(axis=(0, 1))
    assert found.shape == (70, len(expected))
    np.testing.assert_allclose(found[69], expected, rtol=1e-3, atol=1e-4 * expected.max())
