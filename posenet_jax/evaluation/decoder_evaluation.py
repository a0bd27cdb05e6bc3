"""How near a decoder's images come to the originals, beside two that know less.

Errors are mean squared errors of all values, 1 = from black to white. N images, uint8 RGB
[N, H, W, 3]; descriptors [N, ...].
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from posenet_jax import numerics
from posenet_jax.decoders.decoding import Decoder, decode
from posenet_jax.encoders.encoder import Tap


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Images with their descriptors, to judge by."""

    images: np.ndarray  # [N, H, W, 3] uint8
    descriptors: np.ndarray  # [N, ...]
    names: list[str]

    def take(self, count: int) -> "ImageSet":
        """`count` of them, evenly spread."""
        rows = np.linspace(0, len(self.images) - 1, min(count, len(self.images))).astype(int)
        return ImageSet(self.images[rows], self.descriptors[rows], [self.names[i] for i in rows])


def described(tap: Tap, images: np.ndarray, names: list[str]) -> ImageSet:
    """Images with what the encoder makes of them."""
    return ImageSet(images, tap.describe(images), names)


def errors(decoder: Decoder, images: ImageSet, draw: int | None = None) -> np.ndarray:
    """[N] of the decoder's images, not rounded or clipped. draw: seed of its noise; None: zero."""
    space = decoder.preprocessing
    decoded = decode(decoder, images.descriptors, _key(draw))
    wanted = np.asarray(space.to_network(images.images))
    return _mean_squares((decoded - wanted) / (255.0 * space.scale))


def pictures(decoder: Decoder, images: ImageSet, draw: int | None = None) -> np.ndarray:
    """[N, H, W, 3] uint8 RGB. draw: as in `errors`."""
    decoded = decode(decoder, images.descriptors, _key(draw))
    return np.asarray(decoder.preprocessing.to_image(decoded))


def _key(draw: int | None) -> jax.Array | None:
    return None if draw is None else numerics.seed_key(draw)


def mean_image_errors(train: ImageSet, images: ImageSet) -> np.ndarray:
    """[N] of the mean of the training images, whatever the descriptor."""
    mean = train.images.mean(axis=0, dtype=np.float64)
    return _mean_squares((images.images - mean) / 255.0)


def nearest_neighbours(train: ImageSet, images: ImageSet) -> np.ndarray:
    """[N] row of the training image whose descriptor is nearest to each."""
    known, asked = (x.descriptors.reshape((len(x.images), -1)) for x in (train, images))
    squares = jnp.sum(jnp.square(known), axis=1)
    return np.asarray(jnp.argmin(squares[None] - 2.0 * jnp.matmul(asked, known.T), axis=1))


def nearest_neighbour_errors(train: ImageSet, images: ImageSet) -> np.ndarray:
    """[N] of the training image whose descriptor is nearest."""
    found = train.images[nearest_neighbours(train, images)]
    return _mean_squares((images.images.astype(np.float64) - found) / 255.0)


def _mean_squares(difference: np.ndarray) -> np.ndarray:
    return np.mean(np.square(difference, dtype=np.float64), axis=(1, 2, 3))
