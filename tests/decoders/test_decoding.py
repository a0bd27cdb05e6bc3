"""Decoders in use: shapes, files, what they refuse, and inversions that begin with them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from posenet_jax import reconstruction
from posenet_jax.decoders import decoding
from posenet_jax.decoders.decoding import Decoder, decode, load_decoder, save_decoder
from posenet_jax.decoders.networks import NETWORKS
from posenet_jax.encoders.weights import random_encoder, save_encoder
from posenet_jax.errors import InputError
from posenet_jax.inversion import recipes
from posenet_jax.training.adversarial import AdversarialConfig
from posenet_jax.training.decoder_training import DecoderConfig, init_state, trained_decoder

FC5, CONV4 = (512,), (6, 6, 256)


@functools.cache
def _encoder():
    return random_encoder()


@functools.cache
def _decoder(layer: str = "fc5") -> Decoder:
    """Random, also where training begins with zeros and ones."""
    config = DecoderConfig(network="deep" if layer == "conv4" else "mirror")
    shape = decoding.descriptor_shape(_encoder(), layer)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda x: x if x.ndim > 1 else x + jnp.asarray(rng.uniform(0, 0.5, x.shape), jnp.float32),
        init_state(config, shape, 0).variables,
    )
    return trained_decoder(variables, jnp.float32(20.0), config, _encoder(), layer, "random")


def _descriptors(count: int, shape=FC5) -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 40, (count, *shape)).astype(np.float32)


def test_shapes_are_the_encoders():
    assert decoding.descriptor_shape(_encoder(), "fc5") == FC5
    assert decoding.descriptor_shape(_encoder(), "conv4") == CONV4
    with pytest.raises(InputError, match="vectors or 6×6 feature maps; conv1 is"):
        decoding.descriptor_shape(_encoder(), "conv1")


@pytest.mark.parametrize(("layer", "shape", "count"), [("fc5", FC5, 70), ("conv4", CONV4, 3)])
def test_decodes_one_as_many(layer, shape, count):
    decoder, descriptors = _decoder(layer), _descriptors(count, shape)
    decoded = decode(decoder, descriptors)
    assert decoded.shape == (count, 100, 100, 3) and decoded.dtype == np.float32
    network = NETWORKS["deep" if layer == "conv4" else "mirror"]()
    for row in (0, count - 1):
        alone = network.apply(decoder.variables, descriptors[row] / 20.0)
        expected = np.asarray(alone) * 255.0 * decoder.preprocessing.scale
        np.testing.assert_allclose(decoded[row], expected, atol=1e-4 * np.abs(expected).max())


def test_a_decoder_is_differentiated_and_compiled_like_any_function():
    descriptor = jnp.asarray(_descriptors(1)[0])
    slope = jax.jit(jax.grad(lambda d, decoder: decoder(d).sum()))(descriptor, _decoder())
    step = 1e-2 * np.asarray(slope / jnp.linalg.norm(slope))
    ends = decode(_decoder(), np.stack([descriptor - step, descriptor + step])).sum((1, 2, 3))
    assert np.diff(ends)[0] == pytest.approx(2 * float(np.vdot(step, slope)), rel=0.05)


@pytest.mark.parametrize("shape", [(2, 511), (2, 6, 6, 256), (512,), (0, 512)])
def test_descriptors_of_another_shape_are_refused(shape):
    with pytest.raises(InputError, match=r"reads descriptors \[N, 512\], received"):
        decode(_decoder(), np.zeros(shape, np.float32))


@pytest.mark.parametrize(("layer", "noise"), [("fc5", (2,)), ("conv4", (2,)), ("conv4", (6, 6, 2))])
def test_noise_is_read_beside_every_place(tmp_path, layer, noise):
    config = DecoderConfig(network="mirror", adversarial=AdversarialConfig(noise=2))
    shape = decoding.descriptor_shape(_encoder(), layer)
    variables = init_state(config, shape, 0).variables
    decoder = trained_decoder(variables, jnp.float32(20.0), config, _encoder(), layer)
    assert decoder.noise == decoding.noise_shape(shape, 2) == (*shape[:-1], 2)
    save_decoder(tmp_path / "d.safetensors", dataclasses.replace(decoder, noise=noise), "float32")
    loaded = load_decoder(tmp_path / "d.safetensors")
    assert loaded.noise == noise
    descriptor, key = _descriptors(1, shape), jax.random.key(3)
    drawn = np.asarray(jax.random.normal(jax.random.split(key, 1)[0], noise, jnp.float32))
    beside = np.broadcast_to(drawn, (*shape[:-1], 2))
    read = np.concatenate([descriptor[0] / 20.0, beside], axis=-1)
    expected = np.asarray(NETWORKS["mirror"]().apply(variables, read)) * 255.0
    made = decode(loaded, descriptor, key)[0] / loaded.preprocessing.scale
    np.testing.assert_allclose(made, expected, atol=1e-4 * np.abs(expected).max())
    assert np.abs(made - decode(loaded, descriptor)[0]).max() > 1e-3


# Files -------------------------------------------------------------------------------------------


def test_files_that_say_how_many_numbers_are_read_draw_them_once(tmp_path):
    save_decoder(tmp_path / "a.safetensors", dataclasses.replace(_decoder(), noise=()), "float32")
    tensors = load_file(tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "numpy") as opened:
        metadata = opened.metadata()
    for stated, expected in (("0", ()), ("[]", ())):
        save_file(tensors, tmp_path / "b.safetensors", metadata | {"noise": stated})
        assert load_decoder(tmp_path / "b.safetensors").noise == expected
    tensors["params/up5/kernel"] = np.zeros((FC5[0] + 4, 2304), np.float32)
    save_file(tensors, tmp_path / "b.safetensors", metadata | {"noise": "4"})
    assert load_decoder(tmp_path / "b.safetensors").noise == (4,)


@pytest.mark.parametrize("layer", ["fc5", "conv4"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 0.0), ("float16", 2.0**-11)])
def test_what_is_saved_is_loaded(tmp_path, layer, dtype, tolerance):
    decoder = _decoder(layer)
    save_decoder(tmp_path / "a.safetensors", decoder, dtype)
    loaded = load_decoder(tmp_path / "a.safetensors")
    assert jax.tree.structure(loaded.variables) == jax.tree.structure(decoder.variables)
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(decoder), strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=1e-7 * bool(tolerance))
    static = [f.name for f in dataclasses.fields(Decoder)][2:-1]
    assert [getattr(loaded, n) for n in static] == [getattr(decoder, n) for n in static]
    assert loaded.name == "a"
    assert (loaded.fingerprint == decoder.fingerprint) == (dtype == "float32")


def _without(tensors, metadata):
    tensors.pop("params/up1/kernel")
    return "params/up1/kernel is missing"


def _not_finite(tensors, metadata):
    tensors["batch_stats/up2_norm/norm/var"][3] = np.inf
    return "var holds values that are not finite"


def _other_shape(tensors, metadata):
    metadata["descriptor_shape"] = "[64]"
    return "params/up5/kernel has shape (512, 2304), expected (64, 2304)"


def _other_network(tensors, metadata):
    metadata["network"] = "deep"
    return "batch_stats/extra0_norm/norm/mean is missing"


def _unknown_network(tensors, metadata):
    metadata["network"] = "unet"
    return "unusable metadata"


def _no_shape(tensors, metadata):
    metadata["descriptor_shape"] = "512, 1"
    return "unusable metadata"


@pytest.mark.parametrize(
    "damage", [_without, _not_finite, _other_shape, _other_network, _unknown_network, _no_shape]
)
def test_damaged_files_are_refused_in_one_sentence(tmp_path, damage):
    whole, path = tmp_path / "whole.safetensors", tmp_path / "damaged.safetensors"
    save_decoder(whole, _decoder(), "float32")
    tensors, (_, metadata) = load_file(whole), decoding.read_tensors(whole)
    words = damage(tensors, metadata)
    save_file(tensors, path, metadata)
    assert words in _refusal(path)


def test_files_cut_short_or_of_something_else_are_refused(tmp_path):
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    save_decoder(whole, _decoder())
    cut.write_bytes(whole.read_bytes()[:1000])
    _refusal(cut)
    save_encoder(tmp_path / "encoder.safetensors", _encoder())
    assert "unusable metadata for a decoder" in _refusal(tmp_path / "encoder.safetensors")
    with pytest.raises(InputError, match=r"no decoder 'nowhere'.*bundled"):
        load_decoder("nowhere")


def _refusal(path) -> str:
    with pytest.raises(InputError) as caught:
        load_decoder(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


def test_a_decoder_of_another_encoder_or_layer_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    save_decoder(path, _decoder())
    assert decoding.decoder_for(_encoder(), "fc5", path).name == "a"
    with pytest.raises(InputError, match="decodes fc5, not conv4"):
        decoding.decoder_for(_encoder(), "conv4", path)
    other = random_encoder(seed=1)
    with pytest.raises(InputError) as caught:
        decoding.decoder_for(other, "fc5", path)
    assert other.fingerprint in str(caught.value) and _encoder().fingerprint in str(caught.value)


# Warm starts -------------------------------------------------------------------------------------


def test_reconstructions_begin_with_what_the_decoder_makes():
    originals = np.random.default_rng(0).integers(0, 256, (2, 100, 100, 3), dtype=np.uint8)
    tap = _encoder().tap("fc5")
    expected = decode(_decoder(), tap.describe(originals))
    recipe = recipes.WARM.replace(steps=1)
    key = jax.random.key(0)
    made = reconstruction.reconstruct(
        _encoder(), "fc5", originals, key=key, recipe=recipe, decoder=_decoder()
    )
    np.testing.assert_allclose(made.result.image, expected, atol=1e-3 * np.abs(expected).max())
    with pytest.raises(InputError, match="begins with images"):
        reconstruction.reconstruct(_encoder(), "fc5", originals, key=key, recipe=recipe)
