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

from typing import TYPE_CHECKING

from posenet_jax.public_names import imported_later

if TYPE_CHECKING:
    from posenet_jax import metrics, scenes
    from posenet_jax.analysis.extremes import ExtremeDirections, extreme_directions
    from posenet_jax.bulk.bulk_inversion import BulkConfig, invert_all
    from posenet_jax.bulk.extraction import ExtractionConfig, extract
    from posenet_jax.data.sources import FolderImages
    from posenet_jax.decoders.decoding import Decoder, decode, load_decoder, save_decoder
    from posenet_jax.decoders.named_inversion import invert
    from posenet_jax.encoders.encoder import Encoder, Tap
    from posenet_jax.encoders.encoder_networks import NETWORKS
    from posenet_jax.encoders.importing import from_caffe, from_torch
    from posenet_jax.encoders.network import Network
    from posenet_jax.encoders.weights import (
        encoder_from_torch,
        load_encoder,
        random_encoder,
        save_encoder,
    )
    from posenet_jax.errors import ImageError, InputError
    from posenet_jax.images.preprocessing import Preprocessing
    from posenet_jax.inversion import engine, recipes
    from posenet_jax.inversion.descent import Status
    from posenet_jax.inversion.engine import Job, Result, run
    from posenet_jax.inversion.recipes import RECIPES, Recipe
    from posenet_jax.inversion.solver import solve
    from posenet_jax.reconstruction import Reconstruction, reconstruct
    from posenet_jax.shards.descriptor_shards import read_descriptors

__version__ = "0.1.0"

__all__ = [
    "BulkConfig",
    "Decoder",
    "Encoder",
    "ExtractionConfig",
    "ExtremeDirections",
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
    "encoder_from_torch",
    "engine",
    "extract",
    "extreme_directions",
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
    "solve",
]

# Imported when first asked for: JAX takes a second, TensorFlow Datasets three.
__getattr__, __dir__ = imported_later(
    __name__,
    {
        "posenet_jax.analysis.extremes": ("ExtremeDirections", "extreme_directions"),
        "posenet_jax.bulk.bulk_inversion": ("BulkConfig", "invert_all"),
        "posenet_jax.bulk.extraction": ("ExtractionConfig", "extract"),
        "posenet_jax.data.sources": ("FolderImages",),
        "posenet_jax.decoders.decoding": ("Decoder", "decode", "load_decoder", "save_decoder"),
        "posenet_jax.decoders.named_inversion": ("invert",),
        "posenet_jax.encoders.encoder": ("Encoder", "Tap"),
        "posenet_jax.encoders.encoder_networks": ("NETWORKS",),
        "posenet_jax.encoders.importing": ("from_caffe", "from_torch"),
        "posenet_jax.encoders.network": ("Network",),
        "posenet_jax.encoders.weights": (
            "encoder_from_torch",
            "load_encoder",
            "random_encoder",
            "save_encoder",
        ),
        "posenet_jax.errors": ("ImageError", "InputError"),
        "posenet_jax.images.preprocessing": ("Preprocessing",),
        "posenet_jax.inversion.descent": ("Status",),
        "posenet_jax.inversion.engine": ("engine", "Job", "Result", "run"),
        "posenet_jax.inversion.recipes": ("recipes", "RECIPES", "Recipe"),
        "posenet_jax.inversion.solver": ("solve",),
        "posenet_jax.metrics": ("metrics",),
        "posenet_jax.reconstruction": ("Reconstruction", "reconstruct"),
        "posenet_jax.scenes": ("scenes",),
        "posenet_jax.shards.descriptor_shards": ("read_descriptors",),
    },
)
