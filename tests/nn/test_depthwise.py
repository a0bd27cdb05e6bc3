"""Depthwise convolution. Oracle: XLA's own, grouped, with padding "SAME"."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from posenet_jax.nn import depthwise
from posenet_jax.nn.depthwise import DepthwiseConv


def grouped(x, kernel, stride):
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


@pytest.mark.parametrize(
    "height, width, size, stride",
    [(8, 9, 3, 1), (9, 8, 5, 2), (2, 3, 5, 2), (1, 4, 1, 2)],
)
def test_values_and_gradients_are_the_grouped_convolutions(height, width, size, stride):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, height, width, 4)).astype(np.float32)
    kernel = rng.standard_normal((size, size, 1, 4)).astype(np.float32)
    shape = (2, -(-height // stride), -(-width // stride), 4)
    cotangent = rng.standard_normal(shape)

    def both(convolution):
        y, pull = jax.vjp(lambda *a: convolution(*a, stride), x, kernel)
        return y, *pull(jnp.asarray(cotangent, jnp.float32))

    # Sums of at most 25 products, and of 144 for the kernel's gradient.
    ours, oracle = jax.jit(lambda: (both(depthwise.shifted_sum), both(grouped)))()
    for one, other in zip(ours, oracle, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-5)


def test_one_image_or_any_batch_of_them():
    layer = DepthwiseConv(3, 2)
    x = jnp.asarray(np.random.default_rng(1).standard_normal((2, 3, 6, 7, 4)), jnp.float32)
    variables = layer.init(jax.random.key(0), x[0, 0])
    whole = layer.apply(variables, x)
    assert whole.shape == (2, 3, 3, 4, 4)
    np.testing.assert_allclose(layer.apply(variables, x[1, 2]), whole[1, 2], rtol=1e-6, atol=1e-6)
