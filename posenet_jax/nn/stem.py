"""First layers of a residual network: a convolution with a stride, and max-pooling, both padded.

Arrays are [..., H, W, C]. The forms are chosen for XLA's CPU backend; the numbers are the same
everywhere.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from posenet_jax.nn.layers import max_pool_gradient

Array = jax.Array

_WINDOW, _STRIDE = 3, 2


class StemConv(nn.Module):
    """Convolution of images of few channels, with k // 2 zeros around; kernel [k, k, C, F]."""

    features: int
    kernel_size: int
    stride: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        y = convolve(x.reshape((-1, *x.shape[-3:])), kernel, self.stride)
        return y.reshape((*x.shape[:-3], *y.shape[1:])) + bias.reshape((1,) * (x.ndim - 1) + (-1,))


def convolve(x: Array, kernel: Array, stride: int) -> Array:
    """Returns [B, ⌈H/stride⌉, …, F] of images [B, H, W, C] and a kernel of odd size."""
    return (
        _on_cpu(x, kernel, stride) if jax.default_backend() == "cpu" else _plain(x, kernel, stride)
    )


def _plain(x: Array, kernel: Array, stride: int) -> Array:
    padding = len(kernel) // 2
    return _convolution(x, kernel, [(padding, padding)] * 2, stride)


def _convolution(x: Array, kernel: Array, padding: list[tuple[int, int]], stride: int = 1) -> Array:
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


_on_cpu = jax.custom_vjp(_plain, nondiff_argnums=(2,))


def _forward(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return _plain(x, kernel, stride), (x, kernel)


def _gradient(stride: int, given: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    """XLA's own by the input has as many outputs as the image has channels, too few to fill a loop.

    Here a column of the kernel's places, `stride` wide, has its own: stride²·C numbers for each of
    ⌈k/stride⌉ columns, of a convolution along the other side; then columns that overlap are added.
    """
    x, kernel = given
    size, _, channels, features = kernel.shape
    taps = -(-size // stride)
    room = ((0, taps * stride - size),) * 2
    blocks = jnp.pad(kernel, (*room, (0, 0), (0, 0)))
    blocks = blocks.reshape((taps, stride, taps, stride, channels, features))
    blocks = blocks.transpose((0, 5, 2, 1, 3, 4)).reshape((taps, 1, features, -1))[::-1]
    laid = _convolution(cotangent, blocks, [(taps - 1, taps - 1), (0, 0)])
    count, down, wide, _ = laid.shape
    columns = jnp.split(laid, taps, axis=-1)
    total = functools.reduce(
        jnp.add,
        [
            jnp.pad(column, ((0, 0), (0, 0), (at, taps - 1 - at), (0, 0)))
            for at, column in enumerate(columns)
        ],
    )
    across = wide + taps - 1
    pixels = total.reshape((count, down, across, stride, stride, channels))
    pixels = pixels.transpose((0, 1, 3, 2, 4, 5))
    pixels = pixels.reshape((count, down * stride, across * stride, channels))
    by_kernel = jax.vjp(lambda kernel: _plain(x, kernel, stride), kernel)[1](cotangent)[0]
    return _cut(pixels, size // 2, x.shape[1:3]), by_kernel


def _cut(x: Array, border: int, sides: tuple[int, ...]) -> Array:
    """Returns the image of these sides in its border; pixels that no window meets are zeros."""
    missing = [max(0, border + side - now) for side, now in zip(sides, x.shape[-3:-1], strict=True)]
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [*((0, more) for more in missing), (0, 0)])
    return x[..., border : border + sides[0], border : border + sides[1], :]


_on_cpu.defvjp(_forward, _gradient)


@jax.custom_vjp
def halving_max_pool(x: Array) -> Array:
    """Returns [..., ⌈H/2⌉, ⌈W/2⌉, C]: maxima of 3×3 windows two pixels apart, the first around the
    first pixel. Of equal pixels the first in a window has the gradient, as in PyTorch.
    """
    return _halved(x)[0]


def _halved(x: Array) -> tuple[Array, Array]:
    """(Maxima, their place in the window: row + 3·column), both [..., P, Q, C]."""
    best, place = x, jnp.zeros(x.shape, jnp.int16)
    # Rows last: of equals the first in reading order.
    for axis in (x.ndim - 2, x.ndim - 3):
        candidates = _window_pixels(best, float(jnp.finfo(x.dtype).min), axis)
        places = _window_pixels(place, 0, axis)
        best, place = candidates[0], _WINDOW * places[0]
        for k in (1, 2):
            place = jnp.where(candidates[k] > best, _WINDOW * places[k] + k, place)
            best = jnp.maximum(best, candidates[k])
    return best, place


def _window_pixels(x: Array, beyond: float, axis: int) -> tuple[Array, Array, Array]:
    """Returns the first, second and third pixel of every window along the axis.

    Of pairs of pixels, shifted by a pair: strided slices of a padded array take twice as long.
    """
    pairs = -(-x.shape[axis] // 2)
    if x.shape[axis] % 2:
        x = lax.pad(x, jnp.array(beyond, x.dtype), [(0, i == axis, 0) for i in range(x.ndim)])
    x = x.reshape((*x.shape[:axis], pairs, 2, *x.shape[axis + 1 :]))
    even, odd = (lax.index_in_dim(x, k, axis + 1, keepdims=False) for k in (0, 1))
    outside = jnp.full_like(lax.slice_in_dim(odd, 0, 1, axis=axis), beyond)
    before = jnp.concatenate([outside, lax.slice_in_dim(odd, 0, pairs - 1, axis=axis)], axis)
    return before, even, odd


def _halved_forward(x: Array) -> tuple[Array, tuple[Array, Array]]:
    best, place = _halved(x)
    # Takes no memory: tells the gradient x's height and width, with a pixel around.
    return best, (place, jnp.zeros((x.shape[-3] + 2, x.shape[-2] + 2, 0), x.dtype))


def _halved_gradient(kept: tuple[Array, Array], cotangent: Array) -> tuple[Array]:
    height, width = kept[1].shape[:2]
    (framed,) = max_pool_gradient(_WINDOW, _STRIDE, kept, cotangent)
    return (_cut(framed, 1, (height - 2, width - 2)),)


halving_max_pool.defvjp(_halved_forward, _halved_gradient)
