"""Two ImageNet networks, to set beside one trained for pose: they name objects, not places.

Input and taps as in `streetnet`: float32 [..., H, W, 3] in mean-subtracted space (BGR, 0-255
units), here of any size from 63 pixels up, and a tap is a layer's output after its ReLU and before
its pooling. Dropout, which does nothing once a network is trained, is left out.
"""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from posenet_jax.encoders.network import Network
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.nn.layers import max_pool

Array = jax.Array

CLASSES = 1000

TORCHVISION = Preprocessing(means=(0.406 * 255, 0.456 * 255, 0.485 * 255))
"""Image space of torchvision's networks, once `importing.fold_torchvision` has changed conv1."""

_conv = functools.partial(nn.Conv, padding=0, kernel_init=nn.initializers.he_normal())
_dense = functools.partial(nn.Dense, kernel_init=nn.initializers.he_normal())


def floor_max_pool(x: Array, window: int = 3, stride: int = 2) -> Array:
    """Max-pooling of [..., H, W, C] whose last window ends inside the image, PyTorch's default."""
    height, width = (side - (side - window) % stride for side in x.shape[-3:-1])
    return max_pool(x[..., :height, :width, :], window, stride)


def adaptive_mean_pool(x: Array, size: int) -> Array:
    """[..., size, size, C] of [..., H, W, C]: means over PyTorch's adaptive windows.

    Of n pixels, window i begins at floor(i·n/size) and ends before ceil((i+1)·n/size): windows
    overlap where the size does not divide n, and repeat pixels where there are fewer than `size`.
    """
    down, across = (jnp.asarray(_windows(side, size), x.dtype) for side in x.shape[-3:-1])
    # Full precision: on GPU a default matrix product would round to ten bits.
    return jnp.einsum("ih,jw,...hwc->...ijc", down, across, x, precision=lax.Precision.HIGHEST)


def _windows(length: int, size: int) -> np.ndarray:
    """[size, length] each pixel's share in each window."""
    shares = np.zeros((size, length))
    for i, row in enumerate(shares):
        window = slice(i * length // size, -(-(i + 1) * length // size))
        row[window] = 1.0 / (window.stop - window.start)
    return shares


class AlexNet(Network):
    """torchvision's AlexNet, that of Krizhevsky's "One weird trick" (2014): one column, no LRN.

    61.1 M parameters. Taps: conv1 to conv5 [..., h, w, C], fc6 and fc7 [..., 4096], and fc8
    [..., 1000], the class scores, which pass through no ReLU.
    """

    architecture = "alexnet"
    taps = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
    image_space = TORCHVISION
    # Names of layers there are their places in a sequence.
    foreign = types.MappingProxyType(
        {f"conv{i}": f"features.{place}" for i, place in enumerate((0, 3, 6, 8, 10), start=1)}
        | {f"fc{i}": f"classifier.{place}" for i, place in enumerate((1, 4, 6), start=6)}
    )

    @nn.compact
    def __call__(self, images: Array) -> dict[str, Array]:
        taps = {}
        x = _conv(64, (11, 11), strides=4, padding=2, name="conv1")(images)
        x = taps["conv1"] = nn.relu(x)
        x = _conv(192, (5, 5), padding=2, name="conv2")(floor_max_pool(x))
        x = taps["conv2"] = nn.relu(x)
        x = taps["conv3"] = nn.relu(_conv(384, (3, 3), padding=1, name="conv3")(floor_max_pool(x)))
        x = taps["conv4"] = nn.relu(_conv(256, (3, 3), padding=1, name="conv4")(x))
        x = taps["conv5"] = nn.relu(_conv(256, (3, 3), padding=1, name="conv5")(x))
        x = adaptive_mean_pool(floor_max_pool(x), 6)
        x = x.reshape((*x.shape[:-3], -1))
        x = taps["fc6"] = nn.relu(_dense(4096, name="fc6")(x))
        x = taps["fc7"] = nn.relu(_dense(4096, name="fc7")(x))
        taps["fc8"] = _dense(CLASSES, name="fc8")(x)
        return taps


class Fire(nn.Module):
    """A 1×1 convolution to few channels, then a 1×1 and a 3×3 to many, side by side."""

    squeezed: int
    expanded: int  # by each of the two

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.relu(_conv(self.squeezed, (1, 1), name="squeeze1x1")(x))
        expanded = [
            _conv(self.expanded, (1, 1), name="expand1x1")(x),
            _conv(self.expanded, (3, 3), padding=1, name="expand3x3")(x),
        ]
        return nn.relu(jnp.concatenate(expanded, axis=-1))


_FIRES = {
    "fire2": (16, 64),
    "fire3": (16, 64),
    "fire4": (32, 128),
    "fire5": (32, 128),
    "fire6": (48, 192),
    "fire7": (48, 192),
    "fire8": (64, 256),
    "fire9": (64, 256),
}

_FIRE_PARTS = {"squeeze1x1": "squeeze", "expand1x1": "expand1x1", "expand3x3": "expand3x3"}


class SqueezeNet(Network):
    """SqueezeNet 1.1 (Iandola et al. 2016): about as good at ImageNet as AlexNet, and not AlexNet.

    1.24 M parameters. Taps: conv1, fire2 to fire9 and conv10 [..., h, w, C]; `features` [..., 512],
    fire9's mean over positions; and `scores` [..., 1000], conv10's, by which classes are ranked.
    """

    architecture = "squeezenet"
    taps = ("conv1", *_FIRES, "features", "conv10", "scores")
    foreign = types.MappingProxyType(
        {"conv1": "features.0", "conv10": "classifier.1"}
        | {
            f"{fire}/{ours}": f"features.{place}.{theirs}"
            for fire, place in zip(_FIRES, (3, 4, 6, 7, 9, 10, 11, 12), strict=True)
            for ours, theirs in _FIRE_PARTS.items()
        }
    )

    @nn.compact
    def __call__(self, images: Array) -> dict[str, Array]:
        taps = {}
        x = taps["conv1"] = nn.relu(_conv(64, (3, 3), strides=2, name="conv1")(images))
        for name, (squeezed, expanded) in _FIRES.items():
            if name in ("fire2", "fire4", "fire6"):
                x = max_pool(x)
            x = taps[name] = Fire(squeezed, expanded, name=name)(x)
        taps["features"] = x.mean(axis=(-3, -2))
        x = taps["conv10"] = nn.relu(_conv(CLASSES, (1, 1), name="conv10")(x))
        taps["scores"] = x.mean(axis=(-3, -2))
        return taps
