"""Marks at the same places of all pictures, against all pairs of pictures and by their energy."""

import itertools
import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from posenet_jax import metrics


def noisy(count, seed, shape=(24, 20, 3)):
    levels = np.random.default_rng(seed).normal(128, 20, (count, *shape))
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def test_it_is_a_mean_over_pairs_of_pictures():
    pictures, originals = noisy(4, 0, (6, 5, 1)), noisy(3, 1, (6, 5, 1))
    shares = []
    for axis in (1, 2):
        for size in (lambda x: x, lambda x: np.abs(x) - np.abs(x).mean()):
            a, b = (np.diff(x.astype(float), axis=axis) for x in (pictures, originals))
            a, b = (size(x) / np.sqrt(np.mean(x**2)) for x in (a, b))
            own, other = (
                np.mean([np.mean(x * y) for x, y in itertools.permutations(set_, 2)])
                for set_ in (a, b)
            )
            across = np.mean([np.mean(x * y) for x, y in itertools.product(a, b)])
            shares.append(own + other - 2 * across)
    assert metrics.fixed_pattern(pictures, originals) == pytest.approx(np.mean(shares), rel=1e-9)


def test_marks_count_where_they_stand_at_the_same_places_alone():
    pictures, originals = noisy(200, 0), noisy(200, 1)
    assert abs(metrics.fixed_pattern(pictures, originals)) < 0.002
    marks = np.zeros(pictures.shape[1:], np.uint8)
    marks[::4, ::4] = 40
    random = np.random.default_rng(2)
    moved = np.stack([x + np.roll(marks, random.integers(0, 4, 2), (0, 1)) for x in pictures])
    # Signed differences alone: two in sixteen have 40² beside the noise's 2 · 20².
    assert metrics.fixed_pattern(pictures + marks, originals) > 0.2 * (2 / 16) * 40**2 / (2 * 20**2)
    assert abs(metrics.fixed_pattern(moved, originals)) < 0.003


def test_sharpness_and_contrast_do_not_count():
    originals = noisy(300, 1)
    blurred = gaussian_filter(noisy(300, 0).astype(float), (0, 1, 1, 0), mode="wrap")
    pale = 128 + (noisy(300, 2).astype(float) - 128) / 3
    for pictures in (blurred, pale):
        found = metrics.fixed_pattern(np.rint(pictures).astype(np.uint8), originals)
        assert abs(found) < 0.003


def test_without_anything_to_compare_there_is_no_share():
    assert math.isnan(metrics.fixed_pattern(noisy(1, 0), noisy(4, 1)))
    assert math.isnan(metrics.fixed_pattern(noisy(4, 0), np.full((4, 24, 20, 3), 9, np.uint8)))


def test_the_map_of_detail_shows_where_it_stands():
    pictures = noisy(6, 0, (7, 9, 3))
    pictures[:, :, 4:] = 128
    found = metrics.detail_map(pictures)
    levels = pictures.astype(float)
    both = np.abs(np.diff(levels, axis=1))[:, :, :-1] + np.abs(np.diff(levels, axis=2))[:, :-1]
    expected = both.mean(axis=(0, 3))
    np.testing.assert_allclose(found, expected / expected.mean(), rtol=1e-9)
    assert found.shape == (6, 8) and not np.any(found[:, 4:])
    assert not np.any(metrics.detail_map(np.full((2, 5, 5, 1), 7, np.uint8)))
