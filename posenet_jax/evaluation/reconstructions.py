"""Measures of pictures made from descriptors: pixels, descriptor, pose heads, a judge.

N pictures and originals, uint8 RGB [N, H, W, 3]; descriptors [N, ...] of the originals.
"""

import jax
import jax.numpy as jnp
import numpy as np

from posenet_jax import metrics, numerics
from posenet_jax.encoders.encoder import Encoder, Tap, describe

Array = jax.Array


@numerics.not_finite_allowed()
def all_measures(
    encoder: Encoder,
    tap: Tap,
    targets: np.ndarray,
    pictures: np.ndarray,
    originals: np.ndarray,
    judge: Tap | None = None,
) -> dict[str, np.ndarray]:
    """[N] each, those of `picture_measures` among them; `other_…` is a wrong image's score.

    mean_squared_error: 1 = from black to white. descriptor_rank: of its original's descriptor,
    among all, by distance from the picture's; 1 is best, and recall_at_1 says where it is.
    Of encoders with heads, pose_disagreement: degrees between the rotations that they predict from
    the original and from the picture to the next original; and match_probability: that picture and
    original show the same place, as the matching head has it.
    """
    psnr, ssim, square = (np.asarray(x) for x in _pixels(pictures, originals))
    seen = describe(tap, pictures, tap.preprocessing)
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
    return found | picture_measures(tap, targets, pictures, originals, judge)


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
    truth, seen = (describe(tap, x, tap.preprocessing) for x in (originals, pictures))
    following = np.roll(truth, -1, axis=0)
    host = jax.device_get(encoder)
    poses = [
        _said(host, first, following)[0] for first in (truth, seen, np.roll(truth, -2, axis=0))
    ]
    matches = [_said(host, truth, second)[1] for second in (seen, np.roll(seen, -1, axis=0))]
    return {
        "pose_disagreement": metrics.rotation_errors(poses[1], poses[0]),
        "other_pose_disagreement": metrics.rotation_errors(poses[2], poses[0]),
        "match_probability": np.asarray(matches[0]),
        "other_match_probability": np.asarray(matches[1]),
    }


def _others(matrix: np.ndarray) -> np.ndarray:
    """[N] mean of each row but for its diagonal; NaN where there is no other."""
    count = len(matrix)
    if count == 1:
        return np.full(1, np.nan)
    return (matrix.sum(axis=1) - np.diagonal(matrix)) / (count - 1)


def picture_measures(
    tap: Tap,
    targets: np.ndarray,
    pictures: np.ndarray,
    originals: np.ndarray | None = None,
    judge: Tap | None = None,
) -> dict[str, np.ndarray]:
    """[N] each: how near pictures come to their targets [N, …], each beside a wrong image's score.

    Those of the picture itself are always there (names as in `Reconstruction`), luminance and what
    else compares where there are originals, and with a judge, an encoder that no inversion saw,
    `judge_relative_loss`: eq. 3 between its descriptors of picture and original.
    """
    seen_again = describe(tap, pictures, tap.preprocessing)
    found = {
        "picture_relative_loss": _relative_losses(seen_again, targets),
        "other_relative_loss": _others(metrics.relative_losses(targets)),
        "spectral_deviation": _spectral_deviations(pictures),
    }
    if originals is None:
        return found
    matrix = np.asarray(
        metrics.luminance_correlations(jnp.asarray(pictures), jnp.asarray(originals))
    )
    own = np.diagonal(matrix)
    found |= {
        "luminance_correlation": own,
        "luminance_rank": 1 + np.sum(matrix > own[:, None], axis=1),
        "other_luminance_correlation": _others(matrix),
        "original_spectral_deviation": _spectral_deviations(originals),
    }
    if judge is not None:
        seen, truth = (describe(judge, x, judge.preprocessing) for x in (pictures, originals))
        found |= {
            "judge_relative_loss": _relative_losses(seen, truth),
            "other_judge_relative_loss": _others(metrics.relative_losses(truth)),
        }
    return found


@jax.jit
def _deviations(images: Array) -> Array:
    return jax.lax.map(metrics.spectral_deviation, images)


def _spectral_deviations(images: np.ndarray) -> np.ndarray:
    return np.asarray(_deviations(jnp.asarray(images)))


@jax.jit
def _losses(descriptors: Array, targets: Array) -> Array:
    return jax.vmap(metrics.relative_loss)(descriptors, targets)


def _relative_losses(descriptors: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return np.asarray(_losses(jnp.asarray(descriptors), jnp.asarray(targets)))
