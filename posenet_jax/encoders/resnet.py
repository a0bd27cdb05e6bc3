"""Residual networks of He et al. (2015), as torchvision and timm have them, at 224 pixels.

Batch normalisation, in evaluation, is part of the convolution before it (`importing`). Taps: `stem`
[..., h, w, C], after its ReLU and before its pooling; every block, the last of a stage under the
stage's name: `layer1.0`, `layer1`, …, `layer4`; `features` [..., C], the mean of `layer4` over
positions; and `scores` [..., 1000] of the classes, where the weights have them.
"""

import re
from collections.abc import Iterator, Mapping
from typing import ClassVar, Self

import jax
from flax import linen as nn

from posenet_jax.encoders.imagenet import CLASSES
from posenet_jax.encoders.network import IMAGENET, Network
from posenet_jax.errors import InputError
from posenet_jax.nn.layers import UnitStrideConv
from posenet_jax.nn.stem import StemConv, halving_max_pool

Array = jax.Array

_COUNT = range(1, 2**12)
_STAGES = 4


# From so many channels on a 3×3 convolution in Winograd's form is faster on a CPU: with fewer,
# evaluating the tiles takes what the products save.
_MANY_CHANNELS = 64


def _conv(features: int, size: int, stride: int, name: str) -> nn.Module:
    """A convolution padded by half its kernel; one of 3×3 without a stride reads its `features`."""
    if size == 3 and stride == 1 and features >= _MANY_CHANNELS:
        return UnitStrideConv(features, size, padding=1, tile=4, name=name)
    return nn.Conv(
        features,
        (size, size),
        strides=stride,
        padding=size // 2,
        kernel_init=nn.initializers.he_normal(),
        name=name,
    )


class Block(nn.Module):
    """Two 3×3 convolutions, or a 3×3 between two 1×1 of fewer channels, added to what they read."""

    channels: int
    stride: int
    bottleneck: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        if self.bottleneck:
            y = nn.relu(_conv(self.channels, 1, 1, "conv1")(x))
            y = nn.relu(_conv(self.channels, 3, self.stride, "conv2")(y))
            y = _conv(4 * self.channels, 1, 1, "conv3")(y)
        else:
            y = nn.relu(_conv(self.channels, 3, self.stride, "conv1")(x))
            y = _conv(self.channels, 3, 1, "conv2")(y)
        if self.stride > 1 or x.shape[-1] != y.shape[-1]:
            x = _conv(y.shape[-1], 1, self.stride, "downsample")(x)
        return nn.relu(x + y)


class ResNet18(Network):
    """Blocks of two convolutions: ResNet-18, 11.7 M parameters, and with other `blocks` ResNet-34.

    blocks: in each of four stages. width: channels of the first stage. classes: 0 where the weights
    have no layer of classes.
    """

    blocks: tuple[int, ...] = (2, 2, 2, 2)
    width: int = 64
    classes: int = CLASSES

    architecture = "resnet18"
    image_space = IMAGENET.space(224)
    saved_fields: ClassVar = {"blocks": [range(1, 50)], "width": _COUNT, "classes": range(2**20)}
    flattens = False
    bottleneck: ClassVar[bool] = False
    signature = frozenset(f"layer{stage}.0.bn2.running_var" for stage in range(1, 5))

    def __post_init__(self) -> None:
        if len(self.blocks) != _STAGES:
            raise InputError(f"a residual network has {_STAGES} stages, not {len(self.blocks)}")
        super().__post_init__()

    @property
    def taps(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the layers, from the image on."""
        named = (tap for _, tap, _ in self._named_blocks())
        return ("stem", *named, "features", *(["scores"] if self.classes else []))

    def _named_blocks(self) -> Iterator[tuple[str, str, int]]:
        """Yields each block's name in weights, its tap, and its stage from 0."""
        for stage, count in enumerate(self.blocks):
            for number in range(count):
                name = f"layer{stage + 1}.{number}"
                yield name, f"layer{stage + 1}" if number == count - 1 else name, stage

    @property
    def foreign(self) -> Mapping[str, str]:  # type: ignore[override]
        """torchvision's names of the layers."""
        layers = {"conv1": "conv1"} | ({"fc": "fc"} if self.classes else {})
        return layers | {
            f"{block}/{part}": f"{block}.{part}{'.0' if part == 'downsample' else ''}"
            for block, part in self._convolutions()
        }

    @property
    def normed(self) -> Mapping[str, str]:  # type: ignore[override]
        """torchvision's names of the normalisation after each convolution."""
        return {"conv1": "bn1"} | {
            f"{block}/{part}": f"{block}.downsample.1"
            if part == "downsample"
            else f"{block}.bn{part[-1]}"
            for block, part in self._convolutions()
        }

    def _convolutions(self) -> Iterator[tuple[str, str]]:
        """Yields block and name of every convolution but the first."""
        for block, _, stage in self._named_blocks():
            for number in range(1, 4 if self.bottleneck else 3):
                yield block, f"conv{number}"
            if block.endswith(".0") and (stage > 0 or self.bottleneck):
                yield block, "downsample"

    @classmethod
    def for_arrays(cls, shapes: Mapping[str, tuple[int, ...]]) -> Self:
        """Returns the network of as many blocks, channels and classes as the arrays have."""
        for name in ("conv1.weight", *(f"layer{stage}.0.conv1.weight" for stage in range(1, 5))):
            if name not in shapes:
                raise InputError(f"{name} is missing")
        found = [
            sum(bool(re.fullmatch(rf"layer{stage}\.\d+\.conv1\.weight", name)) for name in shapes)
            for stage in range(1, _STAGES + 1)
        ]
        classes = shapes["fc.weight"][0] if "fc.weight" in shapes else 0
        return cls(blocks=tuple(found), width=shapes["conv1.weight"][0], classes=classes)

    @nn.compact
    def __call__(self, images: Array) -> dict[str, Array]:
        taps = {}
        x = taps["stem"] = nn.relu(StemConv(self.width, 7, stride=2, name="conv1")(images))
        x = halving_max_pool(x)
        for name, tap, stage in self._named_blocks():
            stride = 2 if stage and name.endswith(".0") else 1
            channels = self.width * 2**stage
            x = taps[tap] = Block(channels, stride, self.bottleneck, name=name)(x)
        x = taps["features"] = x.mean(axis=(-3, -2))
        if self.classes:
            taps["scores"] = nn.Dense(self.classes, name="fc")(x)
        return taps


class ResNet50(ResNet18):
    """Blocks of three convolutions: ResNet-50, 25.6 M parameters; with other `blocks` 101, 152."""

    blocks: tuple[int, ...] = (3, 4, 6, 3)

    architecture = "resnet50"
    bottleneck: ClassVar[bool] = True
    signature = ResNet18.signature | {f"layer{stage}.0.bn3.running_var" for stage in range(1, 5)}
