"""Weights files: round trips, and what each kind of damage is answered with."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from safetensors.numpy import load_file, save_file

from posenet_jax.encoders import weights
from posenet_jax.encoders.encoder import Encoder, init_params
from posenet_jax.encoders.heads import PoseCorrection, PoseScale
from posenet_jax.encoders.streetnet import Compact, StreetNet
from posenet_jax.encoders.weights import load_encoder, random_encoder, save_encoder
from posenet_jax.errors import InputError, OutputError
from posenet_jax.images.preprocessing import Preprocessing

SPACE = Preprocessing(means=(92.5, 101.25, 118.0), channel_order="RGB", size=101)


@functools.cache
def trained(descriptor_size: int = 64) -> Encoder:
    """An encoder with heads, as training leaves it; small."""
    module = Compact(descriptor_size=descriptor_size)
    params, head_params = init_params(module, jax.random.key(5), SPACE.size)
    scale = PoseScale(mean=jnp.arange(6.0) / 7, std=1.0 + jnp.arange(6.0))
    return Encoder(params, head_params, scale, module, SPACE, "trained")


@pytest.fixture
def saved(tmp_path):
    """A whole weights file."""
    path = tmp_path / "whole.safetensors"
    save_encoder(path, trained())
    return path


def metadata_of(encoder: Encoder) -> dict[str, str]:
    return {
        "architecture": "compact",
        "descriptor_size": str(encoder.module.descriptor_size),
        "preprocessing": json.dumps(encoder.preprocessing.to_json()),
    }


def refusal(path) -> str:
    """The one sentence that a file is refused with; it begins with the file."""
    with pytest.raises(InputError) as caught:
        load_encoder(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message


# Round trips -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype, tolerance", [("float32", 0.0), ("float16", 2.0**-11)])
def test_what_is_saved_is_loaded(tmp_path, dtype, tolerance):
    path = tmp_path / "encoder.safetensors"
    save_encoder(path, trained(), dtype)
    assert {v.dtype for v in load_file(path).values()} == {np.dtype(dtype)}
    loaded = load_encoder(path)
    assert (loaded.module, loaded.preprocessing) == (trained().module, SPACE)
    assert loaded.name == "encoder"

    def same(ours, original):
        assert ours.dtype == jnp.float32
        # Half a unit in float16's last place; 6e-8 is half its smallest step about zero.
        np.testing.assert_allclose(ours, original, rtol=tolerance, atol=6e-8 * (tolerance > 0))

    jax.tree.map(same, loaded.params, trained().params)
    jax.tree.map(same, loaded.head_params, trained().head_params)
    for field in ("mean", "std"):
        np.testing.assert_array_equal(
            getattr(loaded.pose_scale, field), getattr(trained().pose_scale, field)
        )


def test_a_second_trip_changes_nothing(saved, tmp_path):
    again = tmp_path / "again.safetensors"
    once = load_encoder(saved)
    save_encoder(again, once)
    before, after = load_file(saved), load_file(again)
    assert before.keys() == after.keys()
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])
    assert load_encoder(again).fingerprint == once.fingerprint


def test_an_encoder_without_heads_stays_without(tmp_path):
    path = tmp_path / "bare.safetensors"
    save_encoder(path, trained().replace(head_params=None, pose_scale=None))
    loaded = load_encoder(path)
    assert loaded.head_params is None and loaded.pose_scale is None
    with pytest.raises(InputError, match="'bare' has no heads"):
        loaded.heads(jnp.zeros(64), jnp.zeros(64))


def test_the_heads_come_back_to_work(saved):
    first, second = jnp.ones((2, 3, 64))
    ours, original = load_encoder(saved).heads(first, second), trained().heads(first, second)
    np.testing.assert_allclose(ours.pose, original.pose, atol=1e-2)
    scale = trained().pose_scale
    np.testing.assert_allclose(scale.restore(scale.normalise(ours.pose)), ours.pose, atol=1e-6)


@pytest.fixture
def corrected(tmp_path):
    """A whole weights file whose heads have a correction of three units."""
    size, path = trained().module.descriptor_size, tmp_path / "corrected.safetensors"
    correction = PoseCorrection(3).init(jax.random.key(1), jnp.zeros(2 * size))["params"]
    correction["pose"]["kernel"] += 1.0
    heads = trained().head_params | {"correction": correction}
    save_encoder(path, trained().replace(head_params=heads))
    return path


def test_heads_come_back_with_their_correction(corrected, saved):
    first, second = jax.random.normal(jax.random.key(0), (2, 3, 64))
    ours, plain = load_encoder(corrected), load_encoder(saved)
    pair = np.concatenate([first, second], axis=-1)
    arrays = {name: np.float32(x) for name, x in load_file(corrected).items()}
    for name in ("fc_1", "fc_2"):
        of = f"heads/correction/{name}"
        pair = np.maximum(pair @ arrays[f"{of}/kernel"] + arrays[f"{of}/bias"], 0)
    added = pair @ arrays["heads/correction/pose/kernel"] + arrays["heads/correction/pose/bias"]
    difference = ours.heads(first, second).pose - plain.heads(first, second).pose
    np.testing.assert_allclose(difference, added, rtol=1e-4, atol=1e-4)
    assert np.abs(added).min() > 0.01
    assert ours.fingerprint == plain.fingerprint  # of what encodes


@pytest.mark.parametrize("name", ["fc_1/bias", "fc_1/kernel", "pose/bias"])
def test_a_damaged_correction_is_named(corrected, name):
    tensors, name = load_file(corrected), f"heads/correction/{name}"
    whole = tensors[name]
    tensors[name] = np.ascontiguousarray(whole[..., :-1])
    save_file(tensors, corrected, metadata_of(trained()))
    assert "heads/correction" in refusal(corrected)
    del tensors[name]
    save_file(tensors, corrected, metadata_of(trained()))
    assert "heads/correction" in refusal(corrected)


# Damage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["conv2/kernel", "fc5/bias", "heads/pose/kernel"])
def test_a_parameter_of_another_shape_is_named(saved, name):
    tensors = load_file(saved)
    shape = tensors[name].shape
    tensors[name] = tensors[name][..., :-1].copy()
    save_file(tensors, saved, metadata_of(trained()))
    message = refusal(saved)
    assert name in message and str(shape) in message and str(tensors[name].shape) in message


@pytest.mark.parametrize("name", ["conv3/bias", "heads/match/kernel"])
def test_a_missing_parameter_is_named(saved, name):
    tensors = load_file(saved)
    del tensors[name]
    save_file(tensors, saved, metadata_of(trained()))
    assert f"{name} is missing" in refusal(saved)


def test_a_parameter_too_many_is_named(saved):
    tensors = load_file(saved) | {"conv9/kernel": np.zeros((1, 1), np.float16)}
    save_file(tensors, saved, metadata_of(trained()))
    assert "conv9/kernel is not a parameter of this network" in refusal(saved)


def test_a_parameter_that_is_not_finite_is_named(saved):
    tensors = load_file(saved)
    tensors["conv1/bias"][3] = np.nan
    save_file(tensors, saved, metadata_of(trained()))
    assert "conv1/bias holds values that are not finite" in refusal(saved)


@pytest.mark.parametrize("length", [0, 4, 200, -1])
def test_a_truncated_file_is_refused(saved, length):
    saved.write_bytes(saved.read_bytes()[:length])
    assert "not a readable safetensors file" in refusal(saved)


@pytest.mark.parametrize("content", [b"weights, honestly\n", b"\x89PNG\r\n\x1a\n" + bytes(400)])
def test_another_kind_of_file_is_refused(tmp_path, content):
    path = tmp_path / "text.safetensors"
    path.write_bytes(content)
    assert "not a readable safetensors file" in refusal(path)


@pytest.mark.parametrize("key", ["architecture", "descriptor_size", "preprocessing"])
def test_missing_metadata_is_named(saved, key):
    metadata = metadata_of(trained())
    del metadata[key]
    save_file(load_file(saved), saved, metadata)
    assert f"lacks the metadata {key}" in refusal(saved)


@pytest.mark.parametrize(
    "key, value, complaint",
    [
        ("architecture", "resnet", "no architecture 'resnet'; there are streetnet, compact"),
        ("descriptor_size", "many", "unusable metadata"),
        ("preprocessing", "{", "unusable metadata"),
        ("preprocessing", '{"means": [1, null, 3]}', "a number for each channel"),
        ("preprocessing", '{"means": [1, 2]}', "(7, 7, 3, 20), expected (7, 7, 2, 20)"),
        ("preprocessing", '{"means": [1, 2, 3], "crop": 4}', "crop"),
        ("pose_scale", '{"mean": [0, 0, 0, 0, 0, 0]}', "unusable metadata"),
    ],
)
def test_metadata_that_make_no_sense_are_refused(saved, key, value, complaint):
    save_file(load_file(saved), saved, metadata_of(trained()) | {key: value})
    assert complaint in refusal(saved)


@pytest.mark.parametrize("name", ["nowhere.safetensors", "streetnet-random-x", "vgg-random-0", ""])
def test_weights_that_are_not_there_are_named(name):
    with pytest.raises(InputError, match=f"no weights '{name}'"):
        load_encoder(name)


def test_what_float16_cannot_hold_is_not_written(tmp_path):
    path = tmp_path / "large.safetensors"
    params = trained().params
    params = params | {"conv1": params["conv1"] | {"bias": jnp.full((20,), 1e6)}}
    with pytest.raises(InputError, match="conv1/bias is not finite in float16"):
        save_encoder(path, trained().replace(params=params))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_what_stood_there(saved, monkeypatch):
    before = saved.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OutputError):
        save_encoder(saved, trained(), "float32")
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


# Networks that no file can bring back -----------------------------------------------------------


class Foreign(nn.Module):
    """Not ours, with taps as ours have them."""

    taps = ("conv1",)

    @nn.compact
    def __call__(self, images):
        return {"conv1": nn.Conv(4, (5, 5), name="conv1")(images)}


class Derived(Compact):
    """Ours but for what it computes: the file would say compact."""

    def __call__(self, images):
        return super().__call__(2.0 * images)


def written(tmp_path, encoder, dtype="float16") -> str:
    """The sentence with which it is not written."""
    with pytest.raises(InputError) as caught:
        save_encoder(tmp_path / "own.safetensors", encoder, dtype)
    assert list(tmp_path.iterdir()) == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", [Foreign, Derived])
def test_a_network_of_anothers_is_used_but_not_written(tmp_path, kind):
    module = kind()
    params, _ = init_params(module, jax.random.key(0), SPACE.size)
    encoder = Encoder(params, None, None, module, SPACE, "own")
    image = jnp.ones((SPACE.size, SPACE.size, 3))
    assert np.isfinite(encoder.tap("conv1")(image)).all()
    message = written(tmp_path, encoder)
    assert f"a {kind.__name__} is not written: load_encoder makes streetnet, compact" in message
    assert "Orbax or flax.serialization" in message


def test_a_network_with_options_that_no_file_holds_is_not_written(tmp_path):
    module = StreetNet(descriptor_size=64, lrn_alpha=0.4)
    encoder = trained().replace(module=module, head_params=None, pose_scale=None)
    assert "a StreetNet with lrn_alpha=0.4 is not written" in written(tmp_path, encoder)


def test_parameters_of_other_images_or_another_network_are_not_written(tmp_path):
    smaller = trained().replace(preprocessing=Preprocessing(means=(1.0, 2.0, 3.0), size=64))
    assert "'trained', not written: fc5/kernel has shape" in written(tmp_path, smaller)
    tiny = trained().replace(preprocessing=Preprocessing(means=(1.0, 2.0, 3.0), size=8))
    assert "a Compact cannot read images of 8×8 pixels" in written(tmp_path, tiny)
    params = {name: value for name, value in trained().params.items() if name != "conv2"}
    assert "conv2/bias is missing" in written(tmp_path, trained().replace(params=params))


def test_weights_are_written_as_floating_numbers(tmp_path):
    assert "float16 or float32" in written(tmp_path, trained(), "int8")


def test_what_is_written_with_any_size_is_read_again(tmp_path):
    """A random encoder's parameters are those of its images."""
    space = Preprocessing(means=(1.0, 2.0, 3.0), size=64)
    encoder = random_encoder("compact", preprocessing=space)
    assert jax.eval_shape(encoder.tap("fc5"), jnp.zeros((64, 64, 3))).shape == (512,)
    save_encoder(tmp_path / "small.safetensors", encoder, "float32")
    assert load_encoder(tmp_path / "small.safetensors").fingerprint == encoder.fingerprint
    with pytest.raises(InputError, match="cannot read images of 8×8 pixels"):
        random_encoder("compact", preprocessing=dataclasses.replace(space, size=8))


def test_a_file_of_neither_kind_says_what_it_holds(tmp_path):
    path = tmp_path / "vit.safetensors"
    save_file({f"blocks.{n}.attn": np.zeros(1, np.float32) for n in range(5)}, path)
    message = refusal(path)
    assert "lacks the metadata architecture, descriptor_size, preprocessing" in message
    assert "(it holds blocks.0.attn, blocks.1.attn, blocks.2.attn, ...)" in message


# Taps ------------------------------------------------------------------------------------------


def test_a_tap_is_its_layer_and_a_wrong_one_is_refused():
    image = jax.random.normal(jax.random.key(0), (2, 101, 101, 3))
    assert jax.eval_shape(trained().tap("conv4"), image).shape == (2, 4, 4, 160)
    assert jax.eval_shape(trained().tap("fc5"), image[0]).shape == (64,)
    with pytest.raises(InputError, match="no layer 'fc6'.*conv1, conv2, conv3, conv4, fc5"):
        trained().tap("fc6")


def test_a_tap_is_a_pytree_of_its_parameters():
    tap = trained().tap("fc5")
    leaves, structure = jax.tree.flatten(tap)
    assert len(leaves) == len(jax.tree.leaves(trained().params))
    rebuilt = jax.tree.unflatten(structure, leaves)
    assert (rebuilt.layer, rebuilt.module) == (tap.layer, tap.module)


def test_other_weights_do_not_compile_again():
    call = jax.jit(lambda tap, image: tap(image))
    image = jnp.ones((101, 101, 3))
    other = trained().replace(params=jax.tree.map(lambda p: 2 * p, trained().params))
    first, second = (call(encoder.tap("fc5"), image) for encoder in (trained(), other))
    assert call._cache_size() == 1
    assert not np.allclose(first, second)
    call(trained().tap("conv4"), image)
    assert call._cache_size() == 2


# Controls --------------------------------------------------------------------------------------


def test_a_random_encoder_is_its_seed():
    one, again, other = (load_encoder(f"streetnet-random-{seed}") for seed in (3, 3, 4))
    assert one.fingerprint == again.fingerprint != other.fingerprint
    assert one.fingerprint == random_encoder("streetnet", seed=3).fingerprint
    assert one.name == "streetnet-random-3" and isinstance(one.module, StreetNet)
    assert one.head_params is None


def test_the_control_reads_the_bundled_encoders_image_space(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "PRETRAINED", tmp_path)
    assert load_encoder("compact-random-0").preprocessing.means == (104.0, 117.0, 123.0)
    save_encoder(tmp_path / "compact.safetensors", trained())
    assert load_encoder("compact-random-0").preprocessing == SPACE
    assert load_encoder("streetnet-random-0").preprocessing.means == (104.0, 117.0, 123.0)
    chosen = dataclasses.replace(SPACE, size=100)
    assert random_encoder("compact", preprocessing=chosen).preprocessing == chosen


def test_a_bundled_encoder_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "PRETRAINED", tmp_path)
    save_encoder(tmp_path / "mine.safetensors", trained())
    assert load_encoder("mine").name == "mine"
    with pytest.raises(InputError, match="one of mine"):
        load_encoder("theirs")
    encoder, layer = weights.encoder_and_layer("mine/conv2")
    assert (encoder.name, layer) == ("mine", "conv2")
    with pytest.raises(InputError, match="101 pixels a side, and these have 50: .*@50/conv2"):
        weights.encoder_and_layer("mine/conv2", size=50)
    for wrong, words in (("mine", "expected ENCODER/LAYER"), ("mine/conv9", "no layer 'conv9'")):
        with pytest.raises(InputError, match=words):
            weights.encoder_and_layer(wrong)
