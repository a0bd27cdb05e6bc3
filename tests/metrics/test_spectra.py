"""Lines in spectra against SciPy's periodogram, and grids of known strength."""

import numpy as np
import pytest
from scipy import signal

from posenet_jax import metrics


def noisy(count, seed, height=100, grid=0.0, period=5.0):
    """Grey noise with a deviation of 20 levels, and lines across of an amplitude."""
    values = np.random.default_rng(seed).normal(128.0, 20.0, (count, height, 100))
    values += grid * np.cos(2.0 * np.pi * np.arange(100) / period)
    grey = values.round().clip(0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3 if height == 100 else 1, axis=-1)


def test_the_spectrum_is_that_of_scipy():
    pictures = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)
    grey = pictures @ np.array([0.299, 0.587, 0.114])
    window = signal.get_window("hann", 40)
    grey = np.concatenate([grey, grey.transpose((0, 2, 1))])
    grey = grey - np.average(grey, axis=2, weights=window)[..., None]
    _, power = signal.periodogram(grey, window="hann", detrend=False, scaling="spectrum", axis=2)
    power[..., 1:-1] /= 2.0  # SciPy's is of both signs of frequency
    expected = power.mean(axis=(0, 1)) * window.sum() ** 2
    np.testing.assert_allclose(metrics.line_spectrum(pictures), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "amplitude, period, height", [(4.0, 5.0, 100), (12.0, 2.0, 100), (12.0, 4.0, 60)]
)
def test_the_index_is_the_power_of_a_grid_over_that_beside_it(amplitude, period, height):
    """A wave of amplitude a along rows has (a Σw)² / 4 beside the noise's σ² Σw², once in two
    directions, which are one of two spectra each where sides differ; at two pixels a period, where
    both signs are one, four times as much.
    """
    window = signal.get_window("hann", 100)
    share = (0.5 if height == 100 else 1.0) * (1.0 if period > 2.0 else 4.0)
    wave = share * (amplitude * window.sum()) ** 2 / 4.0
    expected = 1.0 + wave / (20.0**2 * np.square(window).sum())
    pictures = noisy(40, 0, height, grid=amplitude, period=period)
    found = metrics.grid_index(pictures, noisy(40, 1, height))
    assert found == pytest.approx(expected, rel=0.1)


def test_without_a_grid_the_index_is_about_one():
    assert metrics.grid_index(noisy(40, 0), noisy(40, 1)) == pytest.approx(1.0, abs=0.1)
    flat = np.full((2, 100, 100, 3), 70, np.uint8)
    assert metrics.grid_index(flat, noisy(4, 1)) == pytest.approx(1.0, abs=0.2)


def test_what_originals_have_too_does_not_count():
    originals = noisy(40, 1, grid=12.0)
    assert metrics.grid_index(noisy(40, 0, grid=12.0), originals) == pytest.approx(1.0, abs=0.1)
