"""Pose networks `StreetNet` and `Compact`: from a street image to a descriptor, with named taps.

Input: float32 [..., H, W, 3] in mean-subtracted space (BGR, 0-255 units minus the channel means),
H = W = 100 or 101. A tap is a layer's output after its ReLU and before its pooling: `conv1` to
`conv4` [..., h, w, c], and `fc5` [..., F], the descriptor (`fc5_linear` before its ReLU).
`streetnet` is the variant of the network of Zamir et al. (ECCV 2016) whose fc5 has 512 units;
`compact` is the smaller one. `imagenet` has networks trained to classify; `network.Network` is the
base class of all.
"""

import jax
from flax import linen as nn

from posenet_jax.encoders.network import Network
from posenet_jax.nn.layers import (
    FewChannelConv,
    StridedConv,
    UnitStrideConv,
    local_response_norm,
    max_pool,
)

Array = jax.Array

TAPS = ("conv1", "conv2", "conv3", "conv4", "fc5")


def _conv(features: int, size: int, *, stride: int = 1, padding: int = 0, name: str) -> nn.Conv:
    return nn.Conv(
        features,
        (size, size),
        strides=stride,
        padding=padding,
        kernel_init=nn.initializers.he_normal(),
        name=name,
    )


def _descriptor(features: Array, units: int) -> Array:
    flat = features.reshape((*features.shape[:-3], -1))
    # A small positive bias keeps units alive that the first steps would otherwise silence for good.
    bias_init = nn.initializers.constant(0.1)
    dense = nn.Dense(
        units, kernel_init=nn.initializers.he_normal(), bias_init=bias_init, name="fc5"
    )
    return dense(flat)


class StreetNet(Network):
    """2.23 M parameters, 0.19 GFLOP an image forward.

    lrn_alpha is 1e-4 for images in 0-255 units; see `posenet_jax.training.pose_training` for why it
    is a field.
    """

    descriptor_size: int = 512
    lrn_alpha: float = 1e-4

    architecture = "streetnet"
    taps = TAPS
    can_train = True

    @classmethod
    def for_training(cls, descriptor_size: int, gain: float) -> "StreetNet":
        """Its local response normalisation, not homogeneous, takes the gain into its alpha."""
        return cls(descriptor_size, lrn_alpha=cls.lrn_alpha * gain**2)

    @nn.compact
    def __call__(self, images: Array) -> dict[str, Array]:
        taps = {}
        x = taps["conv1"] = nn.relu(StridedConv(96, 7, stride=3, name="conv1")(images))
        x = local_response_norm(max_pool(x), alpha=self.lrn_alpha)
        x = taps["conv2"] = nn.relu(UnitStrideConv(128, 5, padding=2, groups=2, name="conv2")(x))
        x = local_response_norm(max_pool(x), alpha=self.lrn_alpha)
        x = taps["conv3"] = nn.relu(UnitStrideConv(256, 3, padding=1, name="conv3")(x))
        x = taps["conv4"] = nn.relu(UnitStrideConv(256, 3, name="conv4")(x))
        taps["fc5_linear"] = _descriptor(max_pool(x), self.descriptor_size)
        taps["fc5"] = nn.relu(taps["fc5_linear"])
        return taps


class Compact(Network):
    """Four small convolutions, each with 2×2 pooling; 0.61 M parameters."""

    descriptor_size: int = 512

    architecture = "compact"
    taps = TAPS
    can_train = True

    @nn.compact
    def __call__(self, images: Array) -> dict[str, Array]:
        taps = {}
        x = taps["conv1"] = nn.relu(FewChannelConv(20, 7, name="conv1")(images))
        x = max_pool(x, 2, 2)
        x = taps["conv2"] = nn.relu(_conv(40, 5, padding=2, name="conv2")(x))
        x = max_pool(x, 2, 2)
        x = taps["conv3"] = nn.relu(_conv(80, 4, name="conv3")(x))
        x = max_pool(x, 2, 2)
        x = taps["conv4"] = nn.relu(_conv(160, 4, stride=2, name="conv4")(x))
        taps["fc5_linear"] = _descriptor(max_pool(x, 2, 2), self.descriptor_size)
        taps["fc5"] = nn.relu(taps["fc5_linear"])
        return taps
