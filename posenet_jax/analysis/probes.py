"""Linear probes: what can be read off a descriptor by ridge regression?

N scenes; descriptors [N, ...] are flattened and standardised by the training scenes. Fitted and
scored on disjoint scenes; the strength of the ridge is chosen on a quarter of the training scenes,
left out for that. What a probe is asked about is clipped to the range that it was fitted in: a unit
that was silent in nearly all training scenes would otherwise be extrapolated by the reciprocal of
a tiny deviation. A score is R², the explained share of the variance over scenes: 1 is exact, 0 is
what the training scenes' mean scores, the chance level.
"""

from typing import NamedTuple

import numpy as np

from posenet_jax.errors import InputError

PROBE_METHOD = "ridge regression, clipped to the range of the fit"
"""Method of a score, which tells it from kept ones that were made in another way."""
STRENGTHS = tuple(10.0**k for k in range(-2, 5))  # times the number of training scenes
_RESAMPLINGS = 1000


class Score(NamedTuple):
    """R² on the test scenes, and its interval of 95 % over them."""

    value: float
    low: float
    high: float


def ridge(features: np.ndarray, targets: np.ndarray, strength: float) -> np.ndarray:
    """[F, K] minimising ‖XW − Y‖² + strength ‖W‖², X [N, F] and Y [N, K] centred.

    Solved among the features or among the scenes, whichever are fewer (the dual form).
    """
    count, width = features.shape
    if width <= count:
        gram = features.T @ features + strength * np.eye(width)
        return np.linalg.solve(gram, features.T @ targets)
    gram = features @ features.T + strength * np.eye(count)
    return features.T @ np.linalg.solve(gram, targets)


def _predicted(
    known: np.ndarray, wanted: np.ndarray, asked: np.ndarray, strength: float
) -> np.ndarray:
    """Predictions for features [M, F], by a probe of [N, F] and [N, K]."""
    mean, spread = known.mean(axis=0), known.std(axis=0)
    constant = spread <= 1e-9 * np.abs(known).max(axis=0)
    spread = np.where(constant, np.inf, spread)  # such units say nothing
    weights = ridge((known - mean) / spread, wanted - wanted.mean(axis=0), strength * len(known))
    asked = np.clip(asked, known.min(axis=0), known.max(axis=0))
    return (asked - mean) / spread @ weights + wanted.mean(axis=0)


def _errors(predicted: np.ndarray, truth: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """[2, N] squared errors over all K, each by its variance: the probe's, the mean's."""
    variance = np.maximum(np.mean(np.square(truth - mean), axis=0), 1e-12)
    return np.stack([np.mean(np.square(x - truth) / variance, axis=1) for x in (predicted, mean)])


def score(
    train: np.ndarray,
    train_targets: np.ndarray,
    test: np.ndarray,
    test_targets: np.ndarray,
    *,
    seed: int = 0,
) -> Score:
    """R² of a probe of `train` [N, ...] → [N, K] on `test`: the mean over the K targets.

    Raises InputError where there are too few scenes to choose a strength by.
    """
    if len(train) < 8 or len(test) < 2:
        raise InputError(f"a probe needs 8 scenes to fit and 2 to test, not {len(train)}")
    known, asked = (x.reshape((len(x), -1)).astype(np.float64) for x in (train, test))
    wanted, truth = (
        x.reshape((len(x), -1)).astype(np.float64) for x in (train_targets, test_targets)
    )
    fit = 3 * len(known) // 4
    trials = []
    for strength in STRENGTHS:
        held = _predicted(known[:fit], wanted[:fit], known[fit:], strength)
        own, _ = _errors(held, wanted[fit:], np.broadcast_to(wanted[:fit].mean(0), held.shape))
        trials.append(own.mean())
    best = STRENGTHS[int(np.argmin(trials))]
    predicted = _predicted(known, wanted, asked, best)
    errors = _errors(predicted, truth, np.broadcast_to(wanted.mean(axis=0), truth.shape))
    rows = np.random.default_rng(seed).integers(0, len(truth), (_RESAMPLINGS, len(truth)))
    means = errors[:, rows].mean(axis=2)
    low, high = np.percentile(1.0 - means[0] / means[1], (2.5, 97.5))
    value = 1.0 - errors[0].mean() / errors[1].mean()
    return Score(float(value), float(low), float(high))
