"""Terms of eq. 2 and the clipping, against closed forms, NumPy, SciPy and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from posenet_jax.inversion import clipping, data_terms, priors


def _noise(shape, seed=0, scale=60.0):
    return np.random.default_rng(seed).normal(0.0, scale, shape).astype(np.float32)


def _total_variation(image, beta):
    """Eq. 1 pixel by pixel in float64."""
    height, width, _ = image.shape
    total = 0.0
    for i in range(height):
        for j in range(width):
            right = image[i, min(j + 1, width - 1)] - image[i, j]
            below = image[min(i + 1, height - 1), j] - image[i, j]
            total += float(((right**2 + below**2 + 1e-8) ** (beta / 2)).sum())
    return total


@pytest.mark.parametrize("beta", [1.0, 1.5, 2.0])
def test_total_variation_is_the_double_sum(beta):
    image = _noise((7, 9, 3))
    expected = _total_variation(image.astype(np.float64), beta)
    np.testing.assert_allclose(priors.total_variation(image, beta), expected, rtol=1e-5)


def test_total_variation_of_a_step_is_its_length_times_its_height():
    image = np.zeros((10, 12, 3), np.float32)
    image[:, 5:] = 40.0
    # Flat pixels contribute sqrt(epsilon) = 1e-4 each.
    assert float(priors.total_variation(image)) == pytest.approx(3 * 10 * 40.0, abs=0.05)


@pytest.mark.parametrize("term", [priors.total_variation, priors.sixth_power, priors.sixth_norm])
def test_gradients_match_finite_differences(term):
    image = _noise((5, 6, 3), scale=2.0)
    gradient = np.asarray(jax.grad(term)(jnp.asarray(image)), np.float64)
    with jax.enable_x64(True):
        flat = image.astype(np.float64).ravel()
        expected = optimize.approx_fprime(
            flat, lambda x: float(term(jnp.asarray(x.reshape(image.shape)))), 1e-6
        )
    np.testing.assert_allclose(gradient.ravel(), expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("term", [priors.total_variation, priors.sixth_power, priors.sixth_norm])
def test_gradients_are_finite_where_the_image_is_flat(term):
    assert jnp.all(jnp.isfinite(jax.grad(term)(jnp.zeros((4, 4, 3)))))


def test_distance_has_a_finite_gradient_at_the_target():
    target = jnp.arange(5.0)
    assert jnp.all(jnp.isfinite(jax.grad(data_terms.distance)(target, target)))


def test_sixth_power_dwarfs_the_sixth_norm_at_table_1():
    """Why eq. 2 must mean the power: the norm's part is below float32's resolution of the loss."""
    image = _noise((100, 100, 3), scale=65.0).clip(-110, 140)
    assert 1.95e-15 * float(priors.sixth_power(image)) > 1.0
    norm = float(priors.sixth_norm(image))
    assert norm == pytest.approx(np.sum(image.astype(np.float64) ** 6) ** (1 / 6), rel=1e-5)
    assert 1.95e-15 * norm < np.finfo(np.float32).eps


@pytest.mark.parametrize("percentile", [0.0, 1.0, 21.4, 50.0, 99.0, 100.0])
@pytest.mark.parametrize("shape", [(10, 10), (17, 13), (100, 100)])
def test_clipping_is_numpys_percentile(percentile, shape):
    contribution = np.abs(_noise(shape, seed=1))
    image = _noise((*shape, 3), seed=2)
    threshold = np.percentile(contribution.astype(np.float64), percentile)
    expected = np.where((contribution < threshold)[..., None], 0.0, image)
    clipped = clipping.clip_small_contributions(image, jnp.asarray(contribution), percentile)
    np.testing.assert_array_equal(clipped, expected)


@pytest.mark.parametrize("rank", [0, 1, 7, 48, 49])
def test_kth_smallest_is_exact_with_ties_and_extremes(rank):
    values = np.abs(_noise((50,), seed=3))
    values[:8] = values[8]
    values[9:12] = [0.0, 1e-45, 3e38]
    found = clipping.kth_smallest(jnp.asarray(values), rank)
    assert float(found) == np.sort(values)[rank]


def test_contributions_sum_over_channels_before_the_absolute_value():
    gradient = jnp.array([[[1.0, -1.0, 2.0]]])
    image = jnp.array([[[3.0, 3.0, 1.0]]])
    assert float(clipping.contributions(gradient, image)[0, 0]) == 2.0
