"""Weights of PyTorch and of Caffe as parameters of this package's networks, each name checked.

Both frameworks keep a convolution as [out, in / groups, k, k] and a dense layer as [out, in], whose
inputs are an image flattened channels first. Here a kernel is [k, k, in / groups, out] or [in, out]
and images are flattened channels last. All of them correlate, none turns a kernel around, and
groups divide the outputs in the same order: nothing but axes moves.
"""

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
from posenet_jax.encoders.network import IMAGENET, Network, Normalisation
from posenet_jax.errors import InputError
from posenet_jax.io.tensors import Shape, check_arrays

Array = jax.Array
Order = Literal["OIHW", "HWIO"]

# What PyTorch's wrappers call the network inside them: parallel, compiled, sharded, recomputed.
_WRAPPERS = frozenset(("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))
_MOST_SHARED = 8  # parts; no network lies deeper in another

# A parameter's name in PyTorch by its name in Flax.
_PARTS = {"kernel": "weight", "scale": "weight", "bias": "bias"}


def from_torch(
    module: nn.Module,
    tensors: Mapping[str, Any],
    *,
    size: int | None = None,
    origin: str | Path = "state_dict",
) -> dict[str, Any]:
    """Parameters of `module` from a PyTorch `state_dict` of the same network, as NumPy arrays.

    Names are torchvision's for AlexNet, SqueezeNet (`features.0.weight`, …) and residual networks,
    timm's for vision transformers, and those of this package for the others: `conv1.weight`,
    `conv1.bias`, …, `fc5.bias`; see `unwrapped` for what may stand before them. Batch normalisation
    becomes part of the convolution before it.
    size: of the module's images, pixels; None: its image space's. origin: what messages begin with.
    Raises InputError, naming the array, where one is missing, unknown, of another shape or not
    finite.
    """
    network = _network(module)
    if size is None:
        size = network.image_space.side
    flat = traverse_util.flatten_dict(parameter_shapes(module, size)[0], sep="/")
    wanted = {name: array.shape for name, array in flat.items()}
    names = {name: _foreign_name(name, network.foreign) for name in wanted}
    known = frozenset(names.values()) | network.signature
    bare = unwrapped(tensors, known)
    given = {bare[name]: np.asarray(array, np.float32) for name, array in tensors.items()}
    try:
        arrays = network.rearranged(_without_counts(given, network), size)
    except InputError as error:
        raise InputError(f"{origin}: {error}") from error
    folded = _fold_norms(origin, arrays, network, names)
    return _converted(origin, folded, names, wanted, "OIHW", flattens=network.flattens)


def _network(module: nn.Module) -> Network:
    """The module, or of another's, a network that says nothing of itself."""
    return module if isinstance(module, Network) else Network()


def _foreign_name(name: str, foreign: Mapping[str, str]) -> str:
    """Name of a parameter in a `state_dict`, of its name with slashes here."""
    layer, _, kind = name.rpartition("/")
    if kind not in _PARTS:
        return foreign.get(name, name.replace("/", "."))
    return f"{foreign.get(layer, layer.replace('/', '.'))}.{_PARTS[kind]}"


def _without_counts(arrays: Mapping[str, np.ndarray], network: Network) -> dict[str, np.ndarray]:
    """The arrays but for the numbers of batches that normalisations have seen."""
    counts = {f"{norm}.num_batches_tracked" for norm in network.normed.values()}
    return {name: array for name, array in arrays.items() if name not in counts}


def _fold_norms(
    origin: str | Path,
    arrays: dict[str, np.ndarray],
    network: Network,
    names: Mapping[str, str],
) -> dict[str, np.ndarray]:
    """The arrays with each normalisation, (y - mean)·scale + shift, in the convolution before it.

    scale = weight / √(variance + ε); computed in float64.
    """
    folded = dict(arrays)
    for layer, norm in network.normed.items():
        kernel, bias = names[f"{layer}/kernel"], names[f"{layer}/bias"]
        own = [f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        for name in (kernel, *own):
            if name not in arrays:
                raise InputError(f"{origin}: {name} is missing")
        shape = arrays[kernel].shape[:1]
        check_arrays(origin, {name: folded.pop(name) for name in own}, dict.fromkeys(own, shape))
        weight, shift, mean, variance = (arrays[name].astype(np.float64) for name in own)
        if variance.min(initial=0.0) < 0:
            raise InputError(f"{origin}: {own[-1]} holds negative variances")
        scale = weight / np.sqrt(variance + network.norm_epsilon)
        before = arrays[bias] if bias in arrays else 0.0
        kernels = arrays[kernel] * scale.reshape((-1,) + (1,) * (arrays[kernel].ndim - 1))
        folded[kernel] = kernels.astype(np.float32)
        folded[bias] = (shift + (before - mean) * scale).astype(np.float32)
    return folded


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
    arrays: dict[str, np.ndarray] = {}
    for layer, blobs in layers.items():
        if len(blobs) != 2:
            raise InputError(f"{origin}: {layer} must have weights and a bias")
        weights, bias = (np.asarray(blob, np.float32) for blob in blobs)
        arrays |= {f"{layer}/weights": weights, f"{layer}/bias": bias}
    flat = traverse_util.flatten_dict(parameter_shapes(module, size)[0], sep="/")
    wanted = {name: array.shape for name, array in flat.items()}
    names = {name: f"{name.removesuffix('/kernel')}/weights" for name in wanted}
    names |= {name: name for name in wanted if name.endswith("/bias")}
    return _converted(origin, arrays, names, wanted, order, flattens=_network(module).flattens)


def _converted(
    origin: str | Path,
    arrays: Mapping[str, np.ndarray],
    names: Mapping[str, str],
    wanted: Mapping[str, Shape],
    order: Order,
    *,
    flattens: bool,
) -> dict[str, Any]:
    """Parameters of the shapes `wanted`; names: of each in `arrays`."""
    kernels = [name for name in wanted if name.endswith("/kernel") and order == "OIHW"]
    theirs = {name: _channels_first_shape(wanted[name]) for name in kernels}
    check_arrays(origin, arrays, {names[k]: theirs.get(k, shape) for k, shape in wanted.items()})
    flat = {name: arrays[names[name]] for name in wanted}
    for name in kernels:
        channels = _image_channels(name, wanted) if flattens else 0
        flat[name] = _channels_last(flat[name], channels)
    return jax.device_put(traverse_util.unflatten_dict(flat, sep="/"))


def _image_channels(name: str, wanted: Mapping[str, Shape]) -> int:
    """Channels of the image that a dense layer reads flattened; 0 where it reads a vector."""
    kernels = {name: shape for name, shape in wanted.items() if name.endswith("/kernel")}
    if name != min((name for name, shape in kernels.items() if len(shape) == 2), default=""):
        return 0
    return kernels[max(name for name, shape in kernels.items() if len(shape) == 4)][-1]


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


def recognise(names: Iterable[str]) -> type[Network] | None:
    """The network with most of these `state_dict` names, by share of its own; None: none has any.

    Of two that have all of theirs, it is the one that has more.
    """
    known = {kind: signature(kind) for kind in NETWORKS.values()}
    known = {kind: own for kind, own in known.items() if own}
    given = frozenset(unwrapped(names, frozenset().union(*known.values())).values())
    common = {kind: (len(own & given) / len(own), len(own)) for kind, own in known.items()}
    best = max(common, key=lambda kind: common[kind])
    return best if common[best][0] else None


def signature(kind: type[Network]) -> frozenset[str]:
    """Names by which a network's `state_dict` is known; none where only this package has it."""
    return kind.signature or frozenset(f"{prefix}.weight" for prefix in kind.foreign.values())


def network_of(tensors: Mapping[str, Any], origin: str | Path = "state_dict") -> Network | None:
    """The network that a `state_dict` belongs to, its sizes those of the arrays; None: not known.

    Raises InputError where it is known and cannot be read.
    """
    kind = recognise(tensors)
    if kind is None:
        return None
    bare = unwrapped(tensors, signature(kind))
    try:
        return kind.for_arrays({bare[name]: tuple(a.shape) for name, a in tensors.items()})
    except InputError as error:
        raise InputError(f"{origin}, read as {kind.__name__}: {error}") from error


def fold_torchvision(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters for images in mean-subtracted space, BGR, as `imagenet.TORCHVISION` says."""
    return folded(params, "conv1", IMAGENET)


def folded(params: Mapping[str, Any], first: str, normalisation: Normalisation) -> dict[str, Any]:
    """The parameters for images in mean-subtracted space, BGR, of 0-255.

    Those given are for RGB, (value - mean)/deviation: the kernel of `first` takes the divisor,
    channel by channel, and the order. That is exact at the border too: the zeros that a convolution
    pads with are the mean colour in either space.
    """
    layer = params[first]
    divisor = np.asarray(normalisation.deviation).reshape((1, 1, 3, 1))
    kernel = (np.asarray(layer["kernel"], np.float64) / divisor)[:, :, ::-1]
    return {**params, first: {**layer, "kernel": jnp.asarray(kernel, jnp.float32)}}
