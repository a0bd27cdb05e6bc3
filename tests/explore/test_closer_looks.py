"""Closer looks say what NumPy, SciPy and a linear network's singular vectors say."""

import jax
import numpy as np
import pytest
from flax import struct
from scipy.spatial.transform import Rotation

import posenet_jax
from posenet_jax.analysis import surgery
from posenet_jax.errors import InputError
from posenet_jax.explore import closer_looks
from posenet_jax.images.preprocessing import Preprocessing

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


def test_mean_and_deviation_are_numpys():
    pictures = list(RNG.integers(100, 140, (5, 4, 6, 3), np.uint8))
    mean, deviation = closer_looks.mean_and_deviation(pictures, "draws")
    assert np.array_equal(mean.picture, np.round(np.mean(pictures, axis=0)))
    expected = np.std(np.float64(pictures), axis=0, ddof=1)
    assert np.array_equal(deviation.picture, np.round(expected / 64 * 255))
    assert mean.caption == "mean of 5 draws"
    assert f"{expected.mean():.1f} grey levels" in deviation.caption
    assert closer_looks.mean_and_deviation(pictures[:1], "draws") == []


def test_operations_on_a_descriptor_of_any_shape():
    descriptor = np.arange(24, dtype=np.float32).reshape((2, 3, 4))
    others = np.stack([2 * descriptor, descriptor])

    def operated(operation, amount):
        made = closer_looks.operated(operation, amount, descriptor, others, KEY)
        assert made.shape == descriptor.shape and made.dtype == np.float32
        return made.ravel()

    assert np.array_equal(operated("largest", 3), [0] * 21 + [21, 22, 23])
    assert np.array_equal(operated("largest", 4096), descriptor.ravel())
    kept = operated("random", 5)
    assert np.sum(kept > 0) in (4, 5)  # the first unit is zero anyhow
    assert np.all((kept == 0) | (kept == descriptor.ravel()))
    levels = operated("quantised", 1)
    assert set(np.unique(levels / np.maximum(2 * descriptor.ravel(), 1))) <= {0.0, 1.0}
    away = operated("noise", 0.5) - descriptor.ravel()
    assert np.linalg.norm(away) == pytest.approx(0.5 * np.linalg.norm(descriptor), rel=0.4)
    assert np.array_equal(operated("noise", 0), descriptor.ravel())


def test_components_kept_are_those_of_the_singular_vectors():
    fitted = RNG.normal(size=(40, 12)) * np.arange(12, 0, -1)
    descriptor = RNG.normal(size=12).astype(np.float32)
    mean = fitted.mean(axis=0)
    axes = np.linalg.svd(fitted - mean, full_matrices=False)[2][:3]
    expected = (descriptor - mean) @ axes.T @ axes + mean
    made = closer_looks.operated(
        "components", 3, descriptor, fitted, KEY, surgery.fit_components(fitted)
    )
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-5)


def test_operations_that_make_no_sense_are_refused():
    ones = np.ones(4, np.float32)
    for operation, amount, words in (
        ("largest", 0, "must lie within 1 and"),
        ("quantised", 9, "must lie within 1 and 8"),
        ("rm", 1, "no operation 'rm'; there are largest,"),
    ):
        with pytest.raises(InputError, match=words):
            closer_looks.operated(operation, amount, ones, ones[None], KEY)


def test_a_pose_in_words_is_that_of_the_heads():
    encoder = posenet_jax.load_encoder("compact")
    first, second = np.float32(RNG.uniform(0, 2, (2, 512)))
    found = closer_looks.pose(encoder, first, second)
    pose = np.asarray(encoder.poses(first[None], second[None]))[0]
    turned = Rotation.from_euler("YXZ", pose[:3]).magnitude()
    assert found["rotation"] == pytest.approx(np.degrees(turned), abs=1e-3)
    assert found["turns"] == pytest.approx(np.degrees(pose[:3]))
    azimuth, elevation = np.radians([found["azimuth"], found["elevation"]])
    right, down = np.sin(azimuth) * np.cos(elevation), -np.sin(elevation)
    direction = np.array([right, down, np.cos(azimuth) * np.cos(elevation)])
    np.testing.assert_allclose(found["distance"] * direction, pose[3:], rtol=1e-4, atol=1e-5)
    assert 0 <= found["match"] <= 1


@struct.dataclass
class Linear:
    """A descriptor whose Jacobian is `matrix` everywhere."""

    matrix: jax.Array
    preprocessing: Preprocessing = struct.field(pytree_node=False)

    def __call__(self, image):
        return image.reshape((*image.shape[:-3], -1)) @ self.matrix


def test_a_linear_networks_directions_move_it_by_its_singular_values():
    space = Preprocessing(means=(120.0, 120.0, 120.0), size=6)
    left, right = (np.linalg.qr(RNG.normal(size=(n, 4)))[0] for n in (108, 4))
    gains = np.array([5.0, 2.0, 1.0, 0.5])
    tap = Linear(np.float32(left * gains @ right.T), space)
    picture = RNG.integers(90, 160, (6, 6, 3), np.uint8)
    shown = closer_looks.changed_most_and_least(tap, picture, KEY, 8.0)
    norm = np.linalg.norm(np.asarray(tap(space.to_network(picture))))
    changes = [float(one.caption.split(" by ")[1].removesuffix(" %")) / 100 for one in shown]
    length = 8.0 * np.sqrt(108)
    assert changes[0] == pytest.approx(5.0 * length / norm, rel=0.05)
    assert changes[1] == pytest.approx(0.5 * length / norm, rel=0.3)  # rounded to grey levels
    assert changes[2] < 0.1 * changes[1] and changes[3] < changes[0]
    assert all(one.picture.shape == (6, 6, 3) for one in shown)
