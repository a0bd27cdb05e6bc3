"""Measures of pictures against SciPy, and the heads asked one by one."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation
from scipy.special import expit

from posenet_jax.encoders import weights
from posenet_jax.encoders.encoder import describe
from posenet_jax.evaluation import reconstructions

COUNT = 5


@pytest.fixture(scope="module")
def encoder():
    return weights.load_encoder("compact")


@pytest.fixture(scope="module")
def images():
    """Originals; pictures like them but for the last, which is like the first original."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 216, (COUNT, 5, 5, 3))
    originals = np.kron(coarse, np.ones((1, 20, 20, 1))).astype(np.uint8)
    pictures = originals[[0, 1, 2, 3, 0]].astype(int) + rng.integers(-9, 10, originals.shape)
    return originals, pictures.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def found(encoder, images):
    originals, pictures = images
    tap = encoder.tap("conv4")
    targets = describe(tap, originals, encoder.preprocessing)
    return reconstructions.all_measures(encoder, tap, targets, pictures, originals)


def _flat(encoder, layer, images):
    seen = describe(encoder.tap(layer), images, encoder.preprocessing)
    return seen.reshape((COUNT, -1)).astype(np.float64)


def test_ranks_are_those_of_scipys_distances(found, encoder, images):
    originals, pictures = images
    distances = cdist(_flat(encoder, "conv4", pictures), _flat(encoder, "conv4", originals))
    ranks = [1 + np.sum(np.delete(row, i) < row[i]) for i, row in enumerate(distances)]
    np.testing.assert_array_equal(found["descriptor_rank"], ranks)
    np.testing.assert_array_equal(found["recall_at_1"], np.array(ranks) == 1)
    assert found["recall_at_1"].tolist() == [1, 1, 1, 1, 0]


def test_heads_are_asked_about_picture_and_original(found, encoder, images):
    originals, pictures = (_flat(encoder, "fc5", x).astype(np.float32) for x in images)
    scale = encoder.pose_scale

    def pose(first, second):
        said = np.asarray(encoder.heads(first, second).pose, np.float64)
        yaw, pitch, roll = (said * np.asarray(scale.std) + np.asarray(scale.mean))[:3]
        return Rotation.from_euler("YXZ", [yaw, pitch, roll])

    for i in range(COUNT):
        following = originals[(i + 1) % COUNT]
        truth = pose(originals[i], following)
        for name, first in (("", pictures[i]), ("other_", originals[(i + 2) % COUNT])):
            angle = np.degrees((truth.inv() * pose(first, following)).magnitude())
            assert found[f"{name}pose_disagreement"][i] == pytest.approx(angle, abs=0.05)
        for name, second in (("", pictures[i]), ("other_", pictures[(i + 1) % COUNT])):
            logit = float(encoder.heads(originals[i], second).match)
            assert found[f"{name}match_probability"][i] == pytest.approx(expit(logit), abs=1e-3)


def test_pixels_are_compared_as_they_are(found, images):
    originals, pictures = (x.astype(np.float64) / 255.0 for x in images)
    error = np.square(originals - pictures).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(found["mean_squared_error"], error, rtol=1e-4)
    np.testing.assert_allclose(found["psnr"], -10 * np.log10(error), rtol=1e-4)


def test_an_encoder_without_heads_is_asked_nothing(images):
    originals, pictures = images
    bare = weights.random_encoder("compact")
    tap = bare.tap("fc5")
    targets = describe(tap, originals, bare.preprocessing)
    measured = reconstructions.all_measures(bare, tap, targets, pictures, originals)
    assert not [name for name in measured if "pose" in name or "match" in name]
