"""The decoders against the same networks in PyTorch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import random_decoders

from posenet_jax.decoders.networks import NETWORKS

pytestmark = pytest.mark.usefixtures("winograd_forms")

CASES = [
    ("mirror", (512,)),
    ("deep", (512,)),
    ("mirror", (6, 6, 256)),
    ("sharp", (30,)),
    ("refined", (20,)),
    ("deep", (7,)),
    ("sharp", (6, 6, 8)),
]


_variables = functools.cache(random_decoders.variables)


def _to_torch(torch, array):
    array = np.asarray(array)
    return torch.tensor(array.transpose(0, 3, 1, 2) if array.ndim == 4 else array)


@pytest.fixture
def case(torch, request):
    from benchmarks.torch_decoder import peer_of

    network, shape = request.param
    module = NETWORKS[network]()
    variables = _variables(network, shape)
    peer = peer_of(module, shape).load_flax(variables)
    descriptors = np.random.default_rng(1).normal(size=(4, *shape)).astype(np.float32)
    return module, variables, peer, descriptors


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_trained_networks_decode_as_pytorchs(case, torch):
    module, variables, peer, descriptors = case
    expected = peer.eval()(_to_torch(torch, descriptors)).detach().permute(0, 2, 3, 1).numpy()
    apply = jax.jit(module.apply)
    decoded = apply(variables, descriptors)
    assert decoded.shape == (4, 100, 100, 3)
    np.testing.assert_allclose(decoded, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    alone = apply(variables, descriptors[0])
    np.testing.assert_allclose(alone, decoded[0], rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("case", CASES[:5], indirect=True)
def test_training_gradients_are_pytorchs(case, torch):
    from benchmarks.torch_decoder import flax_bias, flax_kernel

    module, variables, peer, descriptors = case
    wanted = np.random.default_rng(2).normal(size=(4, 100, 100, 3))
    peer.double().load_flax(variables)

    def loss(params, descriptors):
        decoded, changed = module.apply(
            {**variables, "params": params}, descriptors, train=True, mutable=["batch_stats"]
        )
        return jnp.mean(jnp.square(decoded - wanted)), changed["batch_stats"]

    # In float32 a value that rounding moves across a ReLU's kink changes gradients by a percent.
    with jax.enable_x64(True):
        variables = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), variables)
        differentiate = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
        (value, stats), (by_params, by_input) = differentiate(
            variables["params"], jnp.asarray(descriptors, jnp.float64)
        )
    inputs = _to_torch(torch, descriptors.astype(np.float64)).requires_grad_()
    expected = torch.mean((peer.train()(inputs) - _to_torch(torch, wanted)) ** 2)
    expected.backward()
    assert float(value) == pytest.approx(float(expected.detach()), rel=1e-5)
    _close(_to_torch(torch, by_input).numpy(), inputs.grad.numpy())
    for name, gradients in by_params.items():
        layer = getattr(peer, name)
        if name.endswith("_norm"):
            _close(gradients["norm"]["scale"], layer.weight.grad.numpy())
            running = stats[name]["norm"]
            _close(running["mean"], layer.running_mean.numpy())
            # PyTorch's running variance is the unbiased one; compared where they hardly differ.
            places = {"up5": 9, "up2": 256, "fine2": 1024, "mend1": 625, "mend2": 625}
            count = 4 * places.get(name.removesuffix("_norm"), 64)
            _close(running["var"], layer.running_var.numpy(), 1.0 / count)
        else:
            _close(flax_kernel(layer, np.asarray(gradients["kernel"])), layer.weight.grad.numpy())
            _close(flax_bias(layer, np.asarray(gradients["bias"])), layer.bias.grad.numpy())


def _close(ours, theirs, tolerance=1e-6):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


def test_the_deeper_network_has_two_more_layers_of_256_channels():
    sizes = {}
    for name, kind in NETWORKS.items():
        params = jax.eval_shape(kind().init, jax.random.key(0), jnp.zeros(512))["params"]
        sizes[name] = sum(np.prod(x.shape) for x in jax.tree.leaves(params))
    assert sizes["deep"] - sizes["mirror"] == 2 * (3 * 3 * 256 * 256 + 256 + 2 * 256)
