"""Convolutions with fewer products (Winograd 1980; Lavin and Gray, CVPR 2016).

An image is cut into tiles of m×m outputs. A tile's n×n inputs, n = m + r - 1 for a kernel of r×r
taps, and the kernel are taken as polynomials and evaluated at n points along each side; the values
multiply, and the outputs are interpolated: n² products for m² outputs, where the plain form needs
(m·r)². Evaluation and interpolation are small matrices A, B, G with

    y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A,

⊙ summed over channels: n² matrix products. The gradients by input and kernel are adjoints of the
same three maps, with as few products. With a stride, the same along one side alone
(`convolve_strided`). Float32 throughout; see `_POINTS` for the rounding.

Arrays are [..., H, W, C], kernels [r, r, C, features].
"""

import functools
import math
from collections.abc import Sequence
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from posenet_jax.nn import parts

Array = jax.Array

# The finite points (infinity is the last) by outputs a tile along a side, and taps. Of all sets of
# small fractions tried these round least: up to 1e-6 of the largest output, the last one 5e-6.
_POINTS = {
    (2, 3): ("0", "1", "-1"),
    (4, 3): ("0", "1", "-1", "-2", "1/2"),
    (4, 5): ("0", "1", "-1", "2", "-2", "3/5", "-3/5"),
}
# Outputs a tile along each side, by taps, and along the one side of `convolve_strided`. Of three
# taps 4 have fewer products, and 2 waste less at the edge of maps of few pixels.
_OUTPUTS = {3: 2, 5: 4}
_ROWS = 4

SIZES = tuple(_OUTPUTS)

Form = tuple[int, int]  # outputs a tile along a side, and taps
_FORMS: dict[int, Form] = {sum(form) - 1: form for form in _POINTS}  # by the points along a side


def evaluated(kernel: Array, outputs: int | None = None) -> Array:
    """G g Gᵀ, [n, n, C, features]: what `convolve` and `convolve_transpose` take.

    Apart, so that where the kernel stays the same this is done once. outputs: a tile along each
    side, of three taps 2 or 4; None: what is best for maps of few pixels.
    """
    _, matrix, _ = _matrices(outputs or _OUTPUTS[len(kernel)], len(kernel))
    rows = _combined(matrix, list(kernel))
    return jnp.stack([jnp.stack(_combined(matrix, list(row))) for row in rows])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(x: Array, values: Array, padding: int = 0) -> Array:
    """[..., H + 2·padding - r + 1, …, features] of x and an `evaluated` kernel, r of `SIZES`.

    `padding`: of zeros on every side, at most r - 1. Images of a batch are taken a few at a time,
    whose tiles a core's cache holds.
    """
    return _convolved(x, values, padding)[0]


def _convolved(x: Array, values: Array, padding: int) -> tuple[Array, tuple[Array, Array]]:
    form = _form(values)

    def of_part(x: Array) -> Array:
        products = jnp.einsum("ab...c,abcf->ab...f", _tiles(x, padding, form), values)
        sides = [side + 2 * padding - form[1] + 1 for side in x.shape[-3:-1]]
        return _interpolated(products, sides, form)

    return parts.mapped(of_part, x, _tile_bytes(x, values), values.nbytes), (x, values)


def _convolve_gradients(
    padding: int, kept: tuple[Array, Array], cotangent: Array
) -> tuple[Array, Array]:
    x, values = kept
    form = _form(values)

    def of_part(x: Array, cotangent: Array) -> tuple[Array, Array]:
        spread = _spread(cotangent, form)
        back = jnp.einsum("ab...f,abcf->ab...c", spread, values)
        by_values = _values_gradient(_tiles(x, padding, form), spread)
        return _laid(back, padding, x.shape[-3:-1], form), by_values

    return parts.mapped_and_summed(of_part, (x, cotangent), _tile_bytes(x, values), values)


convolve.defvjp(_convolved, _convolve_gradients)


@jax.custom_vjp
def convolve_transpose(x: Array, values: Array) -> Array:
    """[..., H + r - 1, W + r - 1, features]: each pixel lays its multiple of the kernel down."""
    return _transposed(x, values)[0]


def _transposed(x: Array, values: Array) -> tuple[Array, tuple[Array, Array]]:
    """The input gradient of a convolution whose kernel has its channels exchanged."""
    form = _form(values)

    def of_part(x: Array) -> Array:
        back = jnp.einsum("ab...c,abcf->ab...f", _spread(x, form), values)
        return _laid(back, 0, [side + form[1] - 1 for side in x.shape[-3:-1]], form)

    return parts.mapped(of_part, x, _tile_bytes(x, values), values.nbytes), (x, values)


def _transposed_gradients(kept: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    x, values = kept
    form = _form(values)

    def of_part(x: Array, cotangent: Array) -> tuple[Array, Array]:
        tiles = _tiles(cotangent, 0, form)
        products = jnp.einsum("ab...f,abcf->ab...c", tiles, values)
        by_values = _values_gradient(_spread(x, form), tiles)
        return _interpolated(products, x.shape[-3:-1], form), by_values

    return parts.mapped_and_summed(of_part, (x, cotangent), _tile_bytes(x, values), values)


convolve_transpose.defvjp(_transposed, _transposed_gradients)


# With a stride ---------------------------------------------------------------------------------


def evaluated_rows(kernel: Array, stride: int) -> Array:
    """[n, stride·k·C, features] of a kernel [k, k, C, features]: what `convolve_strided` takes."""
    size, _, channels, features = kernel.shape
    taps = -(-size // stride)
    kernel = jnp.pad(kernel, ((0, taps * stride - size), (0, 0), (0, 0), (0, 0)))
    blocks = kernel.reshape((taps, stride * size * channels, features))
    return jnp.stack(_combined(_matrices(_ROWS, taps)[1], list(blocks)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve_strided(x: Array, values: Array, size: int, stride: int) -> Array:
    """[..., (H - k) // stride + 1, …, features], of images of few channels, without padding.

    k = `size`. Rows are taken `stride` at a time and every output's k pixels of each row side by
    side: what is left is a convolution along the other side alone, whose ceil(k / stride) taps have
    stride·k·C channels, of which three or five are in Winograd's form.
    """
    return _rows_convolved(x, values, size, stride)[0]


def _rows_convolved(
    x: Array, values: Array, size: int, stride: int
) -> tuple[Array, tuple[Array, Array]]:
    interpolation, _, matrix = _matrices(_ROWS, -(-size // stride))
    high, wide = ((side - size) // stride + 1 for side in x.shape[-3:-1])

    def of_part(x: Array) -> Array:
        products = jnp.einsum("a...c,acf->a...f", _row_tiles(x, size, stride), values)
        y = jnp.stack(_combined(interpolation, list(products)), -3)
        return y.reshape((*x.shape[:-3], -1, *y.shape[-2:]))[..., :high, :, :]

    each = len(matrix) * -(-high // _ROWS) * wide * _row_bytes(values)
    return parts.mapped(of_part, x, each, values.nbytes), (x, values)


def _rows_gradients(
    size: int, stride: int, kept: tuple[Array, Array], cotangent: Array
) -> tuple[Array, Array]:
    x, values = kept
    interpolation, _, matrix = _matrices(_ROWS, -(-size // stride))
    high, wide = cotangent.shape[-3:-1]
    down = -(-high // _ROWS)

    def of_part(x: Array, cotangent: Array) -> tuple[Array, Array]:
        framed = _framed(cotangent, 0, (down * _ROWS, wide))
        spread = jnp.stack(_combined(interpolation.T, _strided(framed, -3, _ROWS, _ROWS, down)))
        back = jnp.einsum("a...f,acf->a...c", spread, values)
        blocks = (down - 1) * _ROWS + len(matrix)
        laid = _overlapped(_combined(matrix.T, list(back)), -3, 0, _ROWS, blocks)
        by_x = _narrowed(laid, x.shape[-3:], size, stride)
        both = (_row_tiles(x, size, stride), spread)
        flat = [array.reshape((len(matrix), -1, array.shape[-1])) for array in both]
        return by_x, jnp.einsum("apc,apf->acf", *flat)

    each = len(matrix) * down * wide * _row_bytes(values)
    return parts.mapped_and_summed(of_part, (x, cotangent), each, values)


convolve_strided.defvjp(_rows_convolved, _rows_gradients)


def _row_tiles(x: Array, size: int, stride: int) -> Array:
    """[n, ..., tiles down, W, stride·k·C] of images, `evaluated_rows`'s counterpart."""
    matrix = _matrices(_ROWS, -(-size // stride))[2]
    high, wide = ((side - size) // stride + 1 for side in x.shape[-3:-1])
    down = -(-high // _ROWS)
    blocks = _widened(x, (down - 1) * _ROWS + len(matrix), wide, size, stride)
    return jnp.stack(_combined(matrix, _strided(blocks, -3, len(matrix), _ROWS, down)))


def _widened(x: Array, blocks: int, wide: int, size: int, stride: int) -> Array:
    """[..., blocks, wide, stride·k·C]: of `stride` rows at a time, each output's pixels."""
    *lead, height, width, channels = x.shape
    x = _framed(x, 0, (blocks * stride, width))[..., : blocks * stride, :, :]
    rows = x.reshape((*lead, blocks, stride, width * channels))
    step, reach = stride * channels, size * channels
    windows = [rows[..., k * step : k * step + reach] for k in range(wide)]
    return jnp.stack(windows, -3).reshape((*lead, blocks, wide, stride * reach))


def _narrowed(wide: Array, shape: Sequence[int], size: int, stride: int) -> Array:
    """The adjoint of `_widened`: images [..., *shape], where windows overlap their sums."""
    height, width, channels = shape
    *lead, blocks, count, _ = wide.shape
    step, taps = stride * channels, -(-size // stride)
    windows = wide.reshape((*lead, blocks, count, stride, size * channels))
    total = []
    for k in range(taps):
        part = windows[..., k * step : (k + 1) * step]
        edges = [(0, 0)] * len(lead) + [(0, 0), (k, taps - 1 - k), (0, 0)]
        total.append(jnp.pad(part, [*edges, (0, step - part.shape[-1])]))
    rows = jnp.swapaxes(functools.reduce(jnp.add, total), -3, -2)
    x = rows.reshape((*lead, blocks * stride, (count + taps - 1) * stride, channels))
    return _framed(x, 0, (height, width))[..., :height, :width, :]


# Parts -----------------------------------------------------------------------------------------

Matrices = tuple[np.ndarray, np.ndarray, np.ndarray]


@functools.cache
def _matrices(outputs: int, size: int) -> Matrices:
    """(Aᵀ [m, n], G [n, r], Bᵀ [n, n]): Toom's and Cook's multiplication, transposed."""
    points = [Fraction(point) for point in _POINTS[outputs, size]]
    count = len(points) + 1

    def powers(degree: int) -> np.ndarray:
        rows = [[point**k for k in range(degree)] for point in points]
        return np.array([*rows, [0] * (degree - 1) + [1]], object)

    def polynomial(roots: Sequence[Fraction]) -> np.ndarray:
        lowest_first = np.array([Fraction(1)], object)
        for root in roots:
            lowest_first = np.convolve(lowest_first, np.array([-root, 1], object))
        return np.concatenate([lowest_first, [0] * (count - len(lowest_first))])

    others = [[other for other in points if other != point] for point in points]
    norms = [math.prod(points[k] - other for other in rest) for k, rest in enumerate(others)]
    evaluation = powers(size) / np.array([*norms, 1], object)[:, None]
    tile = np.array([*map(polynomial, others), polynomial(points)], object)
    interpolation, evaluation, tile = (
        part.astype(np.float64) for part in (powers(outputs).T, evaluation, tile)
    )
    return interpolation, evaluation, tile


def _form(values: Array) -> Form:
    return _FORMS[len(values)]


def _tile_bytes(x: Array, values: Array) -> int:
    """Bytes of the tiles of one of the images [..., H, W, C], about."""
    outputs, _ = _form(values)
    tiles = math.prod(-(-side // outputs) for side in x.shape[-3:-1])
    return len(values) ** 2 * tiles * _row_bytes(values)


def _row_bytes(values: Array) -> int:
    return max(values.shape[-2:]) * values.itemsize


def _values_gradient(tiles: Array, spread: Array) -> Array:
    flat = [x.reshape((*x.shape[:2], -1, x.shape[-1])) for x in (tiles, spread)]
    return jnp.einsum("abpc,abpf->abcf", *flat)


def _combined(matrix: np.ndarray, parts: Sequence[Array]) -> list[Array]:
    """The matrix times a column of arrays, as sums: small products are slow."""
    return [
        functools.reduce(
            jax.lax.add,
            [_multiple(factor, part) for factor, part in zip(row, parts, strict=True) if factor],
        )
        for row in matrix
    ]


def _multiple(factor: float, part: Array) -> Array:
    # By `lax`: a network has thousands of these, and `jnp` takes three times as long to trace them.
    if factor == 1:
        return part
    if factor == -1:
        return jax.lax.neg(part)
    return jax.lax.mul(np.asarray(np.float32(factor), part.dtype), part)


def _tiles(x: Array, padding: int, form: Form) -> Array:
    """Bᵀ d B, [n, n, ..., tiles down, tiles across, C]."""
    (outputs, size), (_, _, matrix) = form, _matrices(*form)
    down, across = (-(-(side + 2 * padding - size + 1) // outputs) for side in x.shape[-3:-1])
    x = _framed(x, padding, [(count - 1) * outputs + len(matrix) for count in (down, across)])
    x = jnp.stack(_combined(matrix, _strided(x, -2, len(matrix), outputs, across)))
    return jnp.stack(_combined(matrix, _strided(x, -3, len(matrix), outputs, down)))


def _laid(tiles: Array, padding: int, sides: Sequence[int], form: Form) -> Array:
    """The adjoint of `_tiles`: images [..., *sides, C], where tiles overlap their sums."""
    outputs, matrix = form[0], _matrices(*form)[2].T
    for axis, side in zip((-3, -2), sides, strict=True):
        tiles = _overlapped(_combined(matrix, list(tiles)), axis, padding, outputs, side)
    return tiles


def _spread(y: Array, form: Form) -> Array:
    """A y Aᵀ, [n, n, ..., tiles down, tiles across, features]: the adjoint of `_interpolated`."""
    outputs, matrix = form[0], _matrices(*form)[0].T
    down, across = (-(-side // outputs) for side in y.shape[-3:-1])
    y = _framed(y, 0, [down * outputs, across * outputs])
    y = jnp.stack(_combined(matrix, _strided(y, -2, outputs, outputs, across)))
    return jnp.stack(_combined(matrix, _strided(y, -3, outputs, outputs, down)))


def _interpolated(products: Array, sides: Sequence[int], form: Form) -> Array:
    """Aᵀ M A, [..., *sides, features] of [n, n, ..., tiles down, tiles across, features]."""
    outputs, matrix = form[0], _matrices(*form)[0]
    down = jnp.stack(_combined(matrix, list(products)), -3)
    both = jnp.stack(_combined(matrix, list(down)), -2)
    *lead, high, _, wide, _, features = both.shape
    y = both.reshape((*lead, high * outputs, wide * outputs, features))
    return y[..., : sides[0], : sides[1], :]


def _framed(x: Array, before: int, sides: Sequence[int]) -> Array:
    """x in zeros, `before` of them above and to the left, *sides in all where that is not less."""
    edges = [
        (before, max(side - before - now, 0))
        for side, now in zip(sides, x.shape[-3:-1], strict=True)
    ]
    return jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [*edges, (0, 0)])


def _strided(x: Array, axis: int, count: int, stride: int, tiles: int) -> list[Array]:
    """The tiles' first elements along the axis, their second ones, … to their count-th."""
    extent = (tiles - 1) * stride + 1
    return [lax.slice_in_dim(x, k, k + extent, stride, axis) for k in range(count)]


def _overlapped(parts: Sequence[Array], axis: int, before: int, stride: int, side: int) -> Array:
    """The adjoint of `_strided`: tiles laid `stride` apart, cut to `side` elements."""
    axis += parts[0].ndim
    reach = -(-len(parts) // stride)
    phases = []
    for phase in range(stride):
        total = []
        for on, part in enumerate(parts[phase::stride]):
            edges = [(0, 0)] * part.ndim
            edges[axis] = (on, reach - 1 - on)
            total.append(jnp.pad(part, edges))
        phases.append(functools.reduce(jnp.add, total))
    laid = jnp.stack(phases, axis + 1)
    laid = laid.reshape((*laid.shape[:axis], -1, *laid.shape[axis + 2 :]))
    return lax.slice_in_dim(laid, before, before + side, 1, axis)
