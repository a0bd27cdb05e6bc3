"""The decoder without a grid: against PyTorch's and JAX's resizing, and untrained pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import random_decoders

from posenet_jax import metrics
from posenet_jax.decoders.networks import NETWORKS
from posenet_jax.decoders.resizing import enlarged
from posenet_jax.nn.upconvolution import InterpolatedConv

COUNT = 16


@pytest.mark.parametrize("side", [5, 13])
def test_maps_are_enlarged_as_jax_enlarges_them(side):
    x = np.random.default_rng(0).normal(size=(2, 5, 5, 3)).astype(np.float32)
    expected = jax.image.resize(x, (2, side, side, 3), "linear")
    np.testing.assert_allclose(enlarged(jnp.asarray(x), side), expected, atol=1e-5)


@pytest.mark.usefixtures("winograd_forms")
def test_enlarging_and_convolving_are_one_layer():
    x = np.random.default_rng(0).normal(size=(2, 6, 7, 3)).astype(np.float32)
    layer = InterpolatedConv(4)
    variables = layer.init(jax.random.key(0), x)
    kernel = variables["params"]["kernel"]
    bias = jnp.arange(4.0)
    large = jax.image.resize(x, (2, 12, 14, 3), "linear")
    large = jnp.pad(large, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    expected = jax.lax.conv_general_dilated(
        large, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    found = layer.apply({"params": {"kernel": kernel, "bias": bias}}, x)
    np.testing.assert_allclose(found, expected + bias.reshape((1, 1, 1, 4)), atol=2e-5)
    alone = layer.apply({"params": {"kernel": kernel, "bias": bias}}, x[0])
    np.testing.assert_allclose(alone, found[0], atol=1e-5)


def _in_torch(torch, variables, descriptors):
    """The network in PyTorch, in double precision: it enlarges, then convolves."""
    functional = torch.nn.functional
    params, stats = variables["params"], variables["batch_stats"]

    def tensor(array):
        return torch.tensor(np.asarray(array, np.float64))

    def conv(x, layer, padding):
        kernel = tensor(params[layer]["kernel"]).permute(3, 2, 0, 1)
        return functional.conv2d(x, kernel, tensor(params[layer]["bias"]), padding=padding)

    def normalised(x, layer):
        own, kept = params[f"{layer}_norm"], stats[f"{layer}_norm"]
        parts = (kept["mean"], kept["var"], own["scale"], own["bias"])
        return functional.batch_norm(x.relu(), *map(tensor, parts), eps=1e-5)

    def larger(x, side):
        if x.shape[-1] == side:
            return x
        return functional.interpolate(x, (side, side), mode="bilinear", align_corners=False)

    def twice(x, layer):
        x = functional.pad(larger(x, 2 * x.shape[-1]), (1, 1, 1, 1), mode="replicate")
        return conv(x, layer, 0)

    x = tensor(descriptors)
    if x.ndim == 2:
        x = x @ tensor(params["dense"]["kernel"]) + tensor(params["dense"]["bias"])
        x = normalised(x.reshape((-1, 3, 3, 256)).permute(0, 3, 1, 2), "dense")
    else:
        x = x.permute(0, 3, 1, 2)
    for number, side in enumerate((8, 8, 25)):
        x = normalised(conv(larger(x, side), f"conv{number}", 1), f"conv{number}")
    image = twice(normalised(twice(x, "fine"), "fine"), "image")
    return image.permute(0, 2, 3, 1).numpy()


@pytest.mark.usefixtures("winograd_forms")
@pytest.mark.parametrize("shape", [(30,), (6, 6, 8)])
def test_the_network_decodes_as_pytorchs(shape, torch):
    variables = random_decoders.variables("resize", shape)
    descriptors = np.random.default_rng(1).normal(size=(3, *shape)).astype(np.float32)
    expected = _in_torch(torch, variables, descriptors)
    decoded = np.asarray(jax.jit(NETWORKS["resize"]().apply)(variables, descriptors))
    np.testing.assert_allclose(decoded, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("shape, grid", [((64,), 3.0), ((6, 6, 8), 1.8)])
def test_an_untrained_network_has_no_grid(shape, grid):
    """Descriptors by chance: spectra of `resize`'s pictures have no lines, those of `mirror`'s do.

    They are beside white noise, which has none.
    """
    rng = np.random.default_rng(0)
    descriptors = np.abs(rng.normal(size=(COUNT, *shape))).astype(np.float32)
    noise = rng.integers(0, 256, (COUNT, 100, 100, 3), dtype=np.uint8)
    found = {}
    for name in ("resize", "mirror"):
        module = NETWORKS[name]()
        variables = jax.jit(module.init)(jax.random.key(0), descriptors[0])
        decoded = np.asarray(jax.jit(module.apply)(variables, descriptors))
        assert decoded.shape == (COUNT, 100, 100, 3)
        varied = (decoded - decoded.mean(axis=0)) / decoded.std()
        pictures = np.clip(128.0 + 40.0 * varied, 0, 255).round().astype(np.uint8)
        found[name] = metrics.grid_index(pictures, noise)
    assert found["resize"] < 1.3 and found["mirror"] > grid, found
