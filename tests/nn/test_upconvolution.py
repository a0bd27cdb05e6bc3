"""The fast forms against PyTorch's layers as they read."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posenet_jax.nn import parts
from posenet_jax.nn.upconvolution import UpsampledConv, UpsampledConvTranspose

pytestmark = pytest.mark.usefixtures("winograd_forms")


def _check(torch, layer, x, plain, weight_axes):
    """Values, input gradient and weight gradient of a Flax layer and of a plain function."""
    variables = jax.jit(layer.init)(jax.random.key(0), x)
    bias = np.random.default_rng(1).normal(size=layer.features).astype(np.float32)
    params = {**variables["params"], "bias": jnp.asarray(bias)}
    apply = jax.jit(lambda params, x: layer.apply({"params": params}, x))
    y = apply(params, x)
    cotangent = np.random.default_rng(2).normal(size=y.shape).astype(np.float32)
    by_params, by_x = jax.jit(lambda p, x, c: jax.vjp(apply, p, x)[1](c))(params, x, cotangent)

    def channels_first(array):
        return torch.tensor(np.asarray(array).transpose(0, 3, 1, 2).astype(np.float64))

    weight = torch.tensor(np.asarray(params["kernel"], np.float64).transpose(weight_axes))
    inputs, bias = channels_first(x), torch.tensor(bias.astype(np.float64))
    for tensor in (weight, inputs, bias):
        tensor.requires_grad_()
    expected = plain(inputs, weight, bias)
    expected.backward(channels_first(cotangent))
    for ours, theirs in (
        (y, expected.detach().permute(0, 2, 3, 1)),
        (by_x, inputs.grad.permute(0, 2, 3, 1)),
        (by_params["kernel"], weight.grad.permute(*np.argsort(weight_axes).tolist())),
        (by_params["bias"], bias.grad),
    ):
        assert ours.shape == tuple(theirs.shape)
        scale = float(theirs.abs().max())
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-5 * scale)
    alone = apply(params, x[0])
    np.testing.assert_allclose(alone, y[0], rtol=0, atol=1e-5 * float(jnp.abs(y).max()))


def _image(side, channels):
    return jnp.asarray(
        np.random.default_rng(0).normal(size=(2, side, side + 1, channels)), jnp.float32
    )


@pytest.mark.parametrize(("side", "size", "repeat"), [(8, 5, 2), (4, 3, 2), (3, 7, 2), (5, 3, 3)])
def test_upsampled_convolution_is_pytorchs(torch, side, size, repeat):
    functional = torch.nn.functional

    def plain(x, weight, bias):
        x = functional.interpolate(x, scale_factor=repeat, mode="nearest")
        return functional.conv2d(x, weight, bias, padding=size // 2)

    _check(torch, UpsampledConv(6, size, repeat), _image(side, 4), plain, (3, 2, 0, 1))


@pytest.mark.parametrize(
    ("side", "size", "stride", "repeat"),
    # The decoders' three, then sizes on either side of the change of form, and odd remainders.
    [
        *[(3, 3, 1, 2), (6, 3, 1, 1), (16, 7, 3, 2)],
        *[(8, 7, 3, 2), (9, 7, 3, 2), (5, 4, 3, 1), (4, 5, 2, 3)],
    ],
)
def test_upsampled_transposed_convolution_is_pytorchs(torch, side, size, stride, repeat):
    functional = torch.nn.functional

    def plain(x, weight, bias):
        x = functional.interpolate(x, scale_factor=repeat, mode="nearest")
        return functional.conv_transpose2d(x, weight, bias, stride=stride)

    layer = UpsampledConvTranspose(6, size, stride, repeat)
    _check(torch, layer, _image(side, 4), plain, (2, 3, 0, 1))


@pytest.mark.parametrize("tile", [None, 4])
def test_an_image_at_a_time_in_either_form_is_pytorchs(torch, monkeypatch, tile):
    monkeypatch.setattr(parts, "images_a_part", lambda each, shared: 1)
    theirs = torch.nn.functional.conv_transpose2d

    def plain(x, weight, bias):
        return theirs(x, weight, bias, stride=3)

    layer = UpsampledConvTranspose(6, 7, stride=3, tile=tile)
    _check(torch, layer, _image(8, 4), plain, (2, 3, 0, 1))


def test_larger_tiles_of_repeated_pixels_are_pytorchs(torch):
    functional = torch.nn.functional

    def plain(x, weight, bias):
        return functional.conv2d(functional.interpolate(x, scale_factor=2), weight, bias, padding=2)

    _check(torch, UpsampledConv(6, 5, tile=4), _image(8, 4), plain, (3, 2, 0, 1))


def test_forms_of_other_backends_are_pytorchs(torch, monkeypatch):
    for module in ("layers", "upconvolution"):
        monkeypatch.setattr(f"posenet_jax.nn.{module}.has_winograd", lambda size: False)
    functional = torch.nn.functional

    def upsampled(x, weight, bias):
        return functional.conv2d(functional.interpolate(x, scale_factor=2), weight, bias, padding=2)

    _check(torch, UpsampledConv(6, 5), _image(4, 4), upsampled, (3, 2, 0, 1))
    transposed = functional.conv_transpose2d
    _check(torch, UpsampledConvTranspose(6, 3), _image(4, 4), transposed, (2, 3, 0, 1))
