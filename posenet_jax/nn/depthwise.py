"""Depthwise convolution: each channel of an image has a kernel of its own.

Padded as TensorFlow's "SAME" pads: ⌈side / stride⌉ windows, the zeros as many before as after, an
odd one after. On a CPU a sum of k² shifted images, which is one loop: XLA's grouped convolution
takes 10 to 50 times as long there, its input's gradient 20 to 100 times.
"""

import functools
import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

Array = jax.Array


class DepthwiseConv(nn.Module):
    """Convolution of each channel by itself, [..., ⌈H/s⌉, ⌈W/s⌉, C]; kernel [k, k, 1, C]."""

    kernel_size: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        size, channels = self.kernel_size, x.shape[-1]
        shape = (size, size, 1, channels)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        batch = x.reshape((-1, *x.shape[-3:]))
        y = convolve(batch, kernel, self.stride)
        return y.reshape((*x.shape[:-3], *y.shape[1:])) + bias.reshape((1,) * (x.ndim - 1) + (-1,))


def convolve(x: Array, kernel: Array, stride: int = 1) -> Array:
    """Returns [B, ⌈H/stride⌉, ⌈W/stride⌉, C] of images [B, H, W, C] and a kernel [k, k, 1, C]."""
    if jax.default_backend() == "cpu":
        return shifted_sum(x, kernel, stride)
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def shifted_sum(x: Array, kernel: Array, stride: int) -> Array:
    """Same as `convolve`, as a sum over the kernel's k² places."""
    terms = (view * at for view, at in zip(_views(x, kernel, stride), _places(kernel), strict=True))
    return functools.reduce(jnp.add, terms)


def _places(kernel: Array) -> Iterator[Array]:
    """Yields the kernel's numbers [1, 1, 1, C] at each of its places, row by row."""
    size = len(kernel)
    return (kernel[i : i + 1, j : j + 1] for i, j in itertools.product(range(size), repeat=2))


def _views(x: Array, kernel: Array, stride: int) -> Iterator[Array]:
    """Yields what each place of the kernel meets, [B, ⌈H/stride⌉, ⌈W/stride⌉, C], row by row."""
    size = len(kernel)
    edges = [_edges(side, size, stride) for side in x.shape[1:3]]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*edge, 0) for edge in edges), (0, 0, 0)])
    return _slices(x, size, stride)


def _slices(x: Array, size: int, stride: int) -> Iterator[Array]:
    extents = [side - size + 1 for side in x.shape[1:3]]
    for i, j in itertools.product(range(size), repeat=2):
        rows = lax.slice_in_dim(x, i, i + extents[0], stride, axis=1)
        yield lax.slice_in_dim(rows, j, j + extents[1], stride, axis=2)


def _edges(side: int, size: int, stride: int) -> tuple[int, int]:
    """Returns the zeros before and after a side; negative where the last pixels meet no window."""
    needed = (-(-side // stride) - 1) * stride + size - side
    before = max(needed, 0) // 2
    return before, needed - before


def _forward(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return shifted_sum(x, kernel, stride), (x, kernel)


def _gradient(stride: int, given: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    """The input's is again such a sum: of the cotangent, its pixels `stride` apart, and the kernel
    turned around. Derived from the slices it would be k² padded arrays.
    """
    x, kernel = given
    size = len(kernel)
    edges = []
    for side in x.shape[1:3]:
        before, _ = _edges(side, size, stride)
        spread = (-(-side // stride) - 1) * stride + 1
        edges.append((size - 1 - before, side + before - spread, stride - 1))
    zero = jnp.zeros((), cotangent.dtype)
    spaced = lax.pad(cotangent, zero, [(0, 0, 0), *edges, (0, 0, 0)])
    turned = _places(kernel[::-1, ::-1])
    terms = (view * at for view, at in zip(_slices(spaced, size, 1), turned, strict=True))
    sums = [jnp.sum(view * cotangent, axis=(0, 1, 2)) for view in _views(x, kernel, stride)]
    return functools.reduce(jnp.add, terms), jnp.stack(sums).reshape(kernel.shape)


shifted_sum.defvjp(_forward, _gradient)
