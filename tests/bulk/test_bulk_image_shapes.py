"""Encoders that read grey images or channels of their own, not square, through bulk runs.

Oracles: NumPy, Pillow's luma, TFDS.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from posenet_jax import reconstruction
from posenet_jax.bulk import bulk_inversion, extraction
from posenet_jax.bulk.bulk_inversion import BulkConfig
from posenet_jax.data.sources import FolderImages
from posenet_jax.encoders import weights
from posenet_jax.encoders.network import Network
from posenet_jax.errors import InputError
from posenet_jax.images.contact_sheet import contact_sheet
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import recipes

FEW = recipes.CALIBRATED.replace(steps=2)
GREY = Preprocessing.of_range(-1, 1, size=(12, 20), resize_filter="area")
FIVE = Preprocessing(means=(0.0,) * 5, size=(12, 20), shown=(4, 2, 0))


class Means(Network):
    """Means of blocks of 4×4 pixels, each channel times a weight."""

    architecture, taps = "means", ("blocks",)

    def setup(self):
        self.weight = self.param("weight", jax.nn.initializers.ones, (), jnp.float32)

    def __call__(self, images):
        *lead, height, width, channels = images.shape
        blocks = images.reshape((*lead, height // 4, 4, width // 4, 4, channels))
        return {"blocks": self.weight * blocks.mean(axis=(-4, -2)).reshape((*lead, -1))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("colours")
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (24, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_grey_images_are_extracted_inverted_and_shown(folder, tmp_path):
    encoder, source = weights.random_encoder(Means(), preprocessing=GREY), FolderImages(folder)
    extraction.extract(encoder, "blocks", source, tmp_path / "e", extraction.ExtractionConfig())
    found = extraction.read_descriptors(tmp_path / "e")
    luma = [Image.open(path).convert("L") for path in sorted(folder.iterdir())]
    grey = np.stack([np.asarray(one.resize((20, 12), Image.Resampling.BOX)) for one in luma])
    blocks = grey.reshape((3, 3, 4, 5, 4)).mean(axis=(2, 4)).reshape((3, 15))
    np.testing.assert_allclose(found.descriptors[:], blocks / 127.5 - 1.0, atol=1e-5)
    assert found.channel_means == (pytest.approx(grey.mean(), rel=1e-12),)

    config = BulkConfig(restarts=2, slots=2, batch_size=8, pictures=True)
    bulk_inversion.invert_all(encoder, "blocks", source, tmp_path / "b", FEW, config)
    examples = list(tfds.builder_from_directory(tmp_path / "b").as_data_source("images"))
    for number, example in enumerate(examples):
        path = tmp_path / "b" / "images" / f"00000{number}_{number}.png.1.png"
        with Image.open(path) as picture:
            assert (picture.mode, picture.size) == ("L", (20, 12))
            np.testing.assert_array_equal(np.asarray(picture), example["image"][1][..., 0])
        assert example["mean"].shape == (12, 20, 1) and np.isfinite(example["ssim"]).all()
    assert len(examples) == 3


def test_channels_of_an_order_of_their_own_come_as_arrays(folder, tmp_path):
    encoder = weights.random_encoder(Means(), preprocessing=FIVE)
    images = np.random.default_rng(0).integers(0, 256, (2, 12, 20, 5), dtype=np.uint8)
    made = reconstruction.reconstruct(
        encoder, "blocks", images, key=jax.random.key(0), recipe=FEW, slots=2
    )
    seen = FIVE.picture(made.image)
    np.testing.assert_array_equal(seen, made.image[..., [4, 2, 0]])
    assert contact_sheet({"found": seen, "original": FIVE.picture(images)}).ndim == 3
    assert np.isfinite(made.luminance_correlation).all() and np.isfinite(made.ssim).all()
    with pytest.raises(InputError, match="5 channels in an order of its own"):
        config = extraction.ExtractionConfig()
        extraction.extract(encoder, "blocks", FolderImages(folder), tmp_path, config)
    with pytest.raises(InputError, match=r"reads 5 channels; the images have the shape \[2, 12"):
        encoder.tap("blocks").describe(images[..., :3])
