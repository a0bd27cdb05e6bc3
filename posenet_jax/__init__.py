"""Inversion of the descriptors of networks: images that give the same descriptor, in JAX.

encoder = posenet_jax.load_encoder("streetnet")
targets = jax.vmap(encoder.tap("fc5"))(encoder.preprocessing.to_network(images))
result = posenet_jax.invert(
    encoder.tap("fc5"), targets, key=jax.random.key(0), space=encoder.preprocessing
)
pictures = encoder.preprocessing.to_image(result.image)

decoder = posenet_jax.load_decoder("streetnet-fc5")
pictures = encoder.preprocessing.to_image(posenet_jax.decode(decoder, targets))

Of many images, `extract` writes descriptors that `read_descriptors` reads, and `invert_all` inverts
them; both go on where an earlier run ended. `scenes` renders images to try all of it with.
"""

import importlib
from typing import TYPE_CHECKING, Any

from posenet_jax import metrics
from posenet_jax.decoders.decoding import Decoder, decode, load_decoder, save_decoder
from posenet_jax.encoders.encoder import Encoder, Tap
from posenet_jax.encoders.encoder_networks import NETWORKS
from posenet_jax.encoders.importing import from_caffe, from_torch
from posenet_jax.encoders.network import Network
from posenet_jax.encoders.weights import load_encoder, random_encoder, save_encoder
from posenet_jax.errors import ImageError, InputError
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import engine, recipes
from posenet_jax.inversion.descent import Status
from posenet_jax.inversion.engine import Job, Result, invert, run
from posenet_jax.inversion.recipes import RECIPES, Recipe

if TYPE_CHECKING:
    from posenet_jax import scenes
    from posenet_jax.bulk.bulk_inversion import BulkConfig, invert_all
    from posenet_jax.bulk.extraction import ExtractionConfig, extract
    from posenet_jax.data.sources import FolderImages
    from posenet_jax.reconstruction import Reconstruction, reconstruct
    from posenet_jax.shards.descriptor_shards import read_descriptors

__version__ = "0.1.0"

__all__ = [
    "BulkConfig",
    "Decoder",
    "Encoder",
    "ExtractionConfig",
    "FolderImages",
    "ImageError",
    "InputError",
    "Job",
    "NETWORKS",
    "Network",
    "Preprocessing",
    "RECIPES",
    "Recipe",
    "Reconstruction",
    "Result",
    "Status",
    "Tap",
    "decode",
    "engine",
    "extract",
    "from_caffe",
    "from_torch",
    "invert",
    "invert_all",
    "load_decoder",
    "load_encoder",
    "metrics",
    "random_encoder",
    "read_descriptors",
    "recipes",
    "reconstruct",
    "run",
    "save_decoder",
    "save_encoder",
    "scenes",
]

# Imported when first asked for: TensorFlow Datasets alone takes longer than all of the above.
_LATER = {
    "BulkConfig": "posenet_jax.bulk.bulk_inversion",
    "ExtractionConfig": "posenet_jax.bulk.extraction",
    "FolderImages": "posenet_jax.data.sources",
    "Reconstruction": "posenet_jax.reconstruction",
    "extract": "posenet_jax.bulk.extraction",
    "invert_all": "posenet_jax.bulk.bulk_inversion",
    "read_descriptors": "posenet_jax.shards.descriptor_shards",
    "reconstruct": "posenet_jax.reconstruction",
}


def __getattr__(name: str) -> Any:
    """A public name's value, from a module that is imported now."""
    if name == "scenes":
        return importlib.import_module("posenet_jax.scenes")
    if name in _LATER:
        value = globals()[name] = getattr(importlib.import_module(_LATER[name]), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
