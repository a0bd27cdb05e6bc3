"""An encoder's network is one class: what it says of itself is all that others know of it."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from posenet_jax import (
    Encoder,
    Preprocessing,
    load_encoder,
    random_encoder,
    save_encoder,
    scenes,
)
from posenet_jax.analysis import sensitivity
from posenet_jax.encoders import importing
from posenet_jax.encoders.encoder import in_batches, init_params
from posenet_jax.encoders.encoder_networks import NETWORKS, trainable
from posenet_jax.encoders.heads import PoseScale
from posenet_jax.encoders.network import Network
from posenet_jax.errors import InputError
from posenet_jax.inversion.engine import invert
from posenet_jax.inversion.recipes import PAPER
from posenet_jax.training.pose_training import TrainConfig, training_module

SPACE = Preprocessing(means=(10.0, 20.0, 30.0), size=16)


class Tiny(Network):
    """One convolution and a descriptor."""

    descriptor_size: int = 8

    architecture: ClassVar[str] = "tiny"
    taps = ("conv1", "fc5")
    image_space = SPACE
    foreign: ClassVar[dict[str, str]] = {"conv1": "stem.0", "fc5": "top"}
    can_train = True

    @nn.compact
    def __call__(self, images):
        x = nn.relu(nn.Conv(4, (3, 3), strides=2, name="conv1")(images))
        flat = x.reshape((*x.shape[:-3], -1))
        return {"conv1": x, "fc5": nn.relu(nn.Dense(self.descriptor_size, name="fc5")(flat))}


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(NETWORKS, "tiny", Tiny)
    params, heads = init_params(Tiny(6), jax.random.key(2), SPACE.size)
    scale = PoseScale(jnp.arange(6.0), 1.0 + jnp.arange(6.0))
    return Encoder(params, heads, scale, Tiny(6), SPACE, "mine")


def images(count, size=SPACE.size):
    return np.random.default_rng(1).integers(0, 256, (count, size, size, 3), np.uint8)


def test_the_networks_are_those_of_before():
    assert list(NETWORKS)[:4] == ["streetnet", "compact", "alexnet", "squeezenet"]
    assert list(NETWORKS)[4:] == ["efficientnet_lite0", "resnet18", "resnet50", "vit"]
    assert trainable() == ["streetnet", "compact"]
    assert {name: load_encoder(name).fingerprint for name in trainable()} == {
        "streetnet": "e90ce5248d2f6c7d",
        "compact": "c142311b7dff4da3",
    }


def test_a_network_from_outside_is_saved_and_loaded(tiny, tmp_path):
    save_encoder(tmp_path / "mine.safetensors", tiny, "float32")
    again = load_encoder(tmp_path / "mine.safetensors")
    assert again.fingerprint == tiny.fingerprint and again.module == Tiny(6)
    assert again.preprocessing == SPACE and again.predicts_poses


def test_a_network_from_outside_is_random_by_name_and_inverted(tiny):
    encoder = load_encoder("tiny-random-3")
    assert encoder.preprocessing == SPACE and encoder.module == Tiny()
    assert encoder.fingerprint == random_encoder("tiny", seed=3).fingerprint
    tap = encoder.tap("fc5")
    targets = tap.describe(images(2))
    result = invert(
        tap, targets, key=jax.random.key(0), space=SPACE, recipe=PAPER.replace(steps=20)
    )
    assert result.image.shape == (2, 16, 16, 3)
    assert np.all(np.asarray(result.relative_loss) < 1.0)


def test_a_network_from_outside_is_imported_by_foreign_names(tiny):
    kernels = {name: np.asarray(tiny.params[name]["kernel"]) for name in ("conv1", "fc5")}
    dense = kernels["fc5"].reshape(8, 8, 4, 6).transpose(3, 2, 0, 1).reshape(6, -1)
    tensors = {
        "stem.0.weight": kernels["conv1"].transpose(3, 2, 0, 1),
        "stem.0.bias": np.asarray(tiny.params["conv1"]["bias"]),
        "top.weight": dense,
        "top.bias": np.asarray(tiny.params["fc5"]["bias"]),
    }
    assert importing.recognise(tensors) is Tiny
    params = importing.from_torch(Tiny(6), tensors, size=16)
    jax.tree.map(np.testing.assert_array_equal, params, dict(tiny.params))


def test_a_network_from_outside_is_trained(tiny):
    assert trainable()[-1] == "tiny"
    assert training_module(TrainConfig(architecture="tiny", descriptor_size=6)) == Tiny(6)
    with pytest.raises(InputError, match="no architecture 'alexnet'; there are .*, tiny"):
        TrainConfig(architecture="alexnet")


def test_a_network_that_is_not_listed_is_not_saved(tmp_path):
    params, _ = init_params(Tiny(), jax.random.key(2), SPACE.size)
    with pytest.raises(InputError, match=r"a Tiny .*streetnet, compact, alexnet, squeezenet"):
        save_encoder(
            tmp_path / "mine.safetensors", Encoder(params, None, None, Tiny(), SPACE, "mine")
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", [1, 15, 16, 17, 33])
def test_rows_in_batches_are_all_rows(count):
    rows, shapes = np.arange(3.0 * count).reshape(count, 3), []

    def doubled(batch):
        shapes.append(batch.shape)
        return jnp.asarray(2.0 * batch)

    np.testing.assert_array_equal(in_batches(doubled, rows), 2.0 * rows)
    assert shapes == [(16, 3)] * -(-count // 16)


def test_descriptors_are_those_of_the_tap(tiny):
    pixels = images(17)
    tap = tiny.tap("conv1")
    expected = np.stack([np.asarray(tap(SPACE.to_network(image))) for image in pixels])
    np.testing.assert_allclose(tap.describe(pixels), expected, rtol=1e-5, atol=1e-4)
    with pytest.raises(InputError, match="reads 16×16 pixels; the images are 16×12"):
        tap.describe(pixels[:, :, :12])


def test_heads_are_asked_by_poses_and_matches(tiny):
    first, second = np.random.default_rng(0).uniform(0, 2, (2, 5, 6)).astype(np.float32)
    weights = jax.tree.map(lambda x: np.asarray(x, np.float64), tiny.head_params)

    def dense(name, x):
        return x @ weights[name]["kernel"] + weights[name]["bias"]

    common = np.maximum(dense("common_fc", np.concatenate([first, second], axis=1)), 0.0)
    poses = dense("pose", common) * (1.0 + np.arange(6)) + np.arange(6)
    np.testing.assert_allclose(tiny.poses(first, second), poses, rtol=1e-3, atol=1e-3)
    logits = dense("match", common)[:, 0]
    np.testing.assert_allclose(tiny.matches(first, second), logits, rtol=1e-3, atol=1e-3)
    for ask in (tiny.replace(head_params=None).matches, tiny.replace(pose_scale=None).poses):
        with pytest.raises(InputError, match="encoder 'mine' has no heads"):
            ask(first, second)


def test_sensitivity_is_measured_at_the_networks_own_taps(tiny):
    pixels = images(3)
    moved = sensitivity._of_batch(tiny, {"original": pixels, "noise": pixels[:, ::-1]})
    assert list(moved) == ["pixels", "conv1", "fc5", "heads"]
    before, after = (
        tiny.tap("conv1").describe(x).reshape(3, -1) for x in (pixels, pixels[:, ::-1])
    )
    expected = np.linalg.norm(after - before, axis=1) / np.linalg.norm(before, axis=1)
    np.testing.assert_allclose(moved["conv1"]["noise"], expected, rtol=1e-4)
    stranger = random_encoder("compact", preprocessing=Preprocessing(means=SPACE.means, size=64))
    with pytest.raises(InputError, match="'mine' and 'compact-random-0' have not the same layers"):
        sensitivity._check([tiny, stranger], scenes.SceneConfig(height=16, width=16))
