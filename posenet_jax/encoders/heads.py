"""The siamese heads of a pose network: relative pose, matching, surface normal."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

Array = jax.Array


@struct.dataclass
class PoseScale:
    """Mean and deviation [6] of the relative poses of the training pairs (radians, metres)."""

    mean: Array
    std: Array

    def normalise(self, pose: Array) -> Array:
        return (pose - jnp.broadcast_to(self.mean, pose.shape)) / jnp.broadcast_to(
            self.std, pose.shape
        )

    def restore(self, pose: Array) -> Array:
        return pose * jnp.broadcast_to(self.std, pose.shape) + jnp.broadcast_to(
            self.mean, pose.shape
        )


@struct.dataclass
class HeadOutputs:
    """Predictions of the siamese heads for a pair of descriptors."""

    pose: Array  # [..., 6] relative pose, z-scored: yaw, pitch, roll, translation
    match: Array  # [...] logit that both descriptors show the same target
    normal: Array  # [..., 3] surface normal at the first image's target, its camera's frame


class SiameseHeads(nn.Module):
    """Zamir's three tasks on top of two descriptors; used in training and as a judge."""

    @nn.compact
    def __call__(self, first: Array, second: Array) -> HeadOutputs:
        pair = jnp.concatenate([first, second], axis=-1)
        common = nn.relu(
            nn.Dense(512, kernel_init=nn.initializers.he_normal(), name="common_fc")(pair)
        )
        return HeadOutputs(
            pose=nn.Dense(6, name="pose")(common),
            match=nn.Dense(1, name="match")(common)[..., 0],
            normal=nn.Dense(3, name="normal")(first),
        )
