"""The Fréchet distance against SciPy's root of a matrix and closed forms of Gaussians."""

import numpy as np
import pytest
from scipy import linalg

from posenet_jax import metrics


def direct(made, real):
    """As it is written, with a root of the product of covariances."""
    s, t = (np.cov(x, rowvar=False) for x in (made, real))
    root = linalg.sqrtm(s @ t)
    apart = np.square(made.mean(axis=0) - real.mean(axis=0)).sum()
    return apart + np.trace(s + t - 2.0 * root.real)


def sets(made, real, size, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(2, size, size))
    a, b = rng.normal(size=(made, size)) @ mixing[0], rng.normal(size=(real, size)) @ mixing[1]
    return (a + 0.7).astype(np.float32), b.astype(np.float32)


@pytest.mark.parametrize("made, real", [(60, 60), (60, 45), (200, 12), (12, 200)])
def test_the_frechet_distance_is_the_direct_one(made, real):
    pair = sets(made, real, 12)
    assert metrics.frechet_distance(*pair) == pytest.approx(direct(*pair), rel=1e-6)


def test_it_is_that_of_the_gaussians_where_axes_are_shared():
    """Σ (μ - ν)² + (σ - τ)², of deviations along common axes: exact for a set whose axes these are,
    points ±σ√n on each.
    """

    def crossed(mean, deviations):
        half = np.diag(deviations) * np.sqrt((2 * len(deviations) - 1) / 2)
        return np.concatenate([half, -half]) + mean

    deviations = np.array([[3.0, 0.5, 0.0, 1.0], [1.0, 2.0, 4.0, 1.0]])
    means = np.array([[0.0, 1.0, -2.0, 0.5], [1.0, 1.0, 0.0, 0.0]])
    expected = sum(np.square(np.diff(x, axis=0)).sum() for x in (means, deviations))
    pair = map(crossed, means, deviations)
    assert metrics.frechet_distance(*pair) == pytest.approx(expected, rel=1e-12)


def test_it_is_zero_between_a_set_and_itself_turned_about():
    """With fewer features than dimensions too, where the covariance is singular."""
    for count in (5, 400):
        features = sets(count, 2, 40)[0]
        assert abs(metrics.frechet_distance(features, features[::-1])) < 1e-6 * 40


def test_few_features_make_it_too_large():
    """Between halves of one set it is about four times as large for a quarter of the features."""
    rng = np.random.default_rng(0)
    found = [
        np.mean([metrics.frechet_distance(*rng.normal(size=(2, n, 3))) for _ in range(100)])
        for n in (50, 200)
    ]
    assert 0 < found[1] < found[0]
    assert found[0] / found[1] == pytest.approx(4.0, rel=0.25)


def test_one_feature_has_no_covariance():
    with pytest.raises(ValueError, match="at least two"):
        metrics.frechet_distance(np.ones((1, 3)), np.ones((4, 3)))
