"""The three tasks' losses against closed forms and PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import spatial

from posenet_jax import metrics
from posenet_jax.training import pose_losses


@pytest.mark.parametrize(("distance", "expected"), [(0.0, 0.0), (0.4, 0.4), (1.0, 1.0)])
def test_pose_loss_is_the_distance_up_to_one(distance, expected):
    predicted = jnp.array([[distance, 0, 0, 0, 0, 0]])
    assert float(pose_losses.robust_distance(predicted, jnp.zeros((1, 6)))[0]) == pytest.approx(
        expected, abs=2e-6
    )


def test_pose_loss_grows_as_the_logarithm_beyond_one():
    predicted = jnp.array([[3.0, 4.0, 0, 0, 0, 0]])
    value = pose_losses.robust_distance(predicted, jnp.zeros((1, 6)))[0]
    assert float(value) == pytest.approx(1 + np.log(5.0), rel=1e-6)


@pytest.mark.parametrize("loss", [pose_losses.robust_distance, pose_losses.normal_distance])
def test_gradients_are_finite_at_a_perfect_prediction(loss):
    truth = jnp.array([[0.0, 0.6, 0.8]])
    gradient = jax.grad(lambda x: loss(x, truth).sum())(truth)
    assert jnp.all(jnp.isfinite(gradient))
    assert jnp.all(jnp.isfinite(jax.grad(lambda x: loss(x, truth).sum())(jnp.zeros((1, 3)))))


def test_turning_distance_is_half_the_squared_one_without_its_reward_for_small_answers():
    """SciPy's cosine distances of the angles' columns, without the pair of weight zero."""
    rng = np.random.default_rng(0)
    truth, predicted = rng.normal(size=(2, 9, 3)).astype(np.float32)
    weights = np.array([1, 1, 0, 1, 1, 1, 1, 1, 1], np.float32)
    some = weights > 0
    loss = pose_losses.turning_distance
    expected = []
    for ours, theirs in zip(predicted[some].T, truth[some].T, strict=True):
        length = np.linalg.norm(theirs)
        ratio, apart = np.linalg.norm(ours) / length, spatial.distance.cosine(ours, theirs)
        squared = spatial.distance.sqeuclidean(ours, theirs) / length**2
        assert 0.5 * squared == pytest.approx(ratio * apart + 0.5 * (ratio - 1) ** 2, rel=1e-5)
        expected.append(apart + 0.5 * (ratio - 1) ** 2)
    assert float(loss(predicted, truth, weights)) == pytest.approx(np.mean(expected), rel=1e-5)
    assert float(loss(truth, truth, weights)) == pytest.approx(0.0, abs=1e-6)
    assert float(loss(-truth, truth, weights)) == pytest.approx(2.0, rel=1e-5)
    assert np.all(np.isfinite(jax.grad(loss)(jnp.zeros((9, 3)), truth, weights)))
    assert np.isfinite(float(loss(predicted, truth, jnp.zeros(9))))


def test_turning_distance_is_least_at_the_truths_own_size_however_wrong_the_answers():
    """A squared distance is least at c times that, c the cosine."""
    rng = np.random.default_rng(1)
    truth, noise = rng.normal(size=(2, 400, 3)).astype(np.float32)
    answers = (truth + 2.0 * noise) / np.linalg.norm(truth + 2.0 * noise, axis=0)
    sizes = np.linspace(0.2, 1.4, 13)
    lengths = np.linalg.norm(truth, axis=0)
    ones = jnp.ones(400)
    ours, squared = zip(
        *(
            (
                float(pose_losses.turning_distance(size * lengths * answers, truth, ones)),
                np.sum(((size * lengths * answers - truth) / lengths) ** 2),
            )
            for size in sizes
        ),
        strict=True,
    )
    assert sizes[np.argmin(ours)] == pytest.approx(1.0)
    assert sizes[np.argmin(squared)] < 0.6


@pytest.mark.parametrize("degrees", [10.0, 90.0, 180.0])
def test_normal_loss_is_the_chord_whatever_the_length(degrees):
    angle = np.deg2rad(degrees)
    predicted = 7.0 * jnp.array([[np.cos(angle), np.sin(angle), 0.0]])
    chord = pose_losses.normal_distance(predicted, jnp.array([[1.0, 0.0, 0.0]]))[0]
    assert float(chord) == pytest.approx(2 * np.sin(angle / 2), rel=1e-5)


@pytest.mark.parametrize("matches", [True, False])
def test_matching_loss_is_pytorchs(torch, matches):
    logits = np.linspace(-20, 20, 9).astype(np.float32)
    truth = torch.full((9,), float(matches))
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.tensor(logits), truth, reduction="none"
    )
    # PyTorch rounds its tail at 1e-7.
    ours = pose_losses.matching_loss(logits, matches)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_idleness_counts_units_that_are_on_too_seldom():
    """Ten examples; the unit's 70th percentile stands at rank 7 of its sorted values."""
    on_for_three = jnp.where(jnp.arange(10) < 3, 5.0, -2.0)
    on_for_two = jnp.where(jnp.arange(10) < 2, 5.0, -2.0)
    never = jnp.full(10, -4.0)
    units = jnp.stack([on_for_three, on_for_two, never], axis=1)
    expected = (0.0 + 2.1 + 4.1) / 3
    assert float(pose_losses.idleness(units, 0.3)) == pytest.approx(expected, rel=1e-6)
    gradient = jax.grad(lambda u: pose_losses.idleness(u, 0.3))(units)
    assert jnp.all(gradient[:, 0] == 0) and jnp.any(gradient[:, 2] < 0)


def test_change_is_a_share_of_the_former_energy_and_finite_without_any():
    former = np.array([[3.0, 4.0], [0.0, 0.0]])
    change = pose_losses.change(jnp.array([[3.0, 1.0], [0.0, 0.0]]), jnp.asarray(former))
    np.testing.assert_allclose(change, [9 / 25, 0.0], rtol=1e-6)


def test_weighted_mean_ignores_weight_zero_and_survives_no_weight_at_all():
    values = jnp.array([1.0, 5.0, 100.0])
    assert float(pose_losses.weighted_mean(values, jnp.array([1.0, 1.0, 0.0]))) == 3.0
    assert float(pose_losses.weighted_mean(values, jnp.zeros(3))) == 0.0


def test_false_positive_rate_counts_above_the_threshold_of_the_recall():
    matching = np.arange(100.0)
    differing = np.arange(100.0) - 50.0
    # The threshold is 4.95; the differing logits above it are 5 to 49.
    assert float(metrics.false_positive_rate(matching, differing)) == pytest.approx(0.45)


def test_false_positive_rate_of_logits_that_tell_nothing_apart_is_one():
    assert metrics.false_positive_rate(np.zeros(20), np.zeros(30)) == 1.0
    assert metrics.false_positive_rate(np.full(20, np.nan), np.zeros(30)) == 1.0
    matching, differing = np.repeat([1.0, 2.0], 10), np.array([0.0, 1.0, 1.0, 2.0])
    # As the curve of all thresholds has it where recall first reaches 95 %.
    rates, recalls = metrics.roc(matching, differing)
    expected = rates[np.argmax(recalls >= 0.95)]
    assert metrics.false_positive_rate(matching, differing) == expected == 0.75
