"""Units that an encoder is trained in: images, and with them its descriptor, divided by GAIN.

Gauge. The network reads 0-255 units, whose activations are about a hundred, while Adam moves every
weight and bias by about one learning rate a step, whatever its scale. Training therefore runs on
images divided by GAIN, with LRN's alpha multiplied by GAIN². Convolution, ReLU, pooling and LRN
(with its alpha so changed) are homogeneous, so the network in 0-255 units has the same kernels and
GAIN times the biases, and heads read its descriptor with kernels divided by GAIN: an exact change
of units, made once when training begins with an encoder, and once on export.
"""

from typing import Any

import jax

Array = jax.Array

GAIN = 64.0

_READ_DESCRIPTOR = ("common_fc", "normal", "fc_1")


def enlarged(encoder_params: Any, gain: float) -> Any:
    """Returns the encoder's weights for images `gain` times as large."""

    def enlarge(path: tuple[Any, ...], value: Array) -> Array:
        return value * gain if path[-1].key == "bias" else value

    return jax.tree_util.tree_map_with_path(enlarge, encoder_params)


def reading_enlarged(head_params: Any, gain: float) -> Any:
    """Returns weights of heads, or of their correction, for descriptors `gain` times as large."""

    def shrink(path: tuple[Any, ...], value: Array) -> Array:
        layer, tensor = path[-2].key, path[-1].key
        return value / gain if layer in _READ_DESCRIPTOR and tensor == "kernel" else value

    return jax.tree_util.tree_map_with_path(shrink, head_params)
