"""The siamese heads of a pose network: relative pose, matching, surface normal."""

from typing import Any

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


class PoseCorrection(nn.Module):
    """Network that says what to add to the pose [..., 6] of a pair [..., 2F]; at first nothing."""

    units: int

    @nn.compact
    def __call__(self, pair: Array) -> Array:
        hidden = pair
        for name in ("fc_1", "fc_2"):
            layer = nn.Dense(self.units, kernel_init=nn.initializers.he_normal(), name=name)
            hidden = nn.relu(layer(hidden))
        return nn.Dense(6, kernel_init=nn.initializers.zeros, name="pose")(hidden)


class SiameseHeads(nn.Module):
    """Zamir's three tasks on top of two descriptors; used in training and as a judge.

    correction: units of a layer of `PoseCorrection`, 0 where there is none.
    """

    correction: int = 0

    @nn.compact
    def __call__(self, first: Array, second: Array) -> HeadOutputs:
        pair = jnp.concatenate([first, second], axis=-1)
        common = nn.relu(
            nn.Dense(512, kernel_init=nn.initializers.he_normal(), name="common_fc")(pair)
        )
        pose = nn.Dense(6, name="pose")(common)
        if self.correction:
            pose = pose + PoseCorrection(self.correction, name="correction")(pair)
        return HeadOutputs(
            pose=pose,
            match=nn.Dense(1, name="match")(common)[..., 0],
            normal=nn.Dense(3, name="normal")(first),
        )


def outputs(params: Any, first: Array, second: Array) -> HeadOutputs:
    """Returns what heads of these parameters, with or without a correction, say of descriptors."""
    units = params["correction"]["fc_1"]["bias"].shape[-1] if "correction" in params else 0
    said: Any = SiameseHeads(units).apply({"params": params}, first, second)
    return said


def correction_shapes(units: int, descriptor_size: int) -> Any:
    """Returns the shapes of the parameters of a `PoseCorrection` of descriptors of that length."""
    pair = jax.ShapeDtypeStruct((2 * descriptor_size,), jnp.float32)
    return jax.eval_shape(PoseCorrection(units).init, jax.random.key(0), pair)["params"]
