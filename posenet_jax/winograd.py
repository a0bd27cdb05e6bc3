"""Stride-1 convolutions with fewer products (Winograd 1980; Lavin and Gray, CVPR 2016).

An image is cut into tiles of m×m outputs. A tile's n×n inputs, n = m + r - 1 for a kernel of r×r
taps, and the kernel are taken as polynomials and evaluated at n points along each side; the values
multiply, and the outputs are interpolated: n² products for m² outputs, where the plain form needs
(m·r)². Evaluation and interpolation are small matrices A, B, G with

    y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A,

⊙ summed over channels: n² matrix products. The gradients by input and kernel are adjoints of the
same three maps, with as few products. Float32 throughout; see `_POINTS` for the rounding.

Arrays are [..., H, W, C], kernels [r, r, C / groups, features].
"""

import functools
import math
from collections.abc import Sequence
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Array = jax.Array

# By taps: outputs a tile along each side, and the finite points (infinity is the last). Of all sets
# of small fractions tried these round least: up to 1e-6 of the largest output, and 5e-6.
_POINTS = {3: (2, ("0", "1", "-1")), 5: (4, ("0", "1", "-1", "2", "-2", "3/5", "-3/5"))}

SIZES = tuple(_POINTS)


def evaluated(kernel: Array) -> Array:
    """G g Gᵀ, [n, n, C / groups, features]: what `convolve` and `convolve_transpose` take.

    Apart, so that where the kernel stays the same this is done once.
    """
    return _both_sides(_matrices(len(kernel))[1], kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(x: Array, values: Array, padding: int = 0, groups: int = 1) -> Array:
    """[..., H + 2·padding - r + 1, …, features] of x and an `evaluated` kernel, r of `SIZES`.

    `padding`: of zeros on every side, at most r - 1. Each group sees its share of the channels and
    makes its share of the features.
    """
    return _convolve(x, values, padding, groups)[0]


@jax.custom_vjp
def convolve_transpose(x: Array, values: Array) -> Array:
    """[..., H + r - 1, W + r - 1, features]: each pixel lays its multiple of the kernel down."""
    return _transposed(x, values)[0]


def _convolve(
    x: Array, values: Array, padding: int, groups: int
) -> tuple[Array, tuple[Array, Array, Array]]:
    size = _taps(values)
    tiles = _tiles(x, padding, size)
    products = _products("ab...c,abcf->ab...f", tiles, values, groups)
    sides = [side + 2 * padding - size + 1 for side in x.shape[-3:-1]]
    # Of no bytes: tells the gradient x's height and width.
    return _interpolated(products, sides, size), (tiles, values, jnp.zeros((*x.shape[-3:-1], 0)))


def _convolve_gradients(
    padding: int, groups: int, kept: tuple[Array, Array, Array], cotangent: Array
) -> tuple[Array, Array]:
    tiles, values, like_x = kept
    size = _taps(values)
    spread = _spread(cotangent, size)
    back = _products("ab...f,abcf->ab...c", spread, values, groups)
    by_x = _laid(back, padding, like_x.shape[:2], size)
    return by_x, _values_gradient(tiles, spread, groups)


convolve.defvjp(_convolve, _convolve_gradients)


def _transposed(x: Array, values: Array) -> tuple[Array, tuple[Array, Array]]:
    """The input gradient of a convolution whose kernel has its channels exchanged."""
    size = _taps(values)
    spread = _spread(x, size)
    back = _products("ab...c,abcf->ab...f", spread, values, 1)
    sides = [side + size - 1 for side in x.shape[-3:-1]]
    return _laid(back, 0, sides, size), (spread, values)


def _transposed_gradients(kept: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    spread, values = kept
    size = _taps(values)
    tiles = _tiles(cotangent, 0, size)
    products = _products("ab...f,abcf->ab...c", tiles, values, 1)
    sides = [side - size + 1 for side in cotangent.shape[-3:-1]]
    return _interpolated(products, sides, size), _values_gradient(spread, tiles, 1)


convolve_transpose.defvjp(_transposed, _transposed_gradients)


@functools.cache
def _matrices(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(Aᵀ [m, n], G [n, r], Bᵀ [n, n]): Toom's and Cook's multiplication, transposed."""
    outputs, finite = _POINTS[size]
    points = [Fraction(point) for point in finite]
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


def _taps(values: Array) -> int:
    return next(size for size in SIZES if size + _POINTS[size][0] - 1 == len(values))


def _products(equation: str, tiles: Array, values: Array, groups: int) -> Array:
    """n² matrix products for each group; the channels of `values` are its kernel's."""
    parts = zip(jnp.split(tiles, groups, -1), jnp.split(values, groups, -1), strict=True)
    return jnp.concatenate([jnp.einsum(equation, *part) for part in parts], -1)


def _values_gradient(tiles: Array, spread: Array, groups: int) -> Array:
    flat = [x.reshape((*x.shape[:2], -1, x.shape[-1])) for x in (tiles, spread)]
    pairs = zip(*(jnp.split(x, groups, -1) for x in flat), strict=True)
    return jnp.concatenate([jnp.einsum("abpc,abpf->abcf", *pair) for pair in pairs], -1)


def _combined(matrix: np.ndarray, parts: Sequence[Array]) -> list[Array]:
    """The matrix times a column of arrays, as sums: small products are slow."""
    return [
        functools.reduce(
            jnp.add,
            [
                part if factor == 1 else -part if factor == -1 else np.float32(factor) * part
                for factor, part in zip(row, parts, strict=True)
                if factor
            ],
        )
        for row in matrix
    ]


def _both_sides(matrix: np.ndarray, x: Array) -> Array:
    """[p, p, ...] of x [q, q, ...]: the matrix [p, q] along both of the first axes."""
    rows = _combined(matrix, list(x))
    return jnp.stack([jnp.stack(_combined(matrix, list(row))) for row in rows])


def _tiles(x: Array, padding: int, size: int) -> Array:
    """Bᵀ d B, [n, n, ..., tiles down, tiles across, C]."""
    outputs, matrix = _POINTS[size][0], _matrices(size)[2]
    for axis in (-3, -2):
        out = x.shape[axis] + 2 * padding - size + 1
        parts = _strided(x, axis, padding, len(matrix), outputs, -(-out // outputs))
        x = jnp.stack(_combined(matrix, parts))
    return jnp.swapaxes(x, 0, 1)


def _laid(tiles: Array, padding: int, sides: Sequence[int], size: int) -> Array:
    """The adjoint of `_tiles`: images [..., *sides, C], where tiles overlap their sums."""
    outputs, matrix = _POINTS[size][0], _matrices(size)[2].T
    rows = [
        _overlapped(_combined(matrix, list(row)), -2, padding, outputs, sides[1]) for row in tiles
    ]
    return _overlapped(_combined(matrix, rows), -3, padding, outputs, sides[0])


def _spread(y: Array, size: int) -> Array:
    """A y Aᵀ, [n, n, ..., tiles down, tiles across, features]: the adjoint of `_interpolated`."""
    outputs, matrix = _POINTS[size][0], _matrices(size)[0].T
    for axis in (-3, -2):
        parts = _strided(y, axis, 0, outputs, outputs, -(-y.shape[axis] // outputs))
        y = jnp.stack(_combined(matrix, parts))
    return jnp.swapaxes(y, 0, 1)


def _interpolated(products: Array, sides: Sequence[int], size: int) -> Array:
    """Aᵀ M A, [..., *sides, features] of [n, n, ..., tiles down, tiles across, features]."""
    outputs, matrix = _POINTS[size][0], _matrices(size)[0]
    down = jnp.stack(_combined(matrix, list(products)), -3)
    both = jnp.stack(_combined(matrix, list(down)), -2)
    *lead, high, _, wide, _, features = both.shape
    y = both.reshape((*lead, high * outputs, wide * outputs, features))
    return y[..., : sides[0], : sides[1], :]


def _strided(x: Array, axis: int, before: int, count: int, stride: int, tiles: int) -> list[Array]:
    """The tiles' first elements along the axis, their second ones, … to their count-th."""
    axis += x.ndim
    edges = [(0, 0)] * x.ndim
    # A last tile may not reach the end.
    after = (tiles - 1) * stride + count - before - x.shape[axis]
    edges[axis] = (before, max(after, 0))
    x = jnp.pad(x, edges)
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
