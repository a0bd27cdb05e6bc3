"""Every measure of a decoded picture: in pixels, in the descriptor, in the pose heads, in a judge.

N pictures and originals, uint8 RGB [N, H, W, 3]; descriptors [N, ...] of the originals.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from posenet_jax import metrics, numerics
from posenet_jax.encoders.weights import Encoder, Tap
from posenet_jax.evaluation import pose_evaluation
from posenet_jax.reconstruction import descriptors
from posenet_jax.reconstruction import measures as reconstruction_measures

Array = jax.Array


@numerics.not_finite_allowed()
def measures(
    encoder: Encoder,
    tap: Tap,
    targets: np.ndarray,
    pictures: np.ndarray,
    originals: np.ndarray,
    judge: Tap | None = None,
) -> dict[str, np.ndarray]:
    """[N] each, those of `reconstruction.measures` among them; `other_…` is a wrong image's score.

    mean_squared_error: 1 = from black to white. descriptor_rank: of its original's descriptor,
    among all, by distance from the picture's; 1 is best, and recall_at_1 says where it is.
    Of encoders with heads, pose_disagreement: degrees between the rotations that they predict from
    the original and from the picture to the next original; and match_probability: that picture and
    original show the same place, as the matching head has it.
    """
    psnr, ssim, square = (np.asarray(x) for x in _pixels(pictures, originals))
    seen = descriptors(tap, pictures, tap.preprocessing)
    distances = _distances(seen, targets)
    rank = 1 + np.sum(distances < np.diagonal(distances)[:, None], axis=1)
    found = {
        "mean_squared_error": square,
        "psnr": psnr,
        "ssim": ssim,
        "pairwise_normalised_error": np.asarray(
            metrics.pairwise_normalised_errors(jnp.asarray(seen), jnp.asarray(targets))
        ),
        "descriptor_rank": rank,
        "recall_at_1": (rank == 1).astype(np.float64),
    }
    if encoder.head_params is not None and encoder.pose_scale is not None:
        found |= _head_measures(encoder, pictures, originals)
    return found | reconstruction_measures(tap, targets, pictures, originals, judge)


@jax.jit
def _pixels(pictures: Array, originals: Array) -> tuple[Array, ...]:
    def one(pair):
        picture, original = pair
        square = metrics.mean_squared_error(picture, original)
        return metrics.psnr(picture, original), metrics.ssim(picture, original), square

    return jax.lax.map(one, (pictures, originals))


def _distances(seen: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """[N, N] squared, of every picture's descriptor (rows) to every original's."""
    a, b = (x.reshape((len(x), -1)).astype(np.float64) for x in (seen, targets))
    return np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1) - 2.0 * a @ b.T


@jax.jit
def _said(encoder: Encoder, first: Array, second: Array) -> tuple[Array, Array]:
    """Relative poses [N, 6], and probabilities [N] of a match."""
    assert encoder.pose_scale is not None
    heads = encoder.heads(first, second)
    return encoder.pose_scale.restore(heads.pose), jax.nn.sigmoid(heads.match)


def _head_measures(
    encoder: Encoder, pictures: np.ndarray, originals: np.ndarray
) -> dict[str, np.ndarray]:
    tap = encoder.tap("fc5")
    truth, seen = (descriptors(tap, x, tap.preprocessing) for x in (originals, pictures))
    following = np.roll(truth, -1, axis=0)
    host = jax.device_get(encoder)
    poses = [
        _said(host, first, following)[0] for first in (truth, seen, np.roll(truth, -2, axis=0))
    ]
    matches = [_said(host, truth, second)[1] for second in (seen, np.roll(seen, -1, axis=0))]
    return {
        "pose_disagreement": pose_evaluation.rotation_errors(poses[1], poses[0]),
        "other_pose_disagreement": pose_evaluation.rotation_errors(poses[2], poses[0]),
        "match_probability": np.asarray(matches[0]),
        "other_match_probability": np.asarray(matches[1]),
    }


def interval(
    values: np.ndarray, statistic: Callable[..., np.ndarray] = np.mean, seed: int = 0
) -> tuple[float, float, float]:
    """(statistic, low, high) of values [N]: its interval of 95 % by 1,000 resamplings.

    statistic: np.mean or np.median, anything of an array along an axis.
    """
    rows = np.random.default_rng(seed).integers(0, len(values), (1000, len(values)))
    low, high = np.percentile(statistic(values[rows], axis=1), (2.5, 97.5))
    return float(statistic(values)), float(low), float(high)


def summary(values: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Mean, median, and the mean's interval."""
    mean, low, high = interval(values, seed=seed)
    return {"mean": mean, "median": float(np.median(values)), "low": low, "high": high}
