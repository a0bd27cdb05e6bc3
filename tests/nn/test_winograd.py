"""Winograd's convolutions against SciPy and PyTorch in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate

from posenet_jax.encoders import weights
from posenet_jax.nn import parts, winograd
from posenet_jax.nn.layers import UnitStrideConv

pytestmark = pytest.mark.usefixtures("winograd_forms")

# Of the largest value, by kernel size: more points round more.
TOLERANCE = {3: 2e-6, 5: 8e-6}
OF_LARGER_TILES = 6e-6


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(("outputs", "size"), winograd._POINTS)
def test_the_matrices_convolve_exactly(outputs, size):
    interpolation, evaluation, tile = winograd._matrices(outputs, size)
    signal, kernel = normal(len(tile)).astype(float), normal(size, seed=1).astype(float)
    products = (evaluation @ kernel) * (tile @ signal)
    expected = correlate(signal, kernel, "valid")
    np.testing.assert_allclose(interpolation @ products, expected, rtol=0, atol=1e-13)
    assert len(expected) == outputs
    assert len(products) < outputs * size  # what it is for


def convolved(x, kernel, padding, groups, tile=None):
    size, _, _, features = kernel.shape
    layer = UnitStrideConv(features, size, padding, groups, tile)
    return layer.apply({"params": {"kernel": kernel, "bias": jnp.zeros(features)}}, x)


def laid(x, kernel):
    return winograd.convolve_transpose(x, winograd.evaluated(kernel))


@pytest.mark.parametrize(
    ("size", "padding", "groups", "sides"),
    # The networks' own, then tiles that hang over, an image smaller than a tile, all the padding.
    [
        *[(5, 2, 2, (16, 16)), (3, 1, 1, (8, 8)), (3, 0, 1, (8, 8))],
        *[(5, 2, 1, (9, 7)), (3, 1, 2, (3, 1)), (5, 0, 1, (5, 6)), (3, 2, 1, (5, 6))],
        *[(5, 4, 2, (2, 3))],
    ],
)
def test_convolution_and_its_gradients_are_torchs(torch, size, padding, groups, sides):
    x, kernel = normal(2, *sides, 12), normal(size, size, 12 // groups, 10, seed=1)
    ours = functools.partial(convolved, padding=padding, groups=groups)

    def theirs(x, weight):
        return torch.nn.functional.conv2d(x, weight, padding=padding, groups=groups)

    agree(torch, ours, theirs, x, kernel, (3, 2, 0, 1), TOLERANCE[size])


@pytest.mark.parametrize(
    ("padding", "sides"), [(1, (56, 56)), (1, (14, 14)), (1, (7, 7)), (0, (9, 6)), (2, (1, 5))]
)
def test_larger_tiles_of_three_taps_are_torchs_too(torch, padding, sides):
    x, kernel = normal(1, *sides, 12), normal(3, 3, 12, 10, seed=1)
    ours = functools.partial(convolved, padding=padding, groups=1, tile=4)
    theirs = functools.partial(torch.nn.functional.conv2d, padding=padding)
    agree(torch, ours, theirs, x, kernel, (3, 2, 0, 1), OF_LARGER_TILES)
    assert winograd.evaluated(jnp.asarray(kernel), 4).shape[:2] == (6, 6)


@pytest.mark.parametrize(("size", "sides"), [(3, (6, 6)), (3, (5, 4)), (5, (3, 6))])
def test_transposed_convolution_and_its_gradients_are_torchs(torch, size, sides):
    x, kernel = normal(2, *sides, 12), normal(size, size, 12, 10, seed=1)
    theirs = torch.nn.functional.conv_transpose2d
    agree(torch, laid, theirs, x, kernel, (2, 3, 0, 1), TOLERANCE[size])


def strided(x, kernel, stride):
    values = winograd.evaluated_rows(kernel, stride)
    return winograd.convolve_strided(x, values, len(kernel), stride)


@pytest.mark.parametrize(
    ("size", "stride", "sides"),
    # The network's own; rows and columns left over; one output; windows that touch; five taps.
    [
        *[(7, 3, (100, 100)), (7, 3, (24, 30)), (7, 3, (7, 9)), (6, 2, (21, 12))],
        *[(9, 2, (33, 20)), (11, 4, (47, 36))],
    ],
)
def test_strided_convolution_and_its_gradients_are_torchs(torch, size, stride, sides):
    x, kernel = normal(2, *sides, 3), normal(size, size, 3, 10, seed=1)
    ours = functools.partial(strided, stride=stride)
    theirs = functools.partial(torch.nn.functional.conv2d, stride=stride)
    agree(torch, ours, theirs, x, kernel, (3, 2, 0, 1), TOLERANCE[-(-size // stride)])


ONE_AT_A_TIME = {
    "plain": (functools.partial(convolved, padding=1, groups=1), "conv2d", {"padding": 1}, 3),
    "transposed": (laid, "conv_transpose2d", {}, 3),
    "strided": (functools.partial(strided, stride=3), "conv2d", {"stride": 3}, 7),
}


@pytest.mark.parametrize("form", ONE_AT_A_TIME)
def test_images_taken_one_at_a_time_are_torchs(torch, monkeypatch, form):
    monkeypatch.setattr(parts, "images_a_part", lambda each, shared: 1)
    ours, name, options, size = ONE_AT_A_TIME[form]
    theirs = functools.partial(getattr(torch.nn.functional, name), **options)
    axes = (2, 3, 0, 1) if form == "transposed" else (3, 2, 0, 1)
    x, kernel = normal(3, 12, 15, 3), normal(size, size, 3, 10, seed=1)
    agree(torch, ours, theirs, x, kernel, axes, TOLERANCE[3])


def agree(torch, ours, theirs, x, kernel, axes, tolerance):
    """Values, input and kernel gradients; `axes` are the weight's of the kernel's."""
    y = jax.jit(ours)(x, kernel)
    cotangent = normal(*y.shape, seed=2)
    by_x, by_kernel = jax.jit(lambda x, k, c: jax.vjp(ours, x, k)[1](c))(x, kernel, cotangent)

    def double(array, axes):
        return torch.tensor(np.asarray(array, np.float64).transpose(axes))

    image, weight = double(x, (0, 3, 1, 2)), double(kernel, axes)
    for tensor in (image, weight):
        tensor.requires_grad_()
    expected = theirs(image, weight)
    expected.backward(double(cotangent, (0, 3, 1, 2)))
    for found, wanted in (
        (y, expected.detach().permute(0, 2, 3, 1)),
        (by_x, image.grad.permute(0, 2, 3, 1)),
        (by_kernel, weight.grad.permute(*np.argsort(axes).tolist())),
    ):
        assert found.shape == tuple(wanted.shape)
        scale = float(wanted.abs().max())
        np.testing.assert_allclose(found, wanted.numpy(), rtol=0, atol=tolerance * scale)


def test_one_image_or_a_batch_of_batches_or_vmapped():
    kernel, x = normal(3, 3, 2, 6), normal(2, 7, 5, 4, seed=1)
    one = jax.jit(functools.partial(convolved, kernel=kernel, padding=1, groups=2))
    batch = one(x)
    for other in (one(x[None])[0], jax.vmap(one)(x), jnp.stack([one(image) for image in x])):
        np.testing.assert_allclose(other, batch, rtol=0, atol=1e-6 * np.abs(batch).max())


def test_a_kernel_evaluated_beforehand_changes_nothing():
    layer, x = UnitStrideConv(6, 3, padding=1), normal(1, 4, 4, 5)
    variables = layer.init(jax.random.key(0), x)
    assert list(variables) == ["params"]
    plain, prepared = layer.apply(variables, x, mutable=["evaluated"])
    np.testing.assert_array_equal(layer.apply({**variables, **prepared}, x), plain)
    doubled = jax.tree.map(lambda values: 2 * values, prepared)
    # It is what is used.
    assert np.abs(layer.apply({**variables, **doubled}, x) - plain).max() > 0.1


def test_a_prepared_tap_says_the_same():
    tap = weights.load_encoder("streetnet").tap("fc5")
    prepared = tap.prepared()
    assert sorted(prepared.evaluated) == ["conv1", "conv2", "conv3", "conv4"]
    image = 50 * normal(100, 100, 3)
    call = jax.jit(lambda tap, image: tap(image))  # weights are arguments, not constants to fold
    expected = call(tap, image)
    found = call(prepared, image)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * expected.max())
    assert prepared.prepared().evaluated.keys() == prepared.evaluated.keys()
