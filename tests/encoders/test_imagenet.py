"""AlexNet and SqueezeNet 1.1. Oracle: the networks in torch.nn, put together as in torchvision.

What is compared is what a user does: a state_dict saved as safetensors, loaded by its path, and
images through it. Tolerances are shares of the tap's (or gradient's) largest value: chains of up to
25 sums of up to 9,216 float32 products.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from torch_squeezenet import squeezenet

from posenet_jax.encoders import imagenet
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.encoders.encoder_networks import NETWORKS
from posenet_jax.encoders.weights import load_encoder, save_encoder
from posenet_jax.errors import InputError

FORWARD = 5e-6
GRADIENT = 5e-6

ALEXNET_SHAPES = {
    "conv1": (24, 24, 64),
    "conv2": (11, 11, 192),
    "conv3": (5, 5, 384),
    "conv4": (5, 5, 256),
    "conv5": (5, 5, 256),
    "fc6": (4096,),
    "fc7": (4096,),
    "fc8": (1000,),
}
SQUEEZENET_SHAPES = {
    "conv1": (49, 49, 64),
    "fire2": (24, 24, 128),
    "fire3": (24, 24, 128),
    "fire4": (12, 12, 256),
    "fire5": (12, 12, 256),
    "fire6": (6, 6, 384),
    "fire7": (6, 6, 384),
    "fire8": (6, 6, 512),
    "fire9": (6, 6, 512),
    "features": (512,),
    "conv10": (6, 6, 1000),
    "scores": (1000,),
}
SHAPES = {"alexnet": ALEXNET_SHAPES, "squeezenet": SQUEEZENET_SHAPES}
EACH_NETWORK = pytest.mark.parametrize("architecture", list(SHAPES))
EACH_TAP = pytest.mark.parametrize(
    "architecture, layer", [(name, layer) for name, taps in SHAPES.items() for layer in taps]
)


# The oracle ------------------------------------------------------------------------------------


def torch_alexnet(torch):
    """The network, and after which of its layers each tap is."""
    nn = torch.nn

    def convolution(*sizes, **options):
        return [nn.Conv2d(*sizes, **options), nn.ReLU()]

    network = nn.Module()
    network.features = nn.Sequential(
        *convolution(3, 64, 11, stride=4, padding=2),
        nn.MaxPool2d(3, 2),
        *convolution(64, 192, 5, padding=2),
        nn.MaxPool2d(3, 2),
        *convolution(192, 384, 3, padding=1),
        *convolution(384, 256, 3, padding=1),
        *convolution(256, 256, 3, padding=1),
        nn.MaxPool2d(3, 2),
    )
    network.avgpool = nn.AdaptiveAvgPool2d((6, 6))
    network.classifier = nn.Sequential(
        nn.Dropout(),
        nn.Linear(256 * 6 * 6, 4096),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Linear(4096, 1000),
    )
    places = {"conv1": 1, "conv2": 4, "conv3": 7, "conv4": 9, "conv5": 11}

    def taps(x):
        seen = run(network.features, x)
        dense = run(network.classifier, network.avgpool(seen[-1]).flatten(1))
        found = {layer: seen[place] for layer, place in places.items()}
        return found | {"fc6": dense[2], "fc7": dense[5], "fc8": dense[6]}

    return network.eval(), taps


def torch_squeezenet(torch):
    """The same of SqueezeNet 1.1."""
    network = squeezenet(torch)
    places = (3, 4, 6, 7, 9, 10, 11, 12)

    def taps(x):
        seen = run(network.features, x)
        last = run(network.classifier, seen[-1])
        found = {"conv1": seen[1]} | {f"fire{i}": seen[k] for i, k in enumerate(places, start=2)}
        mean = seen[-1].mean((2, 3))
        return found | {"features": mean, "conv10": last[2], "scores": last[3].flatten(1)}

    return network, taps


def run(sequence, x) -> list:
    """The output of every layer of a sequence."""
    outputs = []
    for layer in sequence:
        x = layer(x)
        outputs.append(x)
    return outputs


def draw(torch, network) -> None:
    """Weights that keep the activations' size, and biases that matter."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            deviation = (2 / parameter[0].numel()) ** 0.5 if parameter.ndim > 1 else 0.3
            parameter.copy_(deviation * torch.randn(parameter.shape, generator=generator))


@pytest.fixture(scope="module")
def compared(torch, tmp_path_factory):
    """By architecture: (our encoder, from the oracle's file; every tap, the oracle's)."""

    @functools.cache
    def make(architecture):
        network, taps = {"alexnet": torch_alexnet, "squeezenet": torch_squeezenet}[architecture](
            torch
        )
        draw(torch, network)
        path = tmp_path_factory.mktemp(architecture) / "theirs.safetensors"
        state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
        save_file(state, path, {"format": "pt"})
        return load_encoder(path), taps

    return make


def normalised(torch, x):
    """What torchvision makes of an image: RGB [B, 3, H, W], less its mean, by its deviation."""
    mean, deviation = (
        torch.tensor(values).reshape(1, 3, 1, 1)
        for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    return (x / 255 - mean) / deviation


@functools.cache
def pictures(size: int = 100) -> np.ndarray:
    """[2, size, size, 3] uint8 RGB: coarse shapes and noise."""
    rng = np.random.default_rng(size)
    coarse = rng.integers(0, 256, (2, 10, 10, 3)).repeat(-(-size // 10), 1)
    coarse = coarse.repeat(-(-size // 10), 2)[:, :size, :size]
    return np.clip(coarse + rng.normal(0, 20, coarse.shape), 0, 255).astype(np.uint8)


@functools.cache
def our_taps(encoder_of, architecture: str):
    encoder, _ = encoder_of(architecture)
    x = encoder.preprocessing.to_network(pictures())
    # The weights as an argument: 60 million constants compile for a quarter of a minute.
    forward = jax.tree_util.Partial(jax.jit(encoder.module.apply), {"params": encoder.params})
    return jax.vjp(forward, x)


@functools.cache
def their_taps(torch, encoder_of, architecture: str):
    """The leaf, RGB 0-255 [B, 3, H, W], and the taps."""
    _, taps = encoder_of(architecture)
    x = torch.from_numpy(pictures().astype(np.float32)).permute(0, 3, 1, 2)
    x = x.contiguous().requires_grad_(True)
    return x, taps(normalised(torch, x))


def channels_last(tensor) -> np.ndarray:
    array = tensor.detach().numpy()
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def largest_difference(ours, oracle) -> float:
    return float(np.abs(np.asarray(ours) - oracle).max() / np.abs(oracle).max())


# Against PyTorch -------------------------------------------------------------------------------


@EACH_NETWORK
def test_a_state_dict_is_known_by_its_names(compared, architecture):
    encoder, _ = compared(architecture)
    assert type(encoder.module) is NETWORKS[architecture]
    assert encoder.name == "theirs" and encoder.head_params is None
    assert encoder.preprocessing == imagenet.TORCHVISION


@EACH_TAP
def test_every_tap_agrees_with_torch(torch, compared, architecture, layer):
    ours, _ = our_taps(compared, architecture)
    _, theirs = their_taps(torch, compared, architecture)
    assert set(ours) == set(theirs) == set(SHAPES[architecture])
    oracle = channels_last(theirs[layer])
    assert ours[layer].shape == oracle.shape
    assert np.std(oracle) > 0.1 * np.abs(oracle).mean()
    assert largest_difference(ours[layer], oracle) <= FORWARD


@EACH_TAP
def test_every_taps_input_gradient_agrees_with_torch(torch, compared, architecture, layer):
    taps, pull = our_taps(compared, architecture)
    cotangent = np.random.default_rng(1).standard_normal(taps[layer].shape).astype(np.float32)
    zeros = jax.tree.map(jnp.zeros_like, taps)
    (ours,) = pull(zeros | {layer: jnp.asarray(cotangent)})

    x, theirs = their_taps(torch, compared, architecture)
    upstream = torch.from_numpy(cotangent)
    upstream = upstream if cotangent.ndim == 2 else upstream.permute(0, 3, 1, 2)
    (oracle,) = torch.autograd.grad(theirs[layer], x, upstream, retain_graph=True)
    oracle = channels_last(oracle)[..., ::-1]
    # As in test_encoder: a unit at its ReLU's corner, or two equal in a pooling window, may go
    # another way in each framework, and moves the pixels that it sees.
    difference = np.quantile(np.abs(np.asarray(ours) - oracle), 0.98)
    assert difference <= GRADIENT * np.abs(oracle).max()
    assert np.linalg.norm(np.asarray(ours) - oracle) <= 0.02 * np.linalg.norm(oracle)


@EACH_NETWORK
def test_another_size_agrees_with_torch(torch, compared, architecture):
    """At 131 pixels other windows overlap, and other pixels are left over."""
    encoder, taps = compared(architecture)
    layer = encoder.taps[-1]
    x = encoder.preprocessing.to_network(pictures(131))
    ours = jax.jit(lambda tap, x: tap(x))(encoder.tap(layer), x)
    with torch.no_grad():
        x = torch.from_numpy(pictures(131).astype(np.float32)).permute(0, 3, 1, 2)
        oracle = taps(normalised(torch, x))[layer]
    assert largest_difference(ours, channels_last(oracle)) <= FORWARD


@pytest.mark.parametrize("height, width", [(1, 2), (2, 2), (3, 5), (6, 6), (7, 12), (13, 8)])
def test_adaptive_pooling_agrees_with_torch(torch, height, width):
    x = np.random.default_rng(0).standard_normal((2, height, width, 5)).astype(np.float32)
    oracle = torch.nn.AdaptiveAvgPool2d(6)(torch.from_numpy(x).permute(0, 3, 1, 2))
    for ours in (
        imagenet.adaptive_mean_pool(jnp.asarray(x), 6),
        jax.vmap(functools.partial(imagenet.adaptive_mean_pool, size=6))(x),
    ):
        assert largest_difference(ours, channels_last(oracle)) <= 1e-6


@pytest.mark.parametrize("size", [3, 4, 5, 11, 24])
def test_floor_pooling_agrees_with_torch(torch, size):
    x = np.random.default_rng(0).standard_normal((2, size, size + 1, 5)).astype(np.float32)
    oracle = torch.nn.MaxPool2d(3, 2)(torch.from_numpy(x).permute(0, 3, 1, 2))
    np.testing.assert_array_equal(imagenet.floor_max_pool(jnp.asarray(x)), channels_last(oracle))


# Without ---------------------------------------------------------------------------------------


@functools.cache
def control(architecture: str) -> Encoder:
    return load_encoder(f"{architecture}-random-0")


@EACH_NETWORK
def test_shapes(architecture):
    encoder = control(architecture)
    assert encoder.taps == tuple(SHAPES[architecture])
    for layer, shape in SHAPES[architecture].items():
        tap = encoder.tap(layer)
        for batch in ((), (3,), (2, 3)):
            x = jax.ShapeDtypeStruct((*batch, 100, 100, 3), jnp.float32)
            found = jax.eval_shape(tap.__call__, x)
            assert (found.shape, found.dtype) == ((*batch, *shape), jnp.float32)


@pytest.mark.parametrize(
    "architecture, parameters", [("alexnet", 61_100_840), ("squeezenet", 1_235_496)]
)
def test_parameter_count(architecture, parameters):
    assert sum(leaf.size for leaf in jax.tree.leaves(control(architecture).params)) == parameters


@EACH_NETWORK
def test_one_image_gives_what_it_gives_in_a_batch(architecture):
    encoder = control(architecture)
    images = encoder.preprocessing.to_network(pictures())
    apply = jax.jit(encoder.module.apply)
    batch, one = (apply({"params": encoder.params}, x) for x in (images, images[1]))
    for layer in encoder.taps:
        assert largest_difference(one[layer], np.asarray(batch[layer][1])) <= FORWARD, layer


def test_a_control_is_its_seed():
    one, again, other = (load_encoder(f"squeezenet-random-{seed}") for seed in (0, 0, 1))
    assert one.fingerprint == again.fingerprint != other.fingerprint
    assert one.name == "squeezenet-random-0" and one.head_params is None
    assert one.preprocessing.means == (104.0, 117.0, 123.0)
    assert control("alexnet").preprocessing == imagenet.TORCHVISION


@EACH_NETWORK
def test_a_wrong_tap_is_answered_with_this_networks(architecture):
    named = ", ".join(SHAPES[architecture])
    with pytest.raises(InputError, match=f"no layer 'fc5' .*{architecture}.*taps are {named}"):
        control(architecture).tap("fc5")
    with pytest.raises(InputError, match="has no heads"):
        control(architecture).heads(jnp.zeros(512), jnp.zeros(512))


@pytest.mark.parametrize("dtype, tolerance", [("float32", 0.0), ("float16", 2.0**-11)])
def test_what_is_saved_is_loaded(tmp_path, dtype, tolerance):
    path, encoder = tmp_path / "mine.safetensors", control("squeezenet")
    save_encoder(path, encoder, dtype)
    loaded = load_encoder(path)
    assert (loaded.module, loaded.preprocessing) == (encoder.module, encoder.preprocessing)
    assert loaded.head_params is None and loaded.name == "mine"

    def same(ours, original):
        np.testing.assert_allclose(ours, original, rtol=tolerance, atol=6e-8 * (tolerance > 0))

    jax.tree.map(same, loaded.params, encoder.params)


def test_a_saved_network_is_shape_checked(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_encoder(path, control("squeezenet"))
    with safe_open(path, framework="numpy") as file:
        whole = {name: file.get_tensor(name) for name in file.keys()}
        metadata = file.metadata()
    wrong = {"fire4/expand1x1/kernel": np.zeros((1, 1, 32, 64), np.float32)}
    save_file(whole | wrong, path, metadata)
    with pytest.raises(InputError, match="fire4/expand1x1/kernel has shape.*expected"):
        load_encoder(path)
    save_file(whole | {"heads/squeeze1x1/kernel": np.zeros(3, np.float32)}, path, metadata)
    with pytest.raises(InputError, match="heads/.* is not a parameter of this network"):
        load_encoder(path)
