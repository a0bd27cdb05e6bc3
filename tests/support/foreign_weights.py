"""Random weights of this package's networks, named and laid out as PyTorch and Caffe have them."""

import types

import numpy as np
from flax import traverse_util

import posenet_jax


def theirs(network):
    """A `state_dict` of random weights, by the names that PyTorch has for the network's."""
    encoder = posenet_jax.random_encoder(network)
    found = {}
    for name, value in traverse_util.flatten_dict(encoder.params, sep="/").items():
        layer, _, part = name.rpartition("/")
        array = np.asarray(value)
        if part == "kernel":
            array = array.transpose((3, 2, 0, 1) if array.ndim == 4 else (1, 0))
        layer = network.foreign.get(layer or part, layer.replace("/", "."))
        suffix = {"kernel": ".weight", "scale": ".weight", "bias": ".bias"}.get(part, "")
        found[layer + suffix] = np.ascontiguousarray(array)  # save_file writes memory as it lies
    for layer, norm in network.normed.items():
        shift = found.pop(f"{network.foreign[layer]}.bias")
        ones = np.ones_like(shift)
        found |= {f"{norm}.weight": ones, f"{norm}.bias": shift}
        found |= {f"{norm}.running_mean": 0 * ones, f"{norm}.running_var": ones}
    return found


def caffe(network):
    """A module `caffe` whose one network has random weights: no package has the real one."""
    arrays = theirs(network)
    layers = {name.removesuffix(".bias") for name in arrays if name.endswith(".bias")}
    params = {
        layer: [
            types.SimpleNamespace(data=arrays[f"{layer}.{part}"]) for part in ("weight", "bias")
        ]
        for layer in layers
    }
    net = types.SimpleNamespace(params=params)
    return types.SimpleNamespace(TEST=1, Net=lambda model, weights, phase: net)
