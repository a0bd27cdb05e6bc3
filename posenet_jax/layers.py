"""Layers of Caffe's era, in forms that run fast on CPU and plainly on GPU and TPU.

Arrays are [..., H, W, C]: every function takes one example or any batch of them. The forms are
chosen for XLA's CPU backend, where a grouped convolution, `reduce_window`'s gradient and a power of
shifted slices are 5 to 60 times slower than what stands here; the numbers are the same everywhere.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from posenet_jax import winograd

Array = jax.Array


def pooled_size(size: int, window: int, stride: int) -> int:
    """Length after Caffe's ceil-mode pooling: the last window may hang over the edge."""
    return math.ceil((size - window) / stride) + 1


def _pool_axis(x: Array, axis: int, window: int, stride: int) -> Array:
    size = x.shape[axis]
    pooled = pooled_size(size, window, stride)
    overhang = (pooled - 1) * stride + window - size
    if overhang > 0:
        padding = [(0, 0, 0)] * x.ndim
        padding[axis] = (0, overhang, 0)
        x = lax.pad(x, jnp.array(-jnp.inf, x.dtype), padding)
    extent = (pooled - 1) * stride + 1
    slices = [lax.slice_in_dim(x, k, k + extent, stride, axis) for k in range(window)]
    best = slices[0]
    for candidate in slices[1:]:
        best = jnp.maximum(best, candidate)
    return best


def max_pool(x: Array, window: int = 3, stride: int = 2) -> Array:
    """Ceil-mode max-pooling over H and W, one axis after the other."""
    return _pool_axis(_pool_axis(x, x.ndim - 3, window, stride), x.ndim - 2, window, stride)


def local_response_norm(
    x: Array, *, size: int = 5, alpha: float = 1e-4, beta: float = 0.75
) -> Array:
    """Krizhevsky's normalisation across channels, as Caffe has it.

    y = x / (1 + alpha/size * sum of x² over the `size` nearest channels)^beta. Only beta = 0.75 is
    offered: its power is two reciprocal square roots.
    """
    if beta != 0.75:
        raise ValueError(f"local_response_norm computes beta = 0.75 only, received {beta}")
    channels = x.shape[-1]
    distance = np.abs(np.subtract.outer(np.arange(channels), np.arange(channels)))
    band = jnp.asarray(distance <= size // 2, x.dtype)
    # Full precision: on GPU a default matrix product would round the squares to ten bits.
    energy = jnp.matmul(jnp.square(x), band, precision=lax.Precision.HIGHEST)
    root = lax.rsqrt(1.0 + (alpha / size) * energy)
    return x * root * jnp.sqrt(root)


class UnitStrideConv(nn.Module):
    """Stride-1 convolution, its groups of disjoint channels; kernel [k, k, C/groups, features]."""

    features: int
    kernel_size: int
    padding: int = 0
    groups: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        channels = x.shape[-1] // self.groups
        shape = (self.kernel_size, self.kernel_size, channels, self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        if self.has_variable("evaluated", "kernel"):
            values: Array = self.get_variable("evaluated", "kernel")
            y = winograd.convolve(x, values, self.padding, self.groups)
        else:
            y = convolve(x, kernel, self.padding, self.groups)
        asked = self.is_mutable_collection("evaluated") and not self.is_initializing()
        if asked and has_winograd(self.kernel_size):
            self.put_variable("evaluated", "kernel", winograd.evaluated(kernel))
        return y + bias.reshape((1,) * (x.ndim - 1) + (-1,))


def has_winograd(size: int) -> bool:
    """Whether kernels of this size are convolved in Winograd's form: on a CPU, by a program that
    is optimised (without, its sums cost more than the products they save, and long to compile).
    """
    optimised = not jax.config.read("jax_disable_most_optimizations")
    return optimised and jax.default_backend() == "cpu" and size in winograd.SIZES


def convolve(x: Array, kernel: Array, padding: int = 0, groups: int = 1) -> Array:
    """Stride-1 convolution, [..., H + 2·padding - k + 1, …, features].

    On a CPU in Winograd's form where there is one: products are what takes the time there. GPU and
    TPU have libraries that choose for themselves.
    """
    if has_winograd(len(kernel)):
        return winograd.convolve(x, winograd.evaluated(kernel), padding, groups)
    batch = x.reshape((-1, *x.shape[-3:]))
    # One grouped convolution is five to fifteen times slower than its parts in XLA's CPU backend.
    parts = [
        lax.conv_general_dilated(
            inputs,
            weights,
            window_strides=(1, 1),
            padding=[(padding, padding)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        for inputs, weights in zip(
            jnp.split(batch, groups, axis=-1), jnp.split(kernel, groups, axis=-1), strict=True
        )
    ]
    y = jnp.concatenate(parts, axis=-1)
    return y.reshape((*x.shape[:-3], *y.shape[1:]))


class FewChannelConv(nn.Module):
    """Stride-1 convolution without padding of images of few channels; kernel [k, k, C, features].

    Computed on blocks of 2×2 pixels as channels, four outputs at a time: on a CPU about eight times
    as fast as the plain form, whose inner loop over three channels is too short to fill.
    """

    features: int
    kernel_size: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        size, channels = self.kernel_size, x.shape[-1]
        shape = (size, size, channels, self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        batch = x.reshape((-1, *x.shape[-3:]))
        height, width = (side - size + 1 for side in batch.shape[1:3])
        batch = jnp.pad(batch, ((0, 0), *((0, side % 2) for side in batch.shape[1:3]), (0, 0)))
        y = lax.conv_general_dilated(
            _blocks(batch),
            _block_kernel(kernel),
            window_strides=(1, 1),
            # An even kernel's last outputs need one row and column of blocks more.
            padding=[(0, 1)] * 2 if size % 2 == 0 else "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        y = y.reshape((*y.shape[:3], 2, 2, self.features)).transpose((0, 1, 3, 2, 4, 5))
        y = y.reshape((len(y), 2 * y.shape[1], 2 * y.shape[3], self.features))
        y = y[:, :height, :width] + bias.reshape((1, 1, 1, -1))
        return y.reshape((*x.shape[:-3], *y.shape[1:]))


def _blocks(x: Array) -> Array:
    """[B, H/2, W/2, 4C] of [B, H, W, C], H and W even."""
    count, height, width, channels = x.shape
    x = x.reshape((count, height // 2, 2, width // 2, 2, channels)).transpose((0, 1, 3, 2, 4, 5))
    return x.reshape((count, height // 2, width // 2, 4 * channels))


def _block_kernel(kernel: Array) -> Array:
    """[K/2, K/2, 4C, 4F]: the kernel at each of the four offsets inside a block."""
    size, _, channels, features = kernel.shape
    full = 2 * (size // 2 + 1)
    room = full - size
    shifted = [
        jnp.pad(kernel, ((down, room - down), (right, room - right), (0, 0), (0, 0)))
        for down in (0, 1)
        for right in (0, 1)
    ]
    stacked = jnp.stack(shifted, axis=-2)
    half = full // 2
    stacked = stacked.reshape((half, 2, half, 2, channels, 4, features))
    stacked = stacked.transpose((0, 2, 1, 3, 4, 5, 6))
    return stacked.reshape((half, half, 4 * channels, 4 * features))
