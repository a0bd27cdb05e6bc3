"""EfficientNet-Lite0 (Tan & Le 2019, without squeeze-and-excitation and with ReLU6), at 224 pixels.

Padding is TensorFlow's "SAME". Batch normalisation, in evaluation, is part of the convolution
before it (`importing`). 4.65 M parameters.
"""

import types
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from posenet_jax.encoders.imagenet import CLASSES
from posenet_jax.encoders.network import Network, Normalisation
from posenet_jax.nn.depthwise import DepthwiseConv

Array = jax.Array

TENSORFLOW = Normalisation(mean=(127.0, 127.0, 127.0), deviation=(128.0, 128.0, 128.0))
"""Normalisation of EfficientNet-Lite's images."""


class _Stage(NamedTuple):
    """Blocks of one kind; the first of them has the stride."""

    blocks: int
    kernel_size: int
    stride: int
    expansion: int  # the depthwise convolution's channels, as a multiple of those read
    features: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
_BLOCKS = {
    f"block{number}": block
    for number, block in enumerate(
        stage._replace(stride=1 if repeat else stage.stride)
        for stage in _STAGES
        for repeat in range(stage.blocks)
    )
}


def _relu6(x: Array) -> Array:
    return jnp.minimum(nn.relu(x), 6.0)  # no gradient at 0, as in PyTorch


def _conv(features: int, size: int, name: str, *, stride: int = 1, gain: float = 2.0) -> nn.Conv:
    return nn.Conv(
        features,
        (size, size),
        strides=stride,
        padding="SAME",
        kernel_init=nn.initializers.variance_scaling(gain, "fan_in", "truncated_normal"),
        name=name,
    )


def stem() -> nn.Conv:
    """The first layer. Untrained, it divides images as the trained one does, or ReLU6 would leave
    nothing of them but zeros and sixes.
    """
    return _conv(32, 3, "stem", stride=2, gain=2.0 / 128.0**2)


class InvertedBlock(nn.Module):
    """A 1×1 convolution to more channels, a depthwise one, and a 1×1 to few, without ReLU."""

    block: _Stage

    @nn.compact
    def __call__(self, x: Array) -> Array:
        _, kernel_size, stride, expansion, features = self.block
        y = x
        if expansion > 1:
            y = _relu6(_conv(expansion * x.shape[-1], 1, "expand")(y))
        y = _relu6(DepthwiseConv(kernel_size, stride, name="depthwise")(y))
        y = _conv(features, 1, "project", gain=1.0)(y)
        return x + y if x.shape == y.shape else y


_PARTS = {
    "expand": ("_expand_conv", "_bn0"),
    "depthwise": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
}
_LAYERS = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")} | {
    f"{name}/{part}": (f"_blocks.{number}.{conv}", f"_blocks.{number}.{norm}")
    for number, (name, block) in enumerate(_BLOCKS.items())
    for part, (conv, norm) in _PARTS.items()
    if part != "expand" or block.expansion > 1
}


class EfficientNetLite0(Network):
    """75 % of ImageNet's photographs classified correctly, with a tenth of AlexNet's parameters.

    Taps: `stem`, `block0` to `block15` and `head` [..., h, w, C]; `features` [..., 1280], the mean
    of `head` over positions; and `scores` [..., 1000], by which classes are ranked. `stem` and
    `head` are taken after their ReLU6; blocks have none at their end.
    """

    architecture = "efficientnet_lite0"
    taps = ("stem", *_BLOCKS, "head", "features", "scores")
    image_space = TENSORFLOW.space(224)
    normalisation = TENSORFLOW
    norm_epsilon = 1e-3
    first = "stem"
    flattens = False
    foreign = types.MappingProxyType({k: conv for k, (conv, _) in _LAYERS.items()} | {"fc": "_fc"})
    normed: ClassVar = types.MappingProxyType({k: norm for k, (_, norm) in _LAYERS.items()})

    @nn.compact
    def __call__(self, images: Array) -> dict[str, Array]:
        taps = {}
        x = taps["stem"] = _relu6(stem()(images))
        for name, block in _BLOCKS.items():
            x = taps[name] = InvertedBlock(block, name=name)(x)
        x = taps["head"] = _relu6(_conv(1280, 1, "head")(x))
        x = taps["features"] = x.mean(axis=(-3, -2))
        taps["scores"] = nn.Dense(CLASSES, name="fc")(x)
        return taps
