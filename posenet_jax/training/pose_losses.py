"""Losses of the encoder's three tasks (Zamir et al. 2016, section 3).

Inputs are batched over pairs, P; each function returns one value a pair, so that the caller decides
which pairs count.
"""

import jax
import jax.numpy as jnp
import optax

from posenet_jax.encoders.heads import PoseScale
from posenet_jax.geometry import unit

Array = jax.Array


def robust_distance(predicted: Array, truth: Array) -> Array:
    """[P]: e = ‖predicted - truth‖₂ where e ≤ 1, else 1 + log e; arguments [P, D]."""
    # The guard under the root keeps the gradient finite at a perfect prediction.
    distance = jnp.sqrt(jnp.sum(jnp.square(predicted - truth), axis=-1) + 1e-12)
    return jnp.where(distance <= 1.0, distance, 1.0 + jnp.log(jnp.maximum(distance, 1.0)))


def turning_distance(predicted: Array, truth: Array, weights: Array) -> Array:
    """[]: distance of predicted and true angles [P, 3] that does not reward small answers; mean of
    yaw, pitch and roll.

    Of one angle over the pairs, c the cosine of both columns and r the ratio of their lengths,
    half the squared distance, in the truth's, is r (1 - c) + (r - 1)² / 2. Its minimum is at r = c:
    where turns are hard to see, answers had better be small. Without the first r it is at r = 1,
    whatever c. weights: [P].
    """
    shares = weights[:, None] / jnp.maximum(jnp.sum(weights), 1e-6)
    product, ours, theirs = (
        jnp.sum(shares * a * b, axis=0)
        for a, b in ((predicted, truth), (predicted, predicted), (truth, truth))
    )
    cosine = product * jax.lax.rsqrt(ours * theirs + 1e-16)
    # Guards the root at answers that are all zero; far below a milliradian.
    ratio = jnp.sqrt((ours + 1e-9) / (theirs + 1e-9))
    return jnp.mean(1.0 - cosine + 0.5 * jnp.square(ratio - 1.0))


def turns_alone(
    predicted: Array, truth: Array, weights: Array, scale: PoseScale, still: Array | None = None
) -> Array:
    """[]: loss of poses [P, 6] of which the angles are known and the positions are not.

    `turning_distance` of the angles, and the squared distance of positions from those of `still`:
    what nobody says of them would drift otherwise. predicted, still: z-scored; truth: radians and
    metres; weights: [P]. still None: positions are free.
    """
    loss = turning_distance(scale.restore(predicted)[:, :3], truth[:, :3], weights)
    if still is None:
        return loss
    moved = jnp.sum(jnp.square(predicted[:, 3:] - still[:, 3:]), axis=-1)
    return loss + weighted_mean(moved, weights)


def normal_distance(predicted: Array, truth: Array) -> Array:
    """[P] Euclidean distance between unit normals, 2 sin(angle/2); arguments [P, 3]."""
    return jnp.sqrt(jnp.sum(jnp.square(unit(predicted) - truth), axis=-1) + 1e-12)


def matching_loss(logits: Array, matches: bool) -> Array:
    """[P] sigmoid cross-entropy of pairs that all match, or all do not."""
    return optax.sigmoid_binary_cross_entropy(logits, jnp.full_like(logits, float(matches)))


def idleness(preactivations: Array, active: float) -> Array:
    """[]: shortfall of units [P, F] that are on for less than a fraction `active` of the examples.

    Mean over F; each unit's (1 - active) quantile should be positive. Without it half of a
    descriptor's ReLU units are silenced for good within the first thousand steps.
    """
    count = preactivations.shape[0]
    rank = min(count - 1, max(0, round((1.0 - active) * count)))
    quantile = jnp.sort(preactivations, axis=0)[rank]
    return jnp.mean(jnp.maximum(0.1 - quantile, 0.0))


def change(descriptors: Array, former: Array) -> Array:
    """[P]: squared distance of descriptors [P, F] from former ones, as a share of their energy.

    Keeps what a network knows while it learns something else, as Learning without Forgetting (Li
    and Hoiem 2016) does by its outputs.
    """
    energy = jnp.sum(jnp.square(former), axis=-1)
    return jnp.sum(jnp.square(descriptors - former), axis=-1) / jnp.maximum(energy, 1e-6)


def weighted_mean(values: Array, weights: Array) -> Array:
    """Mean of values [P] with weights [P]; zero where every weight is zero."""
    return jnp.sum(values * weights) / jnp.maximum(jnp.sum(weights), 1e-6)
