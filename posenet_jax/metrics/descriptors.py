"""Fidelity: does the network see the same thing? Errors between descriptors.

Axes of the types: number, of descriptors; layer, those of the encoder's layer, [128] at fc5.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from posenet_jax import numerics

Descriptor = Float[Array, "*layer"]
Descriptors = Float[Array, "number *layer"]
Errors = Float[Array, "number"]
Scalar = Float[Array, ""]
HostDescriptors = Float[np.ndarray, "number *layer"]
HostMatrix = Float[np.ndarray, "number number"]


def relative_loss(descriptor: Descriptor, target: Descriptor) -> Scalar:
    """Eq. 3 of the paper: ‖φ - φ0‖ / (‖φ‖ + ‖φ0‖), in [0, 1]; 0 where both are zero."""
    difference = jnp.linalg.norm((descriptor - target).ravel())
    total = jnp.linalg.norm(descriptor.ravel()) + jnp.linalg.norm(target.ravel())
    return jnp.where(total > 0, difference / jnp.where(total > 0, total, 1.0), 0.0)


@numerics.not_finite_allowed()
def descriptor_error(descriptor: Descriptor, target: Descriptor) -> Scalar:
    """‖φ - φ0‖ / ‖φ0‖; infinite where the target is zero and the descriptor is not."""
    difference = jnp.linalg.norm((descriptor - target).ravel())
    norm = jnp.linalg.norm(target.ravel())
    return jnp.where(difference > 0, difference / norm, 0.0)


def pairwise_normalised_errors(descriptors: Descriptors, targets: Descriptors) -> Errors:
    """[N] of Mahendran & Vedaldi (2015): ‖φᵢ - φ0ᵢ‖ over the targets' mean distance, [N, …]."""
    flat = targets.reshape((targets.shape[0], -1))
    squares = jnp.sum(jnp.square(flat), axis=1)
    gram = jnp.matmul(flat, flat.T, precision=lax.Precision.HIGHEST)
    between = jnp.sqrt(jnp.maximum(squares[:, None] + squares[None, :] - 2.0 * gram, 0.0))
    count = flat.shape[0]
    apart = 1.0 - jnp.eye(count, dtype=between.dtype)
    mean = jnp.sum(between * apart) / max(count * (count - 1), 1)
    errors = jnp.linalg.norm(descriptors.reshape(flat.shape) - flat, axis=1)
    return errors / mean


def relative_losses(targets: HostDescriptors) -> HostMatrix:
    """[N, N] eq. 3 between all pairs of descriptors [N, …]: what a wrong image scores."""
    flat = targets.reshape((len(targets), -1)).astype(np.float64)
    norms = np.linalg.norm(flat, axis=1)
    squares = norms[:, None] ** 2 + norms[None, :] ** 2 - 2.0 * flat @ flat.T
    return np.sqrt(np.maximum(squares, 0.0)) / np.maximum(norms[:, None] + norms[None, :], 1e-12)
