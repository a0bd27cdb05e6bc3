"""What does a network trained for camera pose keep of an image? Invert its descriptor and see.

encoder = posenet_jax.load_encoder("streetnet")
targets = jax.vmap(encoder.tap("fc5"))(encoder.preprocessing.to_network(images))
result = posenet_jax.invert(
    encoder.tap("fc5"), targets, key=jax.random.key(0), space=encoder.preprocessing
)
pictures = encoder.preprocessing.to_image(result.image)

decoder = posenet_jax.load_decoder("streetnet-fc5")
pictures = encoder.preprocessing.to_image(posenet_jax.decode(decoder, targets))
"""

from posenet_jax import metrics
from posenet_jax.decoders.decoding import Decoder, decode, load_decoder, save_decoder
from posenet_jax.encoders.encoder import Encoder, Tap
from posenet_jax.encoders.weights import load_encoder, random_encoder, save_encoder
from posenet_jax.errors import ImageError, InputError
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import recipes
from posenet_jax.inversion.descent import Status
from posenet_jax.inversion.engine import Result, invert
from posenet_jax.inversion.recipes import Recipe

__version__ = "0.1.0"

__all__ = [
    "Decoder",
    "Encoder",
    "ImageError",
    "InputError",
    "Preprocessing",
    "Recipe",
    "Result",
    "Status",
    "Tap",
    "decode",
    "invert",
    "load_decoder",
    "load_encoder",
    "metrics",
    "random_encoder",
    "recipes",
    "save_decoder",
    "save_encoder",
]
