"""LPIPS of images against the package's slices and sums in PyTorch; networks not installed."""

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file
from torch_squeezenet import squeezenet

from posenet_jax.encoders import weights
from posenet_jax.encoders.encoder import parameter_shapes
from posenet_jax.encoders.imagenet import SqueezeNet
from posenet_jax.errors import InputError
from posenet_jax.evaluation import feature_networks, measures
from posenet_jax.evaluation.feature_networks import Lpips
from posenet_jax.evaluation.measures import Context

CHANNELS = 64, 128, 256, 384, 384, 512, 512
# What the package `lpips` calls slices: modules of torchvision's `features`, from one to the next.
SLICES = 0, 2, 5, 8, 10, 11, 12, 13
COUNT = 3


@pytest.fixture(scope="module")
def channel_weights():
    rng = np.random.default_rng(1)
    return tuple(rng.uniform(size=count).astype(np.float32) for count in CHANNELS)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (2, COUNT, 64, 64, 3), dtype=np.uint8)


def package_lpips(torch, network, channel_weights, first, second):
    """The package's sums, of images uint8: its scaling of [-1, 1], its slices, its eps."""
    shift = torch.tensor([-0.030, -0.088, -0.188]).reshape(1, 3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).reshape(1, 3, 1, 1)
    x, y = (
        (torch.from_numpy(z.transpose(0, 3, 1, 2)).float() / 127.5 - 1.0 - shift) / scale
        for z in (first, second)
    )
    total = 0.0
    for begin, end, weight in zip(SLICES[:-1], SLICES[1:], channel_weights, strict=True):
        for module in network.features[begin:end]:
            x, y = module(x), module(y)
        units = [z / (z.square().sum(1, keepdim=True).sqrt() + 1e-10) for z in (x, y)]
        squares = (units[0] - units[1]).square() * torch.from_numpy(weight).reshape(1, -1, 1, 1)
        total = total + squares.sum(1).mean((1, 2))
    return total.detach().numpy()


@pytest.fixture(scope="module")
def network(torch, channel_weights, tmp_path_factory):
    """torchvision's architecture, its weights by chance, and ours from its state_dict."""
    torch.manual_seed(0)
    made = squeezenet(torch)
    path = tmp_path_factory.mktemp("squeezenet") / "squeezenet1_1.safetensors"
    save_file({name: x.numpy() for name, x in made.state_dict().items()}, path)
    return made, Lpips(weights.load_encoder(path), channel_weights)


def test_lpips_is_the_packages(torch, network, images, channel_weights):
    made, ours = network
    expected = package_lpips(torch, made, channel_weights, *images)
    np.testing.assert_allclose(ours.distances(*images), expected, rtol=1e-4)
    assert not ours.distances(images[0], images[0]).any()


def test_its_control_is_of_the_next_original(network, images):
    pictures, originals = images
    context = Context(None, np.zeros((COUNT, 4)), pictures, originals, lpips=network[1])
    found = measures.measured(context, ["lpips"])
    np.testing.assert_array_equal(found["lpips"], network[1].distances(*images))
    following = np.concatenate([originals[1:], originals[:1]])
    np.testing.assert_array_equal(found["other_lpips"], network[1].distances(pictures, following))
    one = Context(None, np.zeros((1, 4)), pictures[:1], originals[:1], lpips=network[1])
    assert np.isnan(measures.measured(one, ["lpips"])["other_lpips"]).all()


def packages(monkeypatch, packaged):
    for module in (weights, feature_networks):
        monkeypatch.setattr(module, "PACKAGED", packaged)


def absent():
    raise InputError("the weights of squeezenet are not installed")


@pytest.fixture
def installed(monkeypatch):
    """SqueezeNet, and LPIPS' weights nowhere."""
    shapes, _ = parameter_shapes(SqueezeNet(), 64)
    params = jax.tree.map(lambda array: np.zeros(array.shape, np.float32), shapes)
    packages(monkeypatch, {"squeezenet": lambda: params})
    monkeypatch.setattr(feature_networks.importlib.util, "find_spec", lambda name: None)


def test_networks_are_named_with_their_layers(installed):
    found = feature_networks.load()
    assert {name: tap.layer for name, tap in found.taps.items()} == {"squeezenet": "features"}
    assert found.lpips is None and len(found.absent) == 1
    assert "pip install --no-deps lpips" in found.absent[0]
    found = feature_networks.load(["squeezenet/fire5", "squeezenet"])
    assert {name: tap.layer for name, tap in found.taps.items()} == {
        "squeezenet_fire5": "fire5",
        "squeezenet": "features",
    }
    none = feature_networks.load([])
    assert not none.taps and not none.absent and none.lpips is None
    with pytest.raises(InputError, match="fire99"):
        feature_networks.load(["squeezenet/fire99"])


def test_what_is_not_installed_is_said(monkeypatch):
    packages(monkeypatch, {"squeezenet": absent})
    found = feature_networks.load()
    assert not found.taps and found.lpips is None
    assert found.absent == (
        "the weights of squeezenet are not installed; its measures are left out",
    )
    with pytest.raises(InputError, match="not installed"):
        feature_networks.load(["squeezenet"])


def test_lpips_weights_are_read_from_the_package(torch, tmp_path, monkeypatch, channel_weights):
    folder = tmp_path / "lpips" / "weights" / "v0.1"
    folder.mkdir(parents=True)
    (tmp_path / "lpips" / "__init__.py").write_text("raise RuntimeError('imported')")
    tensors = {
        f"lin{number}.model.1.weight": torch.from_numpy(weight).reshape(1, -1, 1, 1)
        for number, weight in enumerate(channel_weights)
    }
    options = {"_use_new_zipfile_serialization": False}
    torch.save(tensors, folder / "squeeze.pth", **options)
    monkeypatch.syspath_prepend(tmp_path)
    for found, wanted in zip(feature_networks.packaged_lpips(), channel_weights, strict=True):
        np.testing.assert_array_equal(found, wanted)
    del tensors["lin3.model.1.weight"]
    torch.save(tensors, folder / "squeeze.pth", **options)
    with pytest.raises(InputError, match=r"squeeze\.pth does not hold the weights"):
        feature_networks.packaged_lpips()
