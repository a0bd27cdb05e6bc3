"""A residual network's first layers. Oracle: PyTorch's, by values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posenet_jax.nn import stem
from posenet_jax.nn.stem import StemConv, halving_max_pool

# As a share of the largest value: sums of at most 192 products in float32.
TOLERANCE = 2e-6


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def channels_first(torch, x):
    return torch.from_numpy(np.moveaxis(x, -1, 1).copy()).requires_grad_(True)


def close(ours, theirs):
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape
    assert np.abs(np.asarray(ours) - theirs).max() <= TOLERANCE * np.abs(theirs).max()


@pytest.mark.parametrize(
    "height, width, size, stride", [(8, 11, 7, 2), (9, 4, 3, 2), (10, 8, 5, 3), (3, 1, 7, 2)]
)
def test_convolution_and_its_gradients_are_torchs(torch, height, width, size, stride):
    x, kernel = normal(2, height, width, 3), normal(size, size, 3, 6, seed=1)
    theirs, weight = channels_first(torch, x), torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
    weight.requires_grad_(True)
    y = torch.nn.functional.conv2d(theirs, weight, stride=stride, padding=size // 2)
    cotangent = normal(2, *y.shape[2:], 6, seed=2)
    by = torch.autograd.grad(y, (theirs, weight), torch.from_numpy(np.moveaxis(cotangent, -1, 1)))

    @jax.jit
    def both(x, kernel, cotangent):
        y, pull = jax.vjp(lambda *a: stem.convolve(*a, stride), x, kernel)
        return y, *pull(cotangent)

    ours, by_x, by_kernel = both(x, kernel, cotangent)
    close(ours, y.permute(0, 2, 3, 1))
    close(by_x, by[0].permute(0, 2, 3, 1))
    close(by_kernel, by[1].permute(2, 3, 1, 0))


@pytest.mark.parametrize("height, width", [(8, 6), (7, 5), (1, 2)])
def test_pooling_and_its_gradient_are_torchs(torch, height, width):
    # Whole numbers, of which many are equal, and negative ones beside the border.
    x = np.random.default_rng(0).integers(-3, 2, (2, height, width, 4)).astype(np.float32)
    theirs = channels_first(torch, x)
    y = torch.nn.functional.max_pool2d(theirs, 3, 2, padding=1)
    cotangent = normal(2, *y.shape[2:], 4, seed=2)
    (by,) = torch.autograd.grad(y, theirs, torch.from_numpy(np.moveaxis(cotangent, -1, 1)))

    @jax.jit
    def both(x, cotangent):
        y, pull = jax.vjp(halving_max_pool, x)
        return y, *pull(cotangent)

    ours, by_x = both(x, cotangent)
    np.testing.assert_array_equal(ours, y.detach().permute(0, 2, 3, 1))
    np.testing.assert_allclose(by_x, by.permute(0, 2, 3, 1), rtol=0, atol=1e-6)


def test_one_image_or_any_batch_of_them():
    layer, x = StemConv(4, 7, 2), jnp.asarray(normal(2, 3, 6, 7, 3))

    @jax.jit
    def layers(x):
        variables = layer.init(jax.random.key(0), x[0, 0])
        images = x, x[1, 2]
        return [(layer.apply(variables, own), halving_max_pool(own)) for own in images]

    (whole, pooled), (one, pooled_one) = layers(x)
    assert whole.shape == (2, 3, 3, 4, 4)
    np.testing.assert_allclose(one, whole[1, 2], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(pooled_one, pooled[1, 2])
