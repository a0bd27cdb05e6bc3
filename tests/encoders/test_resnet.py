"""Residual networks. Oracle: the same ones in torch.nn, with torchvision's names, in evaluation."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_compared
from safetensors import safe_open
from safetensors.numpy import save_file

from posenet_jax.encoders import importing
from posenet_jax.encoders.encoder import parameter_shapes
from posenet_jax.encoders.network import IMAGENET
from posenet_jax.encoders.resnet import ResNet18, ResNet50
from posenet_jax.encoders.weights import encoder_from_torch, load_encoder, save_encoder
from posenet_jax.errors import InputError

SIZE = 37  # odd: what a stride leaves over is at one side
BLOCKS = (1, 2, 1, 1)


def torch_resnet(torch, *, bottleneck: bool, width: int = 8, classes: int = 5, blocks=BLOCKS):
    """The network, and its taps."""
    nn = torch.nn
    wider = 4 if bottleneck else 1

    def conv(channels, features, size, stride=1):
        return nn.Conv2d(channels, features, size, stride=stride, padding=size // 2, bias=False)

    class Block(nn.Module):
        def __init__(self, channels, features, stride):
            super().__init__()
            out = wider * features
            shapes = (
                [(channels, features, 1), (features, features, 3, stride), (features, out, 1)]
                if bottleneck
                else [(channels, features, 3, stride), (features, features, 3)]
            )
            self.count = len(shapes)
            for number, shape in enumerate(shapes, start=1):
                setattr(self, f"conv{number}", conv(*shape))
                setattr(self, f"bn{number}", nn.BatchNorm2d(shape[1]))
            self.downsample = None
            if stride > 1 or channels != out:
                self.downsample = nn.Sequential(conv(channels, out, 1, stride), nn.BatchNorm2d(out))

        def forward(self, x):
            y = x
            for number in range(1, self.count + 1):
                y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
                y = torch.relu(y) if number < self.count else y
            return torch.relu(y + (self.downsample(x) if self.downsample else x))

    network = nn.Module()
    network.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
    network.bn1 = nn.BatchNorm2d(width)
    channels = width
    for stage, count in enumerate(blocks):
        layers = []
        for number in range(count):
            features = width * 2**stage
            layers.append(Block(channels, features, 2 if stage and not number else 1))
            channels = wider * features
        setattr(network, f"layer{stage + 1}", nn.Sequential(*layers))
    if classes:
        network.fc = nn.Linear(channels, classes)

    def taps(x):
        found = {"stem": torch.relu(network.bn1(network.conv1(x)))}
        x = torch.max_pool2d(found["stem"], 3, 2, 1)
        for stage, count in enumerate(blocks, start=1):
            for number, block in enumerate(getattr(network, f"layer{stage}")):
                x = block(x)
                found[f"layer{stage}" + (f".{number}" if number < count - 1 else "")] = x
        found["features"] = x.mean((2, 3))
        return found | ({"scores": network.fc(found["features"])} if classes else {})

    return network.eval(), taps


@pytest.fixture(scope="module")
def drawn(torch):
    """By kind of blocks: (network, taps), its weights drawn."""

    @functools.cache
    def make(bottleneck, classes=5):
        network, taps = torch_resnet(torch, bottleneck=bottleneck, classes=classes)
        torch_compared.draw(torch, network)
        return network, taps

    return make


@pytest.mark.parametrize("bottleneck", [False, True], ids=["two convolutions", "three"])
def test_taps_and_gradients_agree_with_torch(torch, drawn, bottleneck):
    network, taps = drawn(bottleneck)
    wrapped = {f"module.{name}": a for name, a in torch_compared.state(network).items()}
    encoder = encoder_from_torch(wrapped, size=SIZE)
    kind = ResNet50 if bottleneck else ResNet18
    assert encoder.module == kind(blocks=BLOCKS, width=8, classes=5)
    pixels = torch_compared.images(SIZE)
    torch_compared.compare(torch, encoder, taps, pixels, *IMAGENET)


@pytest.mark.usefixtures("winograd_forms")
def test_many_channels_convolved_in_winograds_form_agree_with_torch(torch):
    network, taps = torch_resnet(torch, bottleneck=False, width=16, classes=0, blocks=(1, 1, 1, 1))
    torch_compared.draw(torch, network)
    encoder = encoder_from_torch(torch_compared.state(network), size=SIZE)
    tap = encoder.tap("layer4").prepared()
    assert set(tap.evaluated) == {"layer3.0", "layer4.0"}  # of 64 channels and more
    torch_compared.compare(torch, encoder, taps, torch_compared.images(SIZE), *IMAGENET)


def test_a_file_is_known_its_control_and_its_size_too(drawn, tmp_path):
    network, _ = drawn(True)
    path = tmp_path / "mine.safetensors"
    save_file(torch_compared.state(network), path, {"format": "pt"})
    encoder = load_encoder(path)
    assert encoder.name == "mine" and encoder.preprocessing == IMAGENET.space(224)
    small = load_encoder(f"{path}@{SIZE}")
    assert small.preprocessing == IMAGENET.space(SIZE)
    assert small.fingerprint == encoder.fingerprint
    control = load_encoder(f"{path}-random-3@{SIZE}")
    assert control.module == encoder.module and control.preprocessing.size == SIZE
    assert control.fingerprint != encoder.fingerprint and control.name == f"mine-random-3@{SIZE}"


def test_what_is_saved_is_loaded(drawn, tmp_path):
    path = tmp_path / "mine.safetensors"
    encoder = encoder_from_torch(torch_compared.state(drawn(False, 0)[0]), size=SIZE)
    assert encoder.taps[-1] == "features"
    save_encoder(path, encoder, "float32")
    again = load_encoder(path)
    assert again.module == encoder.module and again.preprocessing == encoder.preprocessing
    assert again.fingerprint == encoder.fingerprint
    with safe_open(path, framework="numpy") as file:
        arrays, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    damaged = tmp_path / "damaged.safetensors"
    fields = json.loads(metadata["network"])
    for field, value, said in (
        ("blocks", [1, "2"], "network.blocks"),
        ("blocks", [1] * 5, "4 stages, not 5"),
        ("width", 10**9, "network.width"),
        ("classes", None, "network.classes"),
    ):
        other = {"network": json.dumps(fields | {field: value})}
        save_file(arrays, damaged, metadata | other)
        with pytest.raises(InputError, match=f"unusable metadata: .*{said}"):
            load_encoder(damaged)
    del metadata["network"]
    save_file(arrays, damaged, metadata)
    with pytest.raises(InputError, match="lacks the metadata network of an encoder"):
        load_encoder(damaged)


@pytest.mark.parametrize(
    "name, becomes, said",
    [
        ("layer1.0.bn2.running_mean", None, "layer1.0.bn2.running_mean is missing"),
        ("layer2.0.conv1.weight", None, "layer2.0.conv1.weight is missing"),
        ("layer3.0.downsample.1.bias", np.zeros(3, np.float32), r"has shape \(3,\), expected"),
        ("bn1.running_var", np.full(8, -1, np.float32), "bn1.running_var holds negative"),
        ("bn1.weight", np.full(8, np.nan, np.float32), "bn1.weight holds values .* not finite"),
        ("layer4.0.se.weight", np.zeros(3, np.float32), "layer4.0.se.weight is not a parameter"),
        ("fc.weight", np.zeros((5, 9), np.float32), r"fc.weight has shape \(5, 9\), expected"),
    ],
)
def test_what_is_wrong_is_named(drawn, name, becomes, said):
    arrays = torch_compared.state(drawn(False)[0])
    arrays = {k: a for k, a in arrays.items() if k != name}
    if becomes is not None:
        arrays[name] = becomes
    with pytest.raises(InputError, match=f"theirs, read as ResNet18: .*{said}"):
        encoder_from_torch(arrays, size=SIZE, origin="theirs")


@pytest.mark.parametrize("kind, blocks", [(ResNet18, (3, 4, 6, 3)), (ResNet50, (3, 4, 23, 3))])
def test_deeper_ones_are_known(torch, kind, blocks):
    with torch.device("meta"):
        network, _ = torch_resnet(
            torch, bottleneck=kind is ResNet50, width=64, classes=1000, blocks=blocks
        )
    assert importing.network_of(network.state_dict()) == kind(blocks=blocks)


@pytest.mark.parametrize(
    "kind, parameters, channels", [(ResNet18, 11_684_712, 512), (ResNet50, 25_530_472, 2048)]
)
def test_shapes_at_its_own_size(kind, parameters, channels):
    """torchvision's 11,689,512 and 25,557,032, less a number for each normalised channel."""
    params, _ = parameter_shapes(kind(), 224)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == parameters
    image = jax.ShapeDtypeStruct((224, 224, 3), jnp.float32)
    taps = jax.eval_shape(kind().apply, {"params": params}, image)
    assert set(taps) == set(kind().taps)
    wanted = {"stem": (112, 112, 64), "layer4": (7, 7, channels), "scores": (1000,)}
    assert {layer: taps[layer].shape for layer in wanted} == wanted
