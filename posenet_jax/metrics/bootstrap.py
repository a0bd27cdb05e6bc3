"""Intervals of 95 % by the bootstrap (Efron 1979): resampling what was measured."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Values = Float[np.ndarray, "number"]
Resampled = Float[np.ndarray, "resamplings"]


def bootstrap_interval(
    values: Values, statistic: Callable[..., Resampled] = np.mean, seed: int = 0
) -> tuple[float, float, float]:
    """(statistic, low, high) of values [N]: its interval of 95 % by 1,000 resamplings.

    statistic: np.mean or np.median, anything of an array along an axis.
    """
    rows = np.random.default_rng(seed).integers(0, len(values), (1000, len(values)))
    low, high = np.percentile(statistic(values[rows], axis=1), (2.5, 97.5))
    return float(statistic(values)), float(low), float(high)


def bootstrap_summary(values: Values, seed: int = 0) -> dict[str, float]:
    """Mean, median, and the mean's interval."""
    mean, low, high = bootstrap_interval(values, seed=seed)
    return {"mean": mean, "median": float(np.median(values)), "low": low, "high": high}
