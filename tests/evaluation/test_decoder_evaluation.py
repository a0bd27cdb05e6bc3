"""A decoder's baselines against NumPy; perceptual measures of pictures that are the originals."""

import numpy as np
import pytest

from posenet_jax.encoders.weights import random_encoder
from posenet_jax.evaluation import decoder_evaluation
from posenet_jax.evaluation.decoder_evaluation import ImageSet


def _set(count, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 100, 100, 3), dtype=np.uint8)
    return ImageSet(images, rng.normal(size=(count, 4, 2)).astype(np.float32), ["x"] * count)


def test_baselines_are_the_mean_image_and_the_nearest_neighbour():
    train, other = _set(5, 0), _set(3, 1)
    found = decoder_evaluation.baseline_errors(train, {"train": train, "validation": other})
    assert set(found) == {
        "train_mean_image_mse",
        "validation_mean_image_mse",
        "validation_nearest_neighbour_mse",
    }
    mean = train.images.mean(axis=0)
    for name, images in (("train", train), ("validation", other)):
        error = np.mean(np.square((images.images - mean) / 255.0))
        assert found[f"{name}_mean_image_mse"] == pytest.approx(error)
    apart = np.linalg.norm(
        (other.descriptors[:, None] - train.descriptors[None]).reshape((3, 5, -1)), axis=2
    )
    nearest = train.images[apart.argmin(axis=1)].astype(float)
    error = np.mean(np.square((other.images - nearest) / 255.0))
    assert found["validation_nearest_neighbour_mse"] == pytest.approx(error)


def test_the_originals_themselves_have_no_perceptual_error(monkeypatch):
    encoder = random_encoder("compact")
    images = decoder_evaluation.described(encoder.tap("fc5"), _set(4, 2).images, list("abcd"))
    monkeypatch.setattr(decoder_evaluation, "pictures", lambda decoder, images, draw: images.images)
    found = decoder_evaluation.perceptual_measures(None, images, encoder.tap("fc5"), encoder)
    assert found["relative_loss"] < 1e-6 and found["judge_relative_loss"] < 1e-6
    assert found["energy_ratio"] == pytest.approx(1.0) == found["diversity_ratio"]
    assert found["draw_variance"] == 0.0 == found["mean_error"]
    other = np.roll(images.images, 1, axis=0)
    monkeypatch.setattr(decoder_evaluation, "pictures", lambda decoder, images, draw: other)
    wrong = decoder_evaluation.perceptual_measures(None, images, encoder.tap("fc5"), encoder)
    assert wrong["relative_loss"] > 1e-3 < wrong["judge_relative_loss"]
    error = np.mean(np.square((images.images - other.astype(float)) / 255.0))
    assert wrong["mean_error"] == pytest.approx(error)
