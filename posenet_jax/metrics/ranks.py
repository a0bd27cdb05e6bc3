"""The rank of the true one among candidates: how often another would be taken for it."""

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, Int

Scores = Float[ArrayLike, "number candidates"]
Ranks = Int[np.ndarray, "number"]


def own_ranks(scores: Scores, tolerance: ArrayLike = 0.0) -> Ranks:
    """[N] rank of each row's own candidate, on the diagonal, among those of scores [N, M]; 1: best.

    The highest score is the best. A tie counts against it, as in SciPy's `rankdata` with
    method="max": a picture that tells no candidate from another has found none. So does a score
    that is no number. tolerance: what of a difference between scores is rounding, broadcast to
    [N, M].
    """
    values = np.asarray(scores, np.float64)
    worse = values < np.diagonal(values)[:, None] - tolerance
    return values.shape[1] - np.sum(worse, axis=1)
