"""Layers of Caffe's era. Oracles: PyTorch, and closed forms in NumPy float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posenet_jax.nn.layers import (
    FewChannelConv,
    UnitStrideConv,
    local_response_norm,
    max_pool,
    pooled_size,
)

pytestmark = pytest.mark.usefixtures("winograd_forms")

# Of the largest value: sums of up to 1,200 float32 products, in another order than PyTorch's.
TOLERANCE = 5e-6


@pytest.fixture(scope="module")
def F(torch):
    return torch.nn.functional


def distinct(*shape: int, seed: int = 0) -> np.ndarray:
    """Values without ties, so that a maximum has one gradient."""
    values = np.random.default_rng(seed).permutation(int(np.prod(shape)))
    return (values.reshape(shape) - 0.4 * values.size).astype(np.float32)


def normal(*shape: int, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def to_torch(torch, x: np.ndarray):
    return torch.from_numpy(np.moveaxis(x, -1, 1).copy()).requires_grad_(True)


def from_torch(y) -> np.ndarray:
    return np.moveaxis(y.detach().numpy(), 1, -1)


def assert_close(ours, oracle, tolerance: float = TOLERANCE) -> None:
    ours, oracle = np.asarray(ours), np.asarray(oracle)
    assert ours.dtype == np.float32 and ours.shape == oracle.shape
    np.testing.assert_allclose(ours, oracle, rtol=0, atol=tolerance * np.abs(oracle).max())


def parameters(layer, x: np.ndarray):
    """Random, with biases that matter."""
    params = jax.jit(layer.init)(jax.random.key(0), x)["params"]
    return params | {"bias": jnp.asarray(normal(layer.features, seed=2))}


def apply(layer, params, x: np.ndarray):
    return jax.jit(lambda params, x: layer.apply({"params": params}, x))(params, x)


def gradients(layer, params, x: np.ndarray, cotangent: np.ndarray):
    """By the parameters and by x."""

    def pull(params, x, cotangent):
        return jax.vjp(lambda p, x: layer.apply({"params": p}, x), params, x)[1](cotangent)

    return jax.jit(pull)(params, x, cotangent)


def normalised_by_hand(x: np.ndarray) -> np.ndarray:
    """The formula, channel by channel, in float64."""
    x = x.astype(np.float64)
    out = np.empty_like(x)
    for channel in range(x.shape[-1]):
        near = x[..., max(channel - 2, 0) : channel + 3]
        energy = np.sum(near**2, axis=-1)
        out[..., channel] = x[..., channel] / (1 + 1e-4 / 5 * energy) ** 0.75
    return out


def pooled_by_hand(x: np.ndarray, window: int, stride: int) -> np.ndarray:
    """Every window cut out and its maximum taken; the last one may hang over the edge."""
    starts = [range(0, pooled_size(n, window, stride) * stride, stride) for n in x.shape[:2]]
    return np.array(
        [[x[i : i + window, j : j + window].max((0, 1)) for j in starts[1]] for i in starts[0]]
    )


# Pooling ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("window, stride", [(3, 2), (2, 2), (3, 1)])
@pytest.mark.parametrize("size", [3, 4, 5, 6, 7, 8, 9, 32])
def test_pooling_and_its_gradient_agree_with_torch(torch, F, window, stride, size):
    x = distinct(2, size, size + 3, 2)
    theirs = to_torch(torch, x)
    pooled = F.max_pool2d(theirs, window, stride, ceil_mode=True)
    oracle = from_torch(pooled)
    assert oracle.shape[1:3] == tuple(pooled_size(n, window, stride) for n in x.shape[1:3])

    @jax.jit
    def ours(x, cotangent):
        y, pull = jax.vjp(lambda x: max_pool(x, window, stride), x)
        return y, pull(cotangent)[0]

    cotangent = normal(*oracle.shape)
    y, gradient = ours(x, cotangent)
    (wanted,) = torch.autograd.grad(pooled, theirs, to_torch(torch, cotangent))
    np.testing.assert_array_equal(y, oracle)
    assert_close(gradient, from_torch(wanted))


@pytest.mark.parametrize("window, stride", [(3, 2), (2, 2), (3, 1)])
def test_of_equal_pixels_the_first_has_the_gradient_as_in_torch(torch, F, window, stride):
    x = np.random.default_rng(0).integers(0, 2, (2, 8, 9, 3)).astype(np.float32)
    x[0, 3:, 4:] = 1.0  # whole windows, as in a cloudless sky
    theirs = to_torch(torch, x)
    pooled = F.max_pool2d(theirs, window, stride, ceil_mode=True)
    (wanted,) = torch.autograd.grad(pooled.sum(), theirs)
    gradient = jax.grad(lambda x: jnp.sum(max_pool(x, window, stride)))(jnp.asarray(x))
    np.testing.assert_array_equal(gradient, from_torch(wanted))


@pytest.mark.parametrize("size", [3, 6, 7, 8, 9, 32])
def test_pooling_takes_the_maximum_of_every_window(size):
    x = distinct(size, size + 1, 3)
    np.testing.assert_array_equal(jax.jit(max_pool)(x), pooled_by_hand(x, 3, 2))


def test_the_overhanging_window_sees_only_what_is_inside():
    x = jnp.full((4, 4, 1), -7.0)
    pooled, gradient = jax.value_and_grad(lambda x: jnp.sum(max_pool(x)))(x)
    assert pooled == 4 * -7.0
    assert np.isfinite(gradient).all() and np.sum(gradient) == pytest.approx(4.0)


def test_pooling_takes_any_batch():
    x = distinct(2, 3, 7, 7, 4)
    pooled = max_pool(x)
    assert pooled.shape == (2, 3, 3, 3, 4)
    np.testing.assert_array_equal(pooled[1, 2], max_pool(x[1, 2]))


# Local response normalisation ------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 6, 96])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
def test_normalisation_is_the_formula_to_its_edges(channels, scale):
    x = normal(3, 2, channels, scale=scale)
    assert_close(jax.jit(local_response_norm)(x), normalised_by_hand(x), 1e-6)


def test_normalisation_and_its_gradient_agree_with_torch(torch, F):
    x, cotangent = normal(2, 5, 4, 96, scale=200.0), normal(2, 5, 4, 96, seed=1)
    theirs = to_torch(torch, x)
    normalised = F.local_response_norm(theirs, 5, 1e-4, 0.75, 1.0)
    (gradient,) = torch.autograd.grad(normalised, theirs, to_torch(torch, cotangent))
    ours, pull = jax.vjp(local_response_norm, jnp.asarray(x))
    assert_close(ours, from_torch(normalised))
    assert_close(pull(jnp.asarray(cotangent))[0], from_torch(gradient))


def test_normalisation_is_finite_at_zero_and_far_out():
    x = jnp.array([[[0.0, 0.0, 1e15, -1e15, 0.0, 1.0]]])
    value, gradient = jax.value_and_grad(lambda x: jnp.sum(local_response_norm(x)))(x)
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_normalisation_refuses_another_power():
    with pytest.raises(ValueError, match=r"0\.75 only, received 0\.5"):
        local_response_norm(jnp.ones((1, 1, 3)), beta=0.5)


# Grouped convolution ---------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[5, 4], ids=["winograd", "plain"])
def grouped(request):
    """A layer, its parameters with biases that matter, and an input [2, 9, 8, 12]."""
    layer = UnitStrideConv(10, request.param, padding=2, groups=2)
    x = normal(2, 9, 8, 12)
    return layer, parameters(layer, x), x


def test_groups_and_their_gradients_agree_with_torch(torch, F, grouped):
    layer, params, x = grouped
    ours = apply(layer, params, x)
    cotangent = normal(*ours.shape, seed=1)
    ours_params, ours_input = gradients(layer, params, x, cotangent)

    kernel = np.asarray(params["kernel"]).transpose(3, 2, 0, 1).copy()
    weight = torch.from_numpy(kernel).requires_grad_(True)
    bias = torch.from_numpy(np.array(params["bias"])).requires_grad_(True)
    theirs = to_torch(torch, x)
    y = F.conv2d(theirs, weight, bias, padding=2, groups=2)
    wanted = torch.autograd.grad(y, (theirs, weight, bias), to_torch(torch, cotangent))

    assert_close(ours, from_torch(y))
    assert_close(ours_input, from_torch(wanted[0]))
    assert_close(ours_params["kernel"], wanted[1].numpy().transpose(2, 3, 1, 0))
    assert_close(ours_params["bias"], wanted[2].numpy())


def test_a_group_sees_its_own_channels_only(grouped):
    layer, params, x = grouped
    changed = x.copy()
    changed[..., :6] += 1.0
    before, after = (apply(layer, params, v) for v in (x, changed))
    np.testing.assert_array_equal(before[..., 5:], after[..., 5:])
    assert np.abs(np.asarray(before - after)[..., :5]).min() > 0


def test_grouped_convolution_takes_one_image_or_a_batch_of_batches(grouped):
    layer, params, x = grouped
    batch = apply(layer, params, x)
    assert_close(apply(layer, params, x[1]), batch[1])
    assert apply(layer, params, x[None]).shape == (1, *batch.shape)


# Convolution of blocks -------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 4, 7])
@pytest.mark.parametrize("sides", [(12, 10), (13, 11), (12, 9)])
def test_blocks_and_their_gradients_agree_with_torch(torch, F, size, sides):
    layer, x = FewChannelConv(5, size), normal(2, *sides, 3)
    params = parameters(layer, x)
    ours = apply(layer, params, x)
    cotangent = normal(*ours.shape, seed=1)
    ours_params, ours_input = gradients(layer, params, x, cotangent)

    kernel = np.asarray(params["kernel"]).transpose(3, 2, 0, 1).copy()
    weight = torch.from_numpy(kernel).requires_grad_(True)
    bias = torch.from_numpy(np.array(params["bias"])).requires_grad_(True)
    theirs = to_torch(torch, x)
    y = F.conv2d(theirs, weight, bias)
    wanted = torch.autograd.grad(y, (theirs, weight, bias), to_torch(torch, cotangent))

    assert_close(ours, from_torch(y))
    assert_close(ours_input, from_torch(wanted[0]))
    assert_close(ours_params["kernel"], wanted[1].numpy().transpose(2, 3, 1, 0))
    assert_close(ours_params["bias"], wanted[2].numpy())


def test_blocks_take_one_image_or_a_batch_of_batches():
    layer, x = FewChannelConv(5, 3), normal(2, 6, 6, 3)
    params = parameters(layer, x)
    batch = apply(layer, params, x)
    assert_close(apply(layer, params, x[1]), batch[1])
    assert apply(layer, params, x[None]).shape == (1, *batch.shape)
