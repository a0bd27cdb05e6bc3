"""Networks in plain PyTorch: an oracle for the tests, a peer for the benchmarks.

Images are [B, 3, H, W], taps [B, C, h, w] and [B, F]. The only module that needs PyTorch when it is
imported; import it where PyTorch is known to be there.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from flax import traverse_util

Tensor = torch.Tensor
Weights = dict[str, Tensor]


def from_flax(params: Mapping[str, Any], dtype: torch.dtype = torch.float32) -> Weights:
    """`conv1.weight` [out, in / groups, k, k], `conv1.bias`, … of an encoder's parameters.

    A layer inside another has both names, with a point between.
    """
    weights = {}
    for path, value in traverse_util.flatten_dict(params).items():
        layer, kind, array = ".".join(path[:-1]), path[-1], np.asarray(value)
        if kind == "kernel" and array.ndim == 4:
            array = array.transpose(3, 2, 0, 1)
        elif kind == "kernel" and layer == "fc5":
            array = _channels_first_rows(array, np.shape(params["conv4"]["kernel"])[-1])
        elif kind == "kernel":
            array = array.T
        weights[f"{layer}.{'weight' if kind == 'kernel' else kind}"] = _tensor(array, dtype)
    return weights


def _channels_first_rows(kernel: np.ndarray, channels: int) -> np.ndarray:
    """[F, C·h·w] of fc5's kernel [h·w·C, F]: Flax flattens channels last, PyTorch first."""
    side = math.isqrt(kernel.shape[0] // channels)
    spatial = kernel.reshape(side, side, channels, -1)
    return spatial.transpose(3, 2, 0, 1).reshape(kernel.shape[1], -1)


def _tensor(array: Any, dtype: torch.dtype) -> Tensor:
    return torch.tensor(np.array(array), dtype=dtype)


def channels_first(images: Any) -> Tensor:
    """[B, C, H, W] tensor of an array [B, H, W, C], laid out channels last, as it arrives."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)


def channels_last(tap: Tensor) -> np.ndarray:
    """[B, h, w, C] of a tap [B, C, h, w]; a descriptor [B, F] as it is."""
    tap = tap.detach()
    return (tap.permute(0, 2, 3, 1) if tap.ndim == 4 else tap).numpy()


def streetnet(weights: Weights, images: Tensor) -> dict[str, Tensor]:
    """Every tap of streetnet."""
    taps = {}
    x = taps["conv1"] = _conv_relu(weights, "conv1", images, stride=3)
    x = _normalise(F.max_pool2d(x, 3, 2, ceil_mode=True))
    x = taps["conv2"] = _conv_relu(weights, "conv2", x, padding=2, groups=2)
    x = _normalise(F.max_pool2d(x, 3, 2, ceil_mode=True))
    x = taps["conv3"] = _conv_relu(weights, "conv3", x, padding=1)
    x = taps["conv4"] = _conv_relu(weights, "conv4", x)
    taps["fc5"] = _descriptor(weights, F.max_pool2d(x, 3, 2, ceil_mode=True))
    return taps


def compact(weights: Weights, images: Tensor) -> dict[str, Tensor]:
    """Every tap of compact."""
    taps = {}
    x = images
    for layer, options in (
        ("conv1", {}),
        ("conv2", {"padding": 2}),
        ("conv3", {}),
        ("conv4", {"stride": 2}),
    ):
        taps[layer] = _conv_relu(weights, layer, x, **options)
        x = F.max_pool2d(taps[layer], 2, 2, ceil_mode=True)
    taps["fc5"] = _descriptor(weights, x)
    return taps


def resnet18(weights: Weights, images: Tensor) -> dict[str, Tensor]:
    """The taps of ResNet-18 and 34, batch normalisation in the convolutions, as in the weights."""
    taps = {}
    x = taps["stem"] = _conv_relu(weights, "conv1", images, stride=2, padding=3)
    x = F.max_pool2d(x, 3, 2, padding=1)
    for stage in range(1, 5):
        blocks = sum(name.startswith(f"layer{stage}.") for name in weights if "conv1.bias" in name)
        for number in range(blocks):
            x = _block(weights, f"layer{stage}.{number}", x, 2 if stage > 1 and not number else 1)
            taps[f"layer{stage}" + (f".{number}" if number < blocks - 1 else "")] = x
    taps["features"] = x.mean((2, 3))
    return taps


NETWORKS = {"streetnet": streetnet, "compact": compact, "resnet18": resnet18}


def _block(weights: Weights, name: str, x: Tensor, stride: int) -> Tensor:
    """Two convolutions, added to what they read."""
    y = _conv_relu(weights, f"{name}.conv1", x, stride=stride, padding=1)
    y = F.conv2d(y, weights[f"{name}.conv2.weight"], weights[f"{name}.conv2.bias"], padding=1)
    if f"{name}.downsample.weight" in weights:
        own = (weights[f"{name}.downsample.{part}"] for part in ("weight", "bias"))
        x = F.conv2d(x, *own, stride=stride)
    return F.relu(x + y)


def _conv_relu(weights: Weights, layer: str, x: Tensor, **options: int) -> Tensor:
    return F.relu(F.conv2d(x, weights[f"{layer}.weight"], weights[f"{layer}.bias"], **options))


def _normalise(x: Tensor) -> Tensor:
    return F.local_response_norm(x, size=5, alpha=1e-4, beta=0.75, k=1.0)


def _descriptor(weights: Weights, x: Tensor) -> Tensor:
    return F.relu(F.linear(x.flatten(1), weights["fc5.weight"], weights["fc5.bias"]))
