"""Offers of the page: encoders with their layers and decoders, recipes, bundled pictures."""

import functools
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from posenet_jax.decoders import decoding
from posenet_jax.decoders.decoding import Decoder
from posenet_jax.encoders import weights
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.errors import InputError
from posenet_jax.inversion.recipes import RECIPES, Recipe

DEMO_IMAGES = Path(__file__).parents[1] / "demo_images"


class Program(NamedTuple):
    """Choices that decide which compiled program inverts."""

    encoder: str
    layer: str
    recipe: str


class Catalogue:
    """Encoders by name, each loaded when it is first asked for; only those that are offered."""

    def __init__(self, encoders: Sequence[str], default: Program) -> None:
        """Raises InputError where the default's encoder or layer is not there."""
        self.encoders = tuple(dict.fromkeys((default.encoder, *encoders)))
        self.default = default
        self._lock = threading.Lock()
        self.encoder(default.encoder).tap(default.layer)

    def encoder(self, name: Any) -> Encoder:
        """Returns an encoder; InputError for one that is not offered."""
        if name not in self.encoders:
            raise InputError(f"no encoder {name!r} here; there are {', '.join(self.encoders)}")
        with self._lock:
            return _loaded(name)

    def recipe(self, name: Any) -> Recipe:
        """Returns a recipe; InputError for one that there is not."""
        if name not in RECIPES:
            raise InputError(f"no recipe {name!r}; there are {', '.join(RECIPES)}")
        return RECIPES[name]

    def decoders(self, encoder: str, layer: str) -> list[str]:
        """Returns the names of the bundled decoders of a layer."""
        return decoding.bundled(self.encoder(encoder), layer)

    def decoder(self, encoder: str, layer: str, name: Any) -> Decoder:
        """Returns a bundled decoder of a layer; InputError where it is none of these."""
        names = self.decoders(encoder, layer)
        if name not in names:
            there = f"there are {', '.join(names)}" if names else "there is none"
            raise InputError(f"no decoder {name!r} for {layer} of {encoder}; {there}")
        with self._lock:
            return _decoder(encoder, layer, name)

    def record(self) -> dict[str, Any]:
        """Returns what the page shows before anything is chosen."""
        return {
            "encoders": list(self.encoders),
            "default": self.default._asdict(),
            "recipes": {name: int(recipe.steps) for name, recipe in RECIPES.items()},
            "demo": demo_images(),
        }

    def encoder_record(self, name: str) -> dict[str, Any]:
        """Returns what an encoder has: layers, the decoders of each, pose heads, image size."""
        encoder = self.encoder(name)
        layers = {layer: self.decoders(name, layer) for layer in encoder.taps}
        space = encoder.preprocessing
        return {
            "name": name,
            "layers": layers,
            "poses": encoder.predicts_poses,
            "size": [space.height, space.width],
        }


def demo_images() -> list[str]:
    """Returns the names of the bundled pictures."""
    files = sorted(DEMO_IMAGES.iterdir())
    return [file.name for file in files if file.suffix in (".jpg", ".png")]


@functools.lru_cache(maxsize=16)
def _loaded(name: str) -> Encoder:
    return weights.load_encoder(name)


@functools.lru_cache(maxsize=16)
def _decoder(encoder: str, layer: str, name: str) -> Decoder:
    return decoding.decoder_for(_loaded(encoder), layer, name)
