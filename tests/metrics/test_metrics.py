"""Metrics against closed forms, SciPy and Pillow."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import fft, ndimage, signal, spatial, stats

from posenet_jax import metrics


def _picture(seed, shape=(100, 100, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def test_relative_loss_is_equation_3():
    assert float(metrics.relative_loss(jnp.array([3.0, 4.0]), jnp.zeros(2))) == 1.0
    a, b = jnp.array([3.0, 0.0]), jnp.array([0.0, 4.0])
    assert float(metrics.relative_loss(a, b)) == pytest.approx(5.0 / 7.0)
    assert float(metrics.relative_loss(jnp.zeros(2), jnp.zeros(2))) == 0.0


def test_the_spread_is_the_mean_distance_of_scipys_blurred_pictures():
    pictures = np.stack([_picture(seed, (40, 50, 3)) for seed in range(3)])
    pictures[1] //= 2
    grey = np.float64(pictures) @ [0.299, 0.587, 0.114]
    blurred = [ndimage.gaussian_filter(one, 4.0, mode="reflect", truncate=4.0) for one in grey]
    patterns = np.stack([(one - one.mean()).ravel() for one in blurred])
    expected = spatial.distance.pdist(patterns).mean() / np.sqrt(patterns.shape[1])
    assert float(metrics.spread(pictures)) == pytest.approx(expected, rel=1e-3)
    assert float(metrics.spread(np.stack([pictures[0]] * 2))) == 0


def test_relative_loss_is_about_half_the_descriptor_error():
    rng = np.random.default_rng(0)
    target = rng.normal(size=512)
    near = jnp.asarray(target + 0.01 * rng.normal(size=512))
    error = float(metrics.descriptor_error(near, jnp.asarray(target)))
    assert error == pytest.approx(np.linalg.norm(near - target) / np.linalg.norm(target), rel=1e-4)
    assert float(metrics.relative_loss(near, jnp.asarray(target))) == pytest.approx(
        error / 2, rel=0.01
    )


def test_pairwise_normalised_errors_use_scipys_mean_distance():
    rng = np.random.default_rng(0)
    targets, found = rng.normal(size=(2, 9, 4, 3)).astype(np.float32)
    expected = np.linalg.norm((found - targets).reshape(9, -1), axis=1)
    expected /= spatial.distance.pdist(targets.reshape(9, -1)).mean()
    ours = metrics.pairwise_normalised_errors(jnp.asarray(found), jnp.asarray(targets))
    np.testing.assert_allclose(ours, expected, rtol=1e-4)


@pytest.mark.parametrize(("shape", "sigma"), [((100, 100), 4.0), ((31, 57), 2.0), ((9, 9), 4.0)])
def test_blur_is_scipys(shape, sigma):
    grey = np.random.default_rng(1).normal(size=shape)
    ours = metrics.gaussian_blur(jnp.asarray(grey, jnp.float32), sigma)
    np.testing.assert_allclose(ours, ndimage.gaussian_filter(grey, sigma), atol=1e-5)


def test_luminance_is_pillows():
    picture = _picture(2)
    grey = np.asarray(Image.fromarray(picture).convert("L"), np.float32)
    assert np.abs(np.asarray(metrics.luminance(jnp.asarray(picture))) - grey).max() <= 0.51


def test_luminance_correlation_is_scipys_pearson_of_blurred_greys():
    a, b = _picture(3), _picture(4)
    b[:50] //= 2
    a[:50] //= 2

    def blurred(picture):
        grey = picture.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
        return ndimage.gaussian_filter(grey, 4.0).ravel()

    expected = stats.pearsonr(blurred(a), blurred(b)).statistic
    ours = metrics.luminance_correlation(jnp.asarray(a), jnp.asarray(b))
    assert float(ours) == pytest.approx(expected, abs=1e-4)


def test_luminance_correlation_of_flat_inverted_and_equal_pictures():
    picture = _picture(5)
    flat = np.full_like(picture, 77)
    correlation = metrics.luminance_correlation
    assert float(correlation(jnp.asarray(picture), jnp.asarray(flat))) == 0.0
    assert float(correlation(jnp.asarray(picture), jnp.asarray(picture))) == pytest.approx(1.0)
    assert float(correlation(jnp.asarray(picture), jnp.asarray(255 - picture))) == pytest.approx(
        -1.0
    )


def _coloured_noise(exponent, seed=0, size=100):
    """A grey picture whose power falls as 1/f^exponent."""
    frequency = np.hypot(*np.meshgrid(*2 * [fft.fftfreq(size)]))
    frequency[0, 0] = np.inf
    white = np.random.default_rng(seed).normal(size=(size, size))
    grey = fft.ifft2(fft.fft2(white) * frequency ** (-exponent / 2)).real
    grey = np.rint(np.clip(127 + 40 * grey / grey.std(), 0, 255)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def test_spectral_deviation_is_that_of_scipys_spectrum():
    for picture in (_picture(6), _coloured_noise(1.0), _picture(6, (64, 100, 1))):
        luma = [0.299, 0.587, 0.114] if picture.shape[-1] == 3 else [1.0]
        grey = picture.astype(np.float64) @ np.array(luma)
        window = np.outer(*(signal.windows.hann(size, sym=False) for size in grey.shape))
        power = np.abs(fft.fft2((grey - np.average(grey, weights=window)) * window)) ** 2
        shorter = min(grey.shape)
        down, across = (fft.fftfreq(size, 1.0 / shorter) for size in grey.shape)
        frequency = np.hypot(down[:, None], across)
        edges = 2.0 ** np.arange(1, np.log2(shorter / 2) + 1e-9, 0.5)
        bands = [(frequency >= a) & (frequency < b) for a, b in zip(edges, edges[1:], strict=False)]
        levels = [np.log2(power[b].mean()) + 2 * np.log2(frequency[b].mean()) for b in bands]
        ours = metrics.spectral_deviation(jnp.asarray(picture))
        assert float(ours) == pytest.approx(np.std(levels), rel=2e-3)


def test_spectral_deviation_is_least_where_power_falls_as_in_nature():
    deviations = [
        float(metrics.spectral_deviation(jnp.asarray(_coloured_noise(exponent))))
        for exponent in (0.0, 1.0, 2.0, 3.0)
    ]
    assert deviations[2] < 0.4 and deviations[0] > deviations[1] > deviations[2] + 0.5
    assert deviations[3] > deviations[2] + 0.5
    flat = jnp.full((100, 100, 3), 9, jnp.uint8)
    assert float(metrics.spectral_deviation(flat)) > 2.0


@pytest.mark.parametrize("shape", [(100, 100, 3), (24, 40, 1)])
def test_psnr_and_ssim_are_scikit_images(shape):
    skimage = pytest.importorskip("skimage.metrics")
    rng = np.random.default_rng(0)
    original = rng.integers(0, 256, shape, dtype=np.uint8)
    noise = rng.normal(0.0, 30.0, shape)
    image = np.clip(ndimage.gaussian_filter(original + noise, (1, 1, 0)), 0, 255).astype(np.uint8)
    expected = skimage.structural_similarity(
        image,
        original,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=-1,
        data_range=255,
    )
    assert float(metrics.ssim(image, original)) == pytest.approx(expected, abs=1e-4)
    expected = skimage.peak_signal_noise_ratio(original, image, data_range=255)
    assert float(metrics.psnr(image, original)) == pytest.approx(expected, rel=1e-5)
    assert float(metrics.ssim(original, original)) == pytest.approx(1.0, abs=1e-5)
    assert np.isinf(metrics.psnr(original, original))


@pytest.mark.parametrize("levels", [1, 2, 3, 100])
def test_ranks_are_scipys_with_ties_against(levels):
    scores = np.random.default_rng(levels).integers(0, levels, (9, 9)) / levels
    expected = [stats.rankdata(-row, method="max")[i] for i, row in enumerate(scores)]
    np.testing.assert_array_equal(metrics.own_ranks(scores), expected)
    rounding = np.random.default_rng(0).uniform(-1e-6, 1e-6, scores.shape)
    np.testing.assert_array_equal(metrics.own_ranks(scores + rounding, 1e-5), expected)


def test_a_score_that_is_no_number_is_no_rank():
    scores = np.array([[np.nan, 0.0, 1.0], [np.nan, 2.0, 1.0], [0.0, 0.0, 1.0]])
    np.testing.assert_array_equal(metrics.own_ranks(scores), [3, 2, 1])
