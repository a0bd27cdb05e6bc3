"""Errors of a decoder's images, beside those of two baselines that know less.

Errors are mean squared errors of all values, 1 = from black to white. N images, uint8 RGB
[N, H, W, 3]; descriptors [N, ...].
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from posenet_jax import numerics
from posenet_jax.decoders.decoding import Decoder, decode, value_range
from posenet_jax.encoders.encoder import Encoder, Tap
from posenet_jax.evaluation import image_sets
from posenet_jax.evaluation.measures import Context, measured


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Images with their descriptors, to evaluate decoders on."""

    images: np.ndarray  # [N, H, W, 3] uint8
    descriptors: np.ndarray  # [N, ...]
    names: list[str]

    def take(self, count: int) -> "ImageSet":
        """Returns `count` of them, evenly spread."""
        rows = np.linspace(0, len(self.images) - 1, min(count, len(self.images))).astype(int)
        return ImageSet(self.images[rows], self.descriptors[rows], [self.names[i] for i in rows])


def described(tap: Tap, images: np.ndarray, names: list[str]) -> ImageSet:
    """Returns images with their descriptors at a layer."""
    return ImageSet(images, tap.describe(images), names)


def errors(decoder: Decoder, images: ImageSet, draw: int | None = None) -> np.ndarray:
    """Returns errors [N] of the decoder's images, neither rounded nor clipped.

    draw: seed of the noise of a decoder that reads some; None: zeros.
    """
    space = decoder.preprocessing
    decoded = decode(decoder, images.descriptors, _key(draw))
    wanted = np.asarray(space.to_network(images.images))
    return _mean_squares((decoded - wanted) / value_range(space))


def pictures(decoder: Decoder, images: ImageSet, draw: int | None = None) -> np.ndarray:
    """Returns decoded images [N, H, W, 3], uint8 RGB. draw: as in `errors`."""
    decoded = decode(decoder, images.descriptors, _key(draw))
    return np.asarray(decoder.preprocessing.to_image(decoded))


def _key(draw: int | None) -> jax.Array | None:
    return None if draw is None else numerics.seed_key(draw)


def mean_image_errors(train: ImageSet, images: ImageSet) -> np.ndarray:
    """Returns errors [N] of the mean training image, whatever the descriptor."""
    mean = train.images.mean(axis=0, dtype=np.float64)
    return _mean_squares((images.images - mean) / 255.0)


def nearest_neighbours(train: ImageSet, images: ImageSet) -> np.ndarray:
    """Returns the row [N] of the training image with the nearest descriptor to each."""
    known, asked = (x.descriptors.reshape((len(x.images), -1)) for x in (train, images))
    squares = jnp.sum(jnp.square(known), axis=1)
    return np.asarray(jnp.argmin(squares[None] - 2.0 * jnp.matmul(asked, known.T), axis=1))


def nearest_neighbour_errors(train: ImageSet, images: ImageSet) -> np.ndarray:
    """Returns errors [N] of the training image with the nearest descriptor."""
    found = train.images[nearest_neighbours(train, images)]
    return _mean_squares((images.images.astype(np.float64) - found) / 255.0)


def baseline_errors(train: ImageSet, sets: Mapping[str, ImageSet]) -> dict[str, float]:
    """Returns the mean errors of both baselines on each set, as NAME_mean_image_mse and the like.

    Of the set named `train` the nearest neighbours are left out: they are the images themselves.
    """
    found = {}
    for name, images in sets.items():
        found[f"{name}_mean_image_mse"] = float(mean_image_errors(train, images).mean())
        if name != "train":
            nearest = nearest_neighbour_errors(train, images)
            found[f"{name}_nearest_neighbour_mse"] = float(nearest.mean())
    return found


def perceptual_measures(
    decoder: Decoder, images: ImageSet, tap: Tap, judge: Encoder
) -> dict[str, float]:
    """Returns measures of a set by descriptors, sharpness and variety rather than pixels.

    relative_loss and judge_relative_loss: means of eq. 3, of the pictures in `tap` and in the
    judge's fc5. The others are those of `image_sets`, in the judge's conv4, and of two draws.
    """
    draws = np.stack([pictures(decoder, images, draw) for draw in (0, 1)])
    context = Context(tap, images.descriptors, draws[0], images.images, judge.tap("fc5"))
    found = measured(context, ("picture_relative_loss", "judge_relative_loss"))
    return {
        "relative_loss": float(found["picture_relative_loss"].mean()),
        "judge_relative_loss": float(found["judge_relative_loss"].mean()),
        **image_sets.set_measures(draws[0], images.images, {"": judge.tap("conv4")}),
        **image_sets.draw_measures(draws, images.images),
    }


def _mean_squares(difference: np.ndarray) -> np.ndarray:
    return np.mean(np.square(difference, dtype=np.float64), axis=(1, 2, 3))
