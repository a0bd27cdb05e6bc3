"""Images that a decoder learns from: photographs in random crops, and rendered streets.

Batches are functions of the step alone. Images are uint8 RGB [B, H, W, 3], laid over the devices.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from posenet_jax.data.image_stream import ImageStream, Transform
from posenet_jax.data.pipelines import images
from posenet_jax.data.sources import ImageSource, NamedImage
from posenet_jax.data.training_pairs import RenderedPairs
from posenet_jax.encoders.encoder import Encoder, Tap
from posenet_jax.errors import ImageError, InputError
from posenet_jax.evaluation.decoder_evaluation import ImageSet
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.shards.descriptor_shards import Descriptors
from posenet_jax.training.decoder_training import DecoderBatch

Array = jax.Array

# Photographs are kept at this multiple of the network's size, for crops to be cut from.
_LARGER = 1.5


def crop(key: Array, image: Array, size: int, smallest: float) -> Array:
    """A random square of uint8 [S, S, 3], or its mirror image, resized to [size, size, 3] uint8.

    Its side is uniform between `smallest` and 1 of the whole; bicubic, antialiased.
    """
    side_key, corner_key, mirror_key = jax.random.split(key, 3)
    whole = image.shape[0]
    side = whole * jax.random.uniform(side_key, (), minval=smallest, maxval=1.0)
    corner = (whole - side) * jax.random.uniform(corner_key, (2,))
    scale = size / side
    resized = jax.image.scale_and_translate(
        image.astype(jnp.float32),
        (size, size, 3),
        (0, 1),
        jnp.stack([scale, scale]),
        -corner * scale,
        method="cubic",
    )
    rounded = jnp.clip(jnp.round(resized), 0, 255).astype(jnp.uint8)
    return jnp.where(jax.random.bernoulli(mirror_key), rounded[:, ::-1], rounded)


@functools.partial(jax.jit, static_argnames=("size", "smallest"))
def _crops(key: Array, photographs: Array, size: int, smallest: float) -> Array:
    keys = jax.random.split(key, len(photographs))
    return jax.vmap(lambda k, image: crop(k, image, size, smallest))(keys, photographs)


@dataclasses.dataclass(frozen=True, eq=False)
class DecoderBatches:
    """batches(n): the n-th batch, of photographs, rendered views, or both.

    smallest_crop: 1 leaves photographs whole. noise: its shape for every image, (draws, ..., Z).
    `stream` yields `image` and, where descriptors are given rather than encoded, `descriptor`.
    """

    stream: ImageStream | None
    rendered: RenderedPairs | None
    key: Array
    size: int
    sharding: NamedSharding
    smallest_crop: float = 1.0
    noise: tuple[int, ...] | None = None

    def __call__(self, number: int) -> DecoderBatch:
        key = jax.random.fold_in(self.key, number)
        crop_key, scene_key = jax.random.split(key)
        parts, descriptors = [], None
        if self.stream:
            batch = jax.device_put(self.stream(number), self.sharding)
            photographs, descriptors = batch["image"], batch.get("descriptor")
            if self.smallest_crop < 1.0:
                cropped = _crops(crop_key, photographs, self.size, self.smallest_crop)
                photographs = jax.device_put(cropped, self.sharding)
            parts.append(photographs)
        if self.rendered:
            views = self.rendered(scene_key).image
            parts.append(jax.device_put(views.reshape((-1, *views.shape[2:])), self.sharding))
        drawn = keys = None
        if self.noise:
            count = sum(len(part) for part in parts)
            drawn = jax.random.normal(jax.random.fold_in(key, 2), (count, *self.noise))
            keys = jax.random.split(jax.random.fold_in(key, 3), count)
            drawn, keys = jax.device_put((drawn, keys), self.sharding)
        return DecoderBatch(tuple(parts), descriptors, drawn, keys)


@dataclasses.dataclass(frozen=True, eq=False)
class DecoderData:
    """An encoder's layer to decode, images to train on, and sets to evaluate on."""

    encoder: Encoder
    tap: Tap
    mesh: Mesh
    batches: DecoderBatches
    scale: Array  # [] root mean square of the training descriptors
    known: ImageSet  # training images, whole: the knowledge of the baselines
    judged: Mapping[str, ImageSet]  # by name: train, validation, rendered


def photograph_transform(space: Preprocessing, smallest_crop: float) -> Transform:
    """Returns the stream's transform: to the encoder's size, or larger where crops are cut."""
    if smallest_crop >= 1.0:
        return images(space)
    return images(dataclasses.replace(space, size=int(_LARGER * space.side)))


class DescribedImages:
    """The images of a source that stand in an extraction, each with its descriptor."""

    def __init__(self, source: ImageSource, descriptors: Descriptors) -> None:
        """Raises InputError where none of them does."""
        rows = {name: row for row, name in enumerate(descriptors.names)}
        names = (source.name(position) for position in range(len(source)))
        self._found = [(i, rows[name]) for i, name in enumerate(names) if name in rows]
        if not self._found:
            raise InputError("none of the images is among the extracted descriptors")
        self._source, self._descriptors = source, descriptors

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, index: Any) -> tuple[NamedImage, np.ndarray]:
        position, row = self._found[index]
        return self._source[position], self._descriptors.descriptors[row].astype(np.float32)


def described_transform(space: Preprocessing) -> Transform:
    """Transform of `DescribedImages`: image and descriptor."""

    def transform(item: Any) -> dict[str, np.ndarray]:
        named, descriptor = item
        return {"image": space.resize(named.image), "descriptor": descriptor}

    return transform


def whole_images(
    source: ImageSource, space: Preprocessing, limit: int
) -> tuple[np.ndarray, list[str], list[ImageError]]:
    """(uint8 [N, H, W, 3], names, failures) of `limit` images spread evenly over a source.

    Raises InputError where none can be read.
    """
    count = min(limit, len(source))
    positions = np.unique(np.linspace(0, len(source) - 1, count).astype(int))
    found, names, failures = [], [], []
    for position in positions:
        try:
            name, image = source[int(position)]
        except ImageError as error:
            failures.append(error)
            continue
        found.append(space.resize(image))
        names.append(name)
    if not found:
        raise InputError(f"none of the {len(source)} images could be read")
    return np.stack(found), names, failures
