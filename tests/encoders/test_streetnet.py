"""Encoders and heads. Oracle: the same networks in plain PyTorch with the same weights.

Tolerances are shares of the tap's (or gradient's) largest value. A value is a chain of up to five
sums of up to 2,304 float32 products, each good to some 1e-6 of its scale in whatever order.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posenet_jax.encoders import heads
from posenet_jax.encoders.encoder import init_params
from posenet_jax.encoders.encoder_networks import NETWORKS, trainable
from posenet_jax.encoders.heads import SiameseHeads
from posenet_jax.encoders.streetnet import TAPS

pytestmark = pytest.mark.usefixtures("winograd_forms")

FORWARD = 1e-5
GRADIENT = 2e-5

SHAPES = {
    "streetnet": {
        "conv1": (32, 32, 96),
        "conv2": (16, 16, 128),
        "conv3": (8, 8, 256),
        "conv4": (6, 6, 256),
        "fc5": (512,),
    },
    "compact": {
        "conv1": (94, 94, 20),
        "conv2": (47, 47, 40),
        "conv3": (21, 21, 80),
        "conv4": (4, 4, 160),
        "fc5": (512,),
    },
}
SIZES = (100, 101)
EACH_NETWORK = pytest.mark.parametrize("architecture", trainable())
EACH_SIZE = pytest.mark.parametrize("size", SIZES)
EACH_TAP = pytest.mark.parametrize("layer", TAPS)


@pytest.fixture(scope="module")
def peer(torch):
    """The PyTorch networks; importing them needs PyTorch."""
    from benchmarks import torch_networks

    return torch_networks


@functools.cache
def network(architecture: str):
    """The module and parameters whose biases matter."""
    module = NETWORKS[architecture]()
    params, _ = init_params(module, jax.random.key(3))
    rng = np.random.default_rng(0)
    for layer in params.values():
        layer["bias"] = jnp.asarray(rng.normal(0, 3, layer["bias"].shape), jnp.float32)
    return module, params


@functools.cache
def images(size: int) -> np.ndarray:
    """[2, size, size, 3] in network space."""
    noise = np.random.default_rng(size).standard_normal((2, size, size, 3))
    return (50 * noise).astype(np.float32)


@functools.cache
def our_taps(architecture: str, size: int):
    """Every tap of a batch, and the function from all taps' cotangents to the input's gradient."""
    module, params = network(architecture)
    forward = jax.jit(lambda params, x: module.apply({"params": params}, x))
    return jax.vjp(functools.partial(forward, params), jnp.asarray(images(size)))


def their_taps(peer, architecture: str, size: int):
    """PyTorch's input (a leaf) and its taps."""
    _, params = network(architecture)
    x = peer.channels_first(images(size)).requires_grad_(True)
    return x, peer.NETWORKS[architecture](peer.from_flax(params), x)


def largest_difference(ours, oracle) -> float:
    return float(np.abs(np.asarray(ours) - oracle).max() / np.abs(oracle).max())


@EACH_NETWORK
@EACH_SIZE
def test_every_tap_agrees_with_torch(peer, architecture, size):
    ours, _ = our_taps(architecture, size)
    _, theirs = their_taps(peer, architecture, size)
    assert set(ours) - {"fc5_linear"} == set(theirs) == set(TAPS)
    np.testing.assert_array_equal(ours["fc5"], np.maximum(ours["fc5_linear"], 0.0))
    for layer in TAPS:
        oracle = peer.channels_last(theirs[layer])
        assert ours[layer].shape == oracle.shape
        assert largest_difference(ours[layer], oracle) <= FORWARD, layer


@EACH_NETWORK
@EACH_SIZE
@EACH_TAP
def test_every_taps_input_gradient_agrees_with_torch(torch, peer, architecture, size, layer):
    taps, pull = our_taps(architecture, size)
    cotangent = np.random.default_rng(1).standard_normal(taps[layer].shape).astype(np.float32)
    x, theirs = their_taps(peer, architecture, size)
    # A unit within a rounding of its ReLU's corner may be open in one framework alone, and moves
    # all that it sees, of conv2 a tenth of an image: the layer's own such units are left out.
    differ = (np.asarray(taps[layer]) > 0) != (peer.channels_last(theirs[layer]) > 0)
    assert differ.sum() <= 3
    cotangent[differ] = 0.0
    zeros = jax.tree.map(jnp.zeros_like, taps)
    (ours,) = pull(zeros | {layer: jnp.asarray(cotangent)})
    upstream = torch.from_numpy(cotangent)
    upstream = upstream if cotangent.ndim == 2 else upstream.permute(0, 3, 1, 2)
    (oracle,) = torch.autograd.grad(theirs[layer], x, upstream)
    oracle = peer.channels_last(oracle)
    # Of the layers before it there may be one as well. Hence a quantile, not the maximum.
    difference = np.quantile(np.abs(np.asarray(ours) - oracle), 0.98)
    assert difference <= GRADIENT * np.abs(oracle).max()
    assert np.linalg.norm(np.asarray(ours) - oracle) <= 0.02 * np.linalg.norm(oracle)


@EACH_NETWORK
@EACH_SIZE
def test_one_image_gives_what_it_gives_in_a_batch(architecture, size):
    module, params = network(architecture)
    batch, _ = our_taps(architecture, size)
    one = jax.jit(module.apply)({"params": params}, images(size)[1])
    for layer in TAPS:
        assert one[layer].shape == batch[layer].shape[1:]
        assert largest_difference(one[layer], np.asarray(batch[layer][1])) <= FORWARD, layer


@EACH_NETWORK
@EACH_SIZE
def test_shapes_and_types(architecture, size):
    taps, _ = our_taps(architecture, size)
    for layer in TAPS:
        tap = taps[layer]
        assert tap.dtype == jnp.float32
        assert (tap >= 0).all()
        if architecture == "streetnet" or size == 100:
            assert tap.shape[1:] == SHAPES[architecture][layer]
    assert taps["fc5"].shape == (2, 512)


@pytest.mark.parametrize(
    "architecture, parameters", [("streetnet", 2_233_344), ("compact", 607_432)]
)
def test_parameter_count(architecture, parameters):
    _, params = network(architecture)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == parameters
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


@EACH_NETWORK
def test_the_descriptors_size_can_be_chosen(architecture):
    module = NETWORKS[architecture](descriptor_size=96)
    taps = jax.eval_shape(lambda x: module.init_with_output(jax.random.key(0), x)[0], images(100))
    assert taps["fc5"].shape == (2, 96)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_heads_shapes(batch):
    first, second = (jax.random.normal(jax.random.key(k), (*batch, 512)) for k in (0, 1))
    outputs, variables = SiameseHeads().init_with_output(jax.random.key(2), first, second)
    assert outputs.pose.shape == (*batch, 6)
    assert outputs.match.shape == batch
    assert outputs.normal.shape == (*batch, 3)
    assert {leaf.dtype for leaf in jax.tree.leaves(outputs)} == {jnp.dtype("float32")}
    assert set(variables["params"]) == {"common_fc", "pose", "match", "normal"}


def test_a_correction_is_added_to_the_pose_and_begins_at_nothing():
    """Two layers and a last one in NumPy, of heads whose other answers stay to the bit."""
    first, second = jax.random.normal(jax.random.key(0), (2, 5, 512))
    variables = SiameseHeads(correction=7).init(jax.random.key(2), first, second)
    plain = {name: x for name, x in variables["params"].items() if name != "correction"}
    before = heads.outputs(plain, first, second)
    jax.tree.map(
        np.testing.assert_array_equal, heads.outputs(variables["params"], first, second), before
    )
    rng = np.random.default_rng(0)
    correction = jax.tree.map(
        lambda x: rng.normal(size=x.shape).astype(np.float32) / 20,
        variables["params"]["correction"],
    )
    after = heads.outputs(plain | {"correction": correction}, first, second)
    hidden = np.concatenate([first, second], axis=-1)
    for name in ("fc_1", "fc_2"):
        hidden = np.maximum(hidden @ correction[name]["kernel"] + correction[name]["bias"], 0)
    added = hidden @ correction["pose"]["kernel"] + correction["pose"]["bias"]
    np.testing.assert_allclose(after.pose, before.pose + added, rtol=1e-4, atol=1e-4)
    assert np.abs(added).max() > 0.1
    np.testing.assert_array_equal(after.match, before.match)
    np.testing.assert_array_equal(after.normal, before.normal)


def test_the_normal_is_read_from_the_first_descriptor_alone():
    first, second, other = (jax.random.normal(jax.random.key(k), (512,)) for k in range(3))
    outputs, variables = SiameseHeads().init_with_output(jax.random.key(3), first, second)
    changed = SiameseHeads().apply(variables, first, other)
    np.testing.assert_array_equal(outputs.normal, changed.normal)
    assert not np.allclose(outputs.pose, changed.pose)
    assert not np.allclose(outputs.match, changed.match)
