"""A decoder's network that the package does not have: one class, listed in NETWORKS."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posenet_jax.decoders import decoding
from posenet_jax.decoders.decoder_network import SIDE, DecoderNetwork
from posenet_jax.decoders.networks import NETWORKS
from posenet_jax.encoders.weights import random_encoder
from posenet_jax.errors import InputError
from posenet_jax.training import decoder_training
from posenet_jax.training.decoder_training import AXIS, DecoderBatch, DecoderConfig

SHAPE = (512,)


class Flat(DecoderNetwork):
    """Pictures of one colour: a dense layer to three values. No subclass of the package's own."""

    @nn.compact
    def __call__(self, descriptor, *, train=False):
        colour = nn.Dense(3, name="colour")(descriptor)
        axis = self.axis_name if train else None
        colour = nn.BatchNorm(not train, axis_name=axis, name="norm")(colour)
        shape = (*colour.shape[:-1], SIDE, SIDE, 3)
        return jnp.broadcast_to(colour[..., None, None, :], shape)


@pytest.fixture
def flat(monkeypatch):
    monkeypatch.setitem(NETWORKS, "flat", Flat)
    return DecoderConfig(network="flat")


def test_a_network_that_is_not_listed_is_refused():
    with pytest.raises(InputError, match="no decoder 'flat'; there are mirror, deep, sharp"):
        DecoderConfig(network="flat")


def test_a_network_from_outside_is_trained_saved_and_loaded(flat, tmp_path):
    """One line of NETWORKS: training takes it by its name, and a weights file keeps the name."""
    encoder = random_encoder("compact")
    mesh = Mesh(np.asarray(jax.devices()[:1]), (AXIS,))
    state = decoder_training.init_state(flat, SHAPE, 0)
    before = jax.device_get(state.variables)
    images = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)
    batch = jax.device_put(DecoderBatch((images,)), NamedSharding(mesh, PartitionSpec(AXIS)))
    given = state, batch, encoder.tap("fc5"), jnp.float32(10.0), jnp.float32(0.1)
    state, metrics = decoder_training.train_step(*given, config=flat, mesh=mesh)
    assert float(metrics["loss"]) > 0.0
    after = jax.device_get(state.variables)
    assert np.any(after["params"]["colour"]["kernel"] != before["params"]["colour"]["kernel"])
    assert np.any(after["batch_stats"]["norm"]["mean"] != before["batch_stats"]["norm"]["mean"])

    decoder = decoding.Decoder(
        variables=after,
        descriptor_scale=jnp.float32(10.0),
        module=Flat(),
        descriptor_shape=SHAPE,
        layer="fc5",
        encoder=encoder.name,
        encoder_fingerprint=encoder.fingerprint,
        preprocessing=encoder.preprocessing,
    )
    decoding.save_decoder(tmp_path / "mine.safetensors", decoder, "float32")
    again = decoding.decoder_for(encoder, "fc5", tmp_path / "mine.safetensors")
    assert again.module == Flat() and again.fingerprint == decoder.fingerprint
    descriptors = np.random.default_rng(1).uniform(0, 40, (3, *SHAPE)).astype(np.float32)
    made = decoding.decode(again, descriptors)
    assert made.shape == (3, SIDE, SIDE, 3)
    weights = after["params"], after["batch_stats"]["norm"]
    colour = descriptors / 10.0 @ weights[0]["colour"]["kernel"] + weights[0]["colour"]["bias"]
    colour = (colour - weights[1]["mean"]) / np.sqrt(weights[1]["var"] + 1e-5)
    colour = colour * weights[0]["norm"]["scale"] + weights[0]["norm"]["bias"]
    expected = colour * decoding.value_range(encoder.preprocessing)
    np.testing.assert_allclose(made[:, 50, 50], expected, rtol=1e-3, atol=1e-2)
    assert np.ptp(made, axis=(1, 2)).max() == 0.0
