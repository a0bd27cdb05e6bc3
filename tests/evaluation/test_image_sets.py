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


def test_sets_are_compared_in_every_network_beside_halves_of_the_originals(monkeypatch):
    """No picture meets its own original: with originals for pictures the control comes out."""
    rng = np.random.default_rng(0)
    originals, pictures = rng.integers(0, 256, (2, 10, 100, 100, 3), dtype=np.uint8)

    def looked_at(tap, images):
        return images[:, :tap, 0, 0].astype(np.float32)

    monkeypatch.setattr(image_sets, "features", looked_at)
    taps = {"": 3, "net_conv1": 4}
    found = image_sets.set_measures(pictures, originals, taps)
    halves = image_sets.half_measures(originals, taps)
    for name, size in (("", 3), ("_net_conv1", 4)):
        made, real = (looked_at(size, x).astype(float) for x in (pictures, originals))
        scale = np.sqrt(np.mean(np.square(real)))
        assert found[f"kernel_distance{name}"] == metrics.kernel_distance(made, real)
        both = [
            metrics.frechet_distance(made[i::2] / scale, real[1 - i :: 2] / scale) for i in (0, 1)
        ]
        assert found[f"frechet_distance{name}"] == pytest.approx(np.mean(both))
        control = metrics.kernel_distance(real[::2], real[1::2])
        assert halves[f"kernel_distance{name}_of_halves"] == pytest.approx(control)
    assert found["grid_index"] == metrics.grid_index(pictures, originals)
    assert found["fixed_pattern"] == metrics.fixed_pattern(pictures, originals)
    assert halves["fixed_pattern_of_halves"] == metrics.fixed_pattern(
        originals[::2], originals[1::2]
    )
    themselves = image_sets.set_measures(originals, originals, taps)
    assert themselves["grid_index"] == themselves["energy_ratio"] == 1.0
    for name, value in halves.items():
        if name.startswith("frechet"):
            assert value == pytest.approx(themselves[name.removesuffix(image_sets.OF_HALVES)])
    assert {name.removesuffix(image_sets.OF_HALVES) for name in halves} < set(found)
    few = image_sets.set_measures(pictures[:3], originals[:3], taps)
    assert set(found) - set(few) == {"frechet_distance", "frechet_distance_net_conv1"}
    assert image_sets.half_measures(originals[:3], taps) == {}


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
