"""Layers of an up-convolutional decoder, in forms that run fast on CPU and plainly elsewhere.

A layer here enlarges its image by a whole factor s and convolves the result. Computed as it reads,
most of the work goes into copies or zeros. But output pixels with the same remainder modulo s, a
phase, come out of the smaller image by a small kernel of their own, whose taps are sums of the
layer's: all s×s phases together are one convolution of the smaller image, whose channels are then
dealt out to pixels. The numbers are the same but for rounding.

Arrays are [..., H, W, C]; kernels [k, k, C, features].
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from posenet_jax.nn import parts, winograd
from posenet_jax.nn.layers import convolve, has_winograd

Array = jax.Array
Initializer = nn.initializers.Initializer


class UpsampledConv(nn.Module):
    """Every pixel repeated `repeat` times each way, then a "same" convolution of odd size.

    Side n becomes repeat·n. tile: of Winograd's form, as in `layers.UnitStrideConv`.
    """

    features: int
    kernel_size: int
    repeat: int = 2
    tile: int | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel, bias = _parameters(self, x.shape[-1], nn.initializers.he_normal())
        phases = _repeat_phases(kernel, self.repeat)
        reach = len(phases)
        taps = phases.reshape((reach, reach, x.shape[-1], -1))
        y = convolve(x, taps, padding=reach // 2, tile=self.tile)
        return deal_out(y, self.repeat) + _like(bias, x)


class InterpolatedConv(nn.Module):
    """Twice as large by linear interpolation, then a 3×3 convolution; border pixels go on outside.

    Side n becomes 2·n. Unlike repeated pixels and strides, that treats all pixels alike but for the
    smoothness of what lies between.
    """

    features: int
    kernel_size: int = 3
    kernel_init: Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel, bias = _parameters(self, x.shape[-1], self.kernel_init)
        mixed = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
        phases = jnp.asarray(_LINEAR_PHASES, x.dtype)
        taps = mixed("atj,bul,tucf->jlcabf", phases, phases, kernel)
        edges = [(0, 0)] * (x.ndim - 3) + [(1, 1), (1, 1), (0, 0)]
        padded = jnp.pad(x, edges, mode="edge")
        y = convolve(padded, taps.reshape((3, 3, x.shape[-1], -1)), padding=0)
        return deal_out(y, 2) + _like(bias, x)


# [2, 3, 3]: of each phase and tap, the shares of a pixel's left neighbour, itself and its right
# one. Twice as large, pixel q becomes (x[q-1] + 3 x[q]) / 4 and (3 x[q] + x[q+1]) / 4.
_LINEAR_PHASES = (
    ((0.75, 0.25, 0.0), (0.25, 0.75, 0.0), (0.0, 0.75, 0.25)),
    ((0.25, 0.75, 0.0), (0.0, 0.75, 0.25), (0.0, 0.25, 0.75)),
)


class UpsampledConvTranspose(nn.Module):
    """Every pixel repeated `repeat` times each way, then a transposed convolution with a stride.

    Each pixel lays its multiple of the kernel on the output, `stride` pixels apart: side n becomes
    (repeat·n - 1)·stride + k. tile: as in `UpsampledConv`; None: one product of pixels with taps.
    """

    features: int
    kernel_size: int
    stride: int = 1
    repeat: int = 1
    tile: int | None = None
    kernel_init: Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel, bias = _parameters(self, x.shape[-1], self.kernel_init)
        factor = self.stride * self.repeat
        if factor == 1 and has_winograd(len(kernel)):
            return winograd.convolve_transpose(x, winograd.evaluated(kernel)) + _like(bias, x)
        phases = _stride_phases(kernel, self.repeat, self.stride)
        if self.tile and has_winograd(len(phases)):
            taps = phases.reshape((*phases.shape[:3], -1))
            laid = winograd.convolve_transpose(x, winograd.evaluated(taps, self.tile))
        else:
            laid = _laid_on(x, phases)
        # Not one loop with what follows: each pixel's index would be worked out for every tap.
        y = deal_out(jax.lax.optimization_barrier(laid), factor)
        height, width = (
            (self.repeat * side - 1) * self.stride + self.kernel_size for side in x.shape[-3:-1]
        )
        return y[..., :height, :width, :] + _like(bias, x)


def _parameters(layer: nn.Module, channels: int, kernel_init: Initializer) -> tuple[Array, Array]:
    """Those of the layer as it reads."""
    size, features = layer.kernel_size, layer.features
    kernel = layer.param("kernel", kernel_init, (size, size, channels, features), jnp.float32)
    return kernel, layer.param("bias", nn.initializers.zeros, (features,), jnp.float32)


def _like(bias: Array, x: Array) -> Array:
    return bias.reshape((1,) * (x.ndim - 1) + (-1,))


def _repeat_phases(kernel: Array, repeat: int) -> Array:
    """[D, D, C, s, s, features]: each phase's taps on D×D pixels about each pixel.

    With s = repeat, pixel i becomes pixels s·i to s·i + s - 1. Output pixel s·q + r sees, by tap t,
    pixel s·q + r + t - k // 2 of them: pixel q + ⌊(r + t - k // 2) / s⌋ of the
    image. Over all phases that reaches as far back as on.
    """
    size = len(kernel)
    offsets = (np.arange(repeat)[:, None] + np.arange(size) - size // 2) // repeat
    first = int(offsets.min())
    reach = int(offsets.max()) - first + 1
    rows = [
        np.flatnonzero(offsets[phase] == first + place)
        for place in range(reach)
        for phase in range(repeat)
    ]
    return _grouped(_summed(kernel, rows), repeat)


def _stride_phases(kernel: Array, repeat: int, stride: int) -> Array:
    """[D, D, C, s, s, features]: what each phase, 0 to D - 1 pixels on, receives of a pixel.

    With s = stride·repeat, pixel i has copies j = 0 … repeat - 1, and by tap t reaches output pixel
    s·i + stride·j + t: phase (stride·j + t) mod s, (stride·j + t) // s pixels on.
    """
    reached = stride * np.arange(repeat)[:, None] + np.arange(len(kernel))
    length = -(-int(reached.max() + 1) // (stride * repeat)) * stride * repeat
    rows = [np.nonzero(reached == place)[1] for place in range(length)]
    return _grouped(_summed(kernel, rows), stride * repeat)


def _summed(kernel: Array, rows: Sequence[np.ndarray]) -> Array:
    """[R, R, C, features]: sums of the taps named by each row, along both sides.

    Slices and sums: a matrix product would be slower on CPU, and rounded to ten bits on GPU.
    """
    for axis in (0, 1):
        taps = [jnp.take(kernel, tap, axis) for tap in range(kernel.shape[axis])]
        zero = jnp.zeros_like(taps[0])
        kernel = jnp.stack([sum((taps[t] for t in row), zero) for row in rows], axis)
    return kernel


def _grouped(taps: Array, factor: int) -> Array:
    """[D, D, C, s, s, features] of [D·s, D·s, C, features]."""
    rows, _, channels, features = taps.shape
    reach = rows // factor
    taps = taps.reshape((reach, factor, reach, factor, channels, features))
    return taps.transpose((0, 2, 4, 1, 3, 5))


def _laid_on(x: Array, phases: Array) -> Array:
    """[..., H + D - 1, W + D - 1, s·s·features]: what all pixels lay on each.

    One product with all taps, of rows: XLA's CPU backend computes the weights' gradient of one with
    more than two axes half as fast, and that of a convolution 25 times as slow.
    """
    reach, channels = len(phases), x.shape[-1]
    taps = phases.transpose((2, 0, 1, *range(3, phases.ndim))).reshape((channels, -1))

    def of_part(x: Array) -> Array:
        laid = (x.reshape((-1, channels)) @ taps).reshape((*x.shape[:-1], -1))
        moved = []
        for number, part in enumerate(jnp.split(laid, reach * reach, axis=-1)):
            down, right = divmod(number, reach)
            edges = [(0, 0)] * (x.ndim - 3)
            edges += [(down, reach - 1 - down), (right, reach - 1 - right), (0, 0)]
            moved.append(jnp.pad(part, edges))
        return functools.reduce(jnp.add, moved)

    each = math.prod(x.shape[-3:-1]) * taps.shape[1] * x.itemsize
    return parts.mapped(of_part, x, each, taps.nbytes)


def deal_out(y: Array, factor: int) -> Array:
    """[..., s·H, s·W, features] of [..., H, W, s·s·features]: the inverse of `layers.blocks`."""
    *batch, height, width, channels = y.shape
    y = y.reshape((*batch, height, width, factor, factor, channels // factor**2))
    return jnp.moveaxis(y, -3, -4).reshape((*batch, height * factor, width * factor, -1))
