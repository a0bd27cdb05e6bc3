"""Layers of Caffe's era, in forms that run fast on CPU and plainly on GPU and TPU.

Arrays are [..., H, W, C]: every function takes one example or any batch of them. The forms are
chosen for XLA's CPU backend, where a grouped convolution, `reduce_window`'s gradient and a power of
shifted slices are 5 to 60 times slower than what stands here; the numbers are the same everywhere.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from posenet_jax.nn import winograd

Array = jax.Array


@functools.partial(jax.jit, static_argnums=0)
def initialised(module: nn.Module, key: Array, *examples: Array) -> Any:
    """Returns random variables of a network that reads such examples; equal networks share it."""
    return module.init(key, *examples)


def pooled_size(size: int, window: int, stride: int) -> int:
    """Length after Caffe's ceil-mode pooling: the last window may hang over the edge."""
    return math.ceil((size - window) / stride) + 1


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def max_pool(x: Array, window: int = 3, stride: int = 2) -> Array:
    """Ceil-mode max-pooling over H and W; of equal pixels the first in a window has the gradient.

    That is one loop over the pixels, each looking where its windows found their maximum: XLA's own
    derivative of the maxima is several, of padded arrays.
    """
    return _pooled(x, window, stride)[0]


def _pooled(x: Array, window: int, stride: int) -> tuple[Array, Array]:
    """(Maxima, their place in the window: row + `window`·column), both [..., P, Q, C]."""
    best, place = x, jnp.zeros(x.shape, jnp.int16)
    # Rows last: of equals the first in reading order, as in PyTorch.
    for axis in (x.ndim - 2, x.ndim - 3):
        candidates = _window_slices(best, float(jnp.finfo(x.dtype).min), axis, window, stride)
        places = _window_slices(place, 0, axis, window, stride)
        best, place = candidates[0], window * places[0]
        for k in range(1, window):
            place = jnp.where(candidates[k] > best, window * places[k] + k, place)
            best = jnp.maximum(best, candidates[k])
    return best, place


def _window_slices(x: Array, beyond: float, axis: int, window: int, stride: int) -> list[Array]:
    """The first element of every window along the axis, the second, … to the last."""
    pooled = pooled_size(x.shape[axis], window, stride)
    edges = [(0, 0, 0)] * x.ndim
    edges[axis] = (0, (pooled - 1) * stride + window - x.shape[axis], 0)
    x = lax.pad(x, jnp.array(beyond, x.dtype), edges)
    extent = (pooled - 1) * stride + 1
    return [lax.slice_in_dim(x, k, k + extent, stride, axis) for k in range(window)]


def _max_pool_forward(x: Array, window: int, stride: int) -> tuple[Array, tuple[Array, Array]]:
    best, place = _pooled(x, window, stride)
    # Takes no memory: tells the gradient x's height and width.
    return best, (place, jnp.zeros((*x.shape[-3:-1], 0), x.dtype))


def max_pool_gradient(
    window: int, stride: int, kept: tuple[Array, Array], cotangent: Array
) -> tuple[Array]:
    """A pixel in row a·stride + p lies in window a at row p, in window a - 1 at p + stride, …"""
    place, like_x = kept
    height, width = like_x.shape[:2]
    *lead, _, _, channels = cotangent.shape
    down, across = -(-height // stride), -(-width // stride)
    # Beyond the first and the last windows: none.
    reach = -(-window // stride) - 1
    beyond = [
        (reach, blocks - windows)
        for blocks, windows in zip((down, across), cotangent.shape[-3:-1], strict=True)
    ]
    edges = [(0, 0)] * len(lead) + [*beyond, (0, 0)]
    place, cotangent = jnp.pad(place, edges, constant_values=-1), jnp.pad(cotangent, edges)
    total = jnp.zeros((*lead, down, stride, across, stride, channels), cotangent.dtype)
    for up, left in itertools.product(range(reach + 1), repeat=2):
        row, column = np.ogrid[up * stride : (up + 1) * stride, left * stride : (left + 1) * stride]
        own = np.where((row < window) & (column < window), row + window * column, -2)
        own = own.astype(np.int16).reshape((1,) * (len(lead) + 1) + (stride, 1, stride, 1))
        there, given = (
            x[..., reach - up :, reach - left :, :][..., :down, :across, :]
            for x in (place, cotangent)
        )
        total += jnp.where(_spaced(there) == own, _spaced(given), 0)
    total = total.reshape((*lead, down * stride, across * stride, channels))
    return (total[..., :height, :width, :],)


def _spaced(windows: Array) -> Array:
    """[..., P, 1, Q, 1, C]."""
    return windows[..., :, None, :, None, :]


max_pool.defvjp(_max_pool_forward, max_pool_gradient)


def local_response_norm(
    x: Array, *, size: int = 5, alpha: float = 1e-4, beta: float = 0.75
) -> Array:
    """Krizhevsky's normalisation across channels, as Caffe has it.

    y = x / (1 + alpha/size * sum of x² over the `size` nearest channels)^beta. Only beta = 0.75 is
    offered: its power is two reciprocal square roots.
    """
    if beta != 0.75:
        raise ValueError(f"local_response_norm computes beta = 0.75 only, received {beta}")
    return _normalised(x, size, alpha / size)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _normalised(x: Array, size: int, share: float) -> Array:
    return _normalised_forward(x, size, share)[0]


def _near(x: Array, size: int) -> Array:
    """The sum of the `size` nearest channels: of slices, which on a CPU is a third of the time of a
    product with a band of ones. Its own adjoint.
    """
    channels = x.shape[-1]
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(size // 2, size // 2)])
    slices = [padded[..., k : k + channels] for k in range(2 * (size // 2) + 1)]
    return functools.reduce(jnp.add, slices)


def _normalised_forward(x: Array, size: int, share: float) -> tuple[Array, tuple[Array, Array]]:
    root = lax.rsqrt(1.0 + share * _near(jnp.square(x), size))
    return x * (root * jnp.sqrt(root)), (x, root)


def _normalised_gradient(
    size: int, share: float, kept: tuple[Array, Array], cotangent: Array
) -> tuple[Array]:
    """By hand, for the derivative of the slices would be padded arrays."""
    x, root = kept
    direct = cotangent * (root * jnp.sqrt(root))
    # Once, not again for each of the neighbours that it is summed with.
    through = lax.optimization_barrier(direct * x * jnp.square(root))
    return (direct - (1.5 * share) * x * _near(through, size),)


_normalised.defvjp(_normalised_forward, _normalised_gradient)


class UnitStrideConv(nn.Module):
    """Stride-1 convolution, its groups of disjoint channels; kernel [k, k, C/groups, features].

    tile: outputs along a side of a tile of Winograd's form (`winograd.evaluated`).
    """

    features: int
    kernel_size: int
    padding: int = 0
    groups: int = 1
    tile: int | None = None
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        channels = x.shape[-1] // self.groups
        shape = (self.kernel_size, self.kernel_size, channels, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        kernels, one = jnp.split(kernel, self.groups, -1), _plain
        if has_winograd(self.kernel_size):
            kernels = _kept(self, lambda: [winograd.evaluated(part, self.tile) for part in kernels])
            one = winograd.convolve
        # Kernels are kept apart: slices of the whole would be copied in every step.
        parts = zip(jnp.split(x, self.groups, -1), kernels, strict=True)
        y = jnp.concatenate([one(*part, self.padding) for part in parts], -1)
        return y + bias.reshape((1,) * (x.ndim - 1) + (-1,))


class StridedConv(nn.Module):
    """Convolution with a stride, without padding, of images of few channels; kernel [k, k, C, F].

    On a CPU in Winograd's form along one side: no faster forward, but its input's gradient is.
    """

    features: int
    kernel_size: int
    stride: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        size, stride = self.kernel_size, self.stride
        shape = (size, size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        if has_winograd(-(-size // stride)):
            values = _kept(self, lambda: winograd.evaluated_rows(kernel, stride))
            y = winograd.convolve_strided(x, values, size, stride)
        else:
            y = _plain(x, kernel, stride=stride)
        return y + bias.reshape((1,) * (x.ndim - 1) + (-1,))


def _kept(layer: nn.Module, evaluate: Callable[[], Any]) -> Any:
    """The kernel in Winograd's form, from the collection `evaluated` where that holds it."""
    if layer.has_variable("evaluated", "kernel"):
        return layer.get_variable("evaluated", "kernel")
    values = evaluate()
    if layer.is_mutable_collection("evaluated") and not layer.is_initializing():
        layer.put_variable("evaluated", "kernel", values)
    return values


def has_winograd(size: int) -> bool:
    """Whether kernels of this size are convolved in Winograd's form: on a CPU, by a program that
    is optimised (without, its sums cost more than the products they save, and long to compile).
    """
    optimised = not jax.config.read("jax_disable_most_optimizations")
    return optimised and jax.default_backend() == "cpu" and size in winograd.SIZES


def convolve(x: Array, kernel: Array, padding: int = 0, tile: int | None = None) -> Array:
    """Stride-1 convolution, [..., H + 2·padding - k + 1, …, features].

    On a CPU in Winograd's form where there is one, in tiles as in `UnitStrideConv`: products are
    what takes the time there. GPU and TPU have libraries that choose for themselves.
    """
    if has_winograd(len(kernel)):
        return winograd.convolve(x, winograd.evaluated(kernel, tile), padding)
    return _plain(x, kernel, padding)


def _plain(x: Array, kernel: Array, padding: int = 0, stride: int = 1) -> Array:
    if kernel.shape[:2] == (1, 1) and (padding, stride) == (0, 1):
        return x @ kernel[0, 0]  # whose gradient by the kernel XLA:CPU has five times as fast
    y = lax.conv_general_dilated(
        x.reshape((-1, *x.shape[-3:])),
        kernel,
        window_strides=(stride, stride),
        padding=[(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
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
        kernel = self.param("kernel", nn.initializers.he_normal(), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        batch = x.reshape((-1, *x.shape[-3:]))
        height, width = (side - size + 1 for side in batch.shape[1:3])
        batch = jnp.pad(batch, ((0, 0), *((0, side % 2) for side in batch.shape[1:3]), (0, 0)))
        y = lax.conv_general_dilated(
            blocks(batch, 2),
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


def blocks(x: Array, side: int) -> Array:
    """[..., H / side, W / side, side²·C] of images [..., H, W, C] whose sides it divides."""
    *batch, height, width, channels = x.shape
    x = x.reshape((*batch, height // side, side, width // side, side, channels))
    return jnp.moveaxis(x, -3, -4).reshape((*batch, height // side, width // side, -1))


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
