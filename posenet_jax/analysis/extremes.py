"""Changes of an image that a descriptor sees most and least, for equal energy.

At an image the descriptor, D numbers, moves by J d for a small change d of its P = H·W·3 values: J
[D, P] is the Jacobian. Its right singular vectors are changes of length one, its singular values
how far each moves the descriptor (the gains). There are three kinds of directions:

- most: the first right singular vectors.
- least: the last ones of the row space, those with the smallest gain that is not zero.
- unseen: the rest, the null space. It has P - rank dimensions, at least 29,488 of 30,000 for 512
  numbers, and all of it is equally unseen at first order: no vector of it is the last one. Two
  choices are made by principle. `smooth` are the changes of the lowest spatial frequencies: those
  of the S×S lowest cosines of each channel, S the least with 3 S² >= 2 rank, that have the smallest
  mean squared frequency and are unseen. `unseen_parts` are what is unseen of given changes, such as
  the difference to another photograph: their projections on the null space.

Up to `exact` numbers J itself is formed and decomposed, in 64 bits. Beyond that the first
directions alone are found, by LOBPCG on JᵀJ without forming either. N images, uint8 RGB
[N, H, W, C]; directions are in network space, float32.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
import scipy.linalg
import scipy.special
from jax.experimental.sparse.linalg import lobpcg_standard
from jax.flatten_util import ravel_pytree

from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import encode_checks
from posenet_jax.inversion.descent import Encode
from posenet_jax.inversion.engine import space_of
from posenet_jax.inversion.traced_functions import as_argument

Array = jax.Array

EXACT = 2048
# Times J's Frobenius norm, gains that rounding leaves where there are none: J is known to 32 bits.
_ROUNDING = 8 * float(np.finfo(np.float32).eps)
_BLOCK = 64  # rows of a Jacobian at once: each has a pass through the encoder in memory


class ExtremeDirections(NamedTuple):
    """Directions of N images, K of each kind, each of length one and orthogonal to the others.

    Zero where there is no such direction: most and least are of the row space, of `rank`
    dimensions. None: not known, where the descriptor has more than `exact` numbers.
    """

    gains: np.ndarray  # [N, min(D, P)] singular values, falling; [N, K] beyond `exact`
    most: np.ndarray  # [N, K, H, W, C], the largest gain first
    residual: np.ndarray  # [N, K] ‖JᵀJ v - σ² v‖ / σ² of these
    converged: np.ndarray  # [N, K] whether that is within the tolerance
    norm: np.ndarray  # [N] length of the descriptor
    rank: np.ndarray | None = None  # [N] gains above what rounding leaves
    least: np.ndarray | None = None  # [N, K, H, W, C], the smallest gain first
    smooth: np.ndarray | None = None  # [N, K, H, W, C], the lowest frequencies first
    unseen_parts: np.ndarray | None = None  # [N, M, H, W, C], not scaled, of M given changes
    moved: np.ndarray | None = None  # [N, M] how far these move the descriptor: ‖J d‖

    @property
    def effective_rank(self) -> np.ndarray:
        """Effective rank [N] of Roy & Vetterli 2007: exp of the entropy of the gains' fractions."""
        fractions = self.gains / np.maximum(self.gains.sum(axis=1, keepdims=True), 1e-300)
        return np.exp(-np.sum(scipy.special.xlogy(fractions, fractions), axis=1))

    @property
    def smallest(self) -> np.ndarray:
        """Smallest gain [N] of the row space; NaN where it is not known, or there is none."""
        if self.rank is None:
            return np.full(len(self.gains), np.nan)
        return np.array(
            [g[r - 1] if r else np.nan for g, r in zip(self.gains, self.rank, strict=True)]
        )


def extreme_directions(
    phi: Encode,
    images: np.ndarray,
    *,
    key: Array,
    count: int = 1,
    changes: np.ndarray | None = None,
    space: Preprocessing | None = None,
    exact: int = EXACT,
    steps: int = 300,
    tolerance: float = 1e-3,
    progress: Callable[[int], object] | None = None,
) -> ExtremeDirections:
    """Returns the changes of each image that φ sees most and least, for equal energy.

    phi, space: as in `engine.run`; a descriptor of several arrays counts as one long vector.
    images: uint8 RGB [N, H, W, C]. key: of LOBPCG's first vectors. count: directions of each kind.
    changes: [N, M, H, W, C] in network space, whose unseen parts are asked for.
    exact: largest number of numbers in a descriptor of which the Jacobian is formed: 16 bytes of
    memory for each of its D·P values. Beyond it: steps of LOBPCG at most, and the residual at which
    a direction counts as converged; what did not converge is said in the result.
    progress: called with the number of images done since its last call.

    Raises InputError for images that φ cannot read, a count that is more than there can be, and
    changes where the Jacobian is not formed.
    """
    space = space or space_of(phi)
    encode_checks.check_key(key)
    numbers = _numbers(phi, space)
    _check_images(images, space)
    _check_count(count, numbers, images[0].size, exact)
    if changes is not None:
        _check_changes(np.shape(changes), images.shape, numbers, exact)
    points = np.asarray(space.to_network(images))
    encode = as_argument(phi)
    if numbers > exact:
        iterated = _iterated(encode, points, key, count, steps, tolerance)
        if progress:
            progress(len(images))
        return iterated
    found = []
    for i, point in enumerate(points):
        rows, norm = _jacobian(encode, point, numbers)
        own = None if changes is None else np.asarray(changes[i])
        found.append(_exact(rows, norm, point.shape, count, own, tolerance))
        if progress:
            progress(1)
    columns = zip(ExtremeDirections._fields, zip(*found, strict=True), strict=True)
    fields: dict[str, Any] = {
        name: None if parts[0] is None else np.stack(parts) for name, parts in columns
    }
    return ExtremeDirections(**fields)


def _numbers(phi: Encode, space: Preprocessing) -> int:
    like = encode_checks.descriptor_like(phi, space)
    return sum(math.prod(layer.shape) for layer in jax.tree.leaves(like))


def _check_images(images: np.ndarray, space: Preprocessing) -> None:
    good = getattr(images, "dtype", None) == np.uint8 and images.shape[1:] == space.shape
    if not good or not len(images):
        sizes = ", ".join(map(str, space.shape))
        received = f"{getattr(images, 'dtype', type(images))} {list(np.shape(images))}"
        raise InputError(f"images must be uint8 [N, {sizes}]; received {received}")


def _check_changes(
    shape: tuple[int, ...], images: tuple[int, ...], numbers: int, exact: int
) -> None:
    if numbers > exact or (*shape[:1], *shape[2:]) != images:
        count, *size = images
        raise InputError(
            f"changes must be [{count}, M, {', '.join(map(str, size))}], with exact at least the "
            f"descriptor's {numbers} numbers; received {list(shape)} and {exact}"
        )


def _check_count(count: int, numbers: int, values: int, exact: int) -> None:
    # LOBPCG needs five times as many values as vectors.
    most = min(numbers, values) if numbers <= exact else (values - 1) // 5
    if not 1 <= count <= most:
        raise InputError(
            f"count must be 1 to {most} for {numbers} numbers of {values} values; received {count}"
        )


# The whole Jacobian ------------------------------------------------------------------------------


@jax.jit
def _rows(encode: Any, point: Array, numbers: Array) -> tuple[Array, Array]:
    """Rows [B, P] of the Jacobian, those of the descriptor's numbers [B]; the descriptor [D]."""
    value, pull = jax.vjp(functools.partial(_flat, encode), point)

    def row(number: Array) -> Array:
        return pull(jax.nn.one_hot(number, len(value), dtype=jnp.float32))[0].ravel()

    return jax.vmap(row)(numbers), value


def _flat(encode: Any, image: Array) -> Array:
    """Descriptor of one image as one vector [D], float32."""
    layers = jax.tree.map(lambda layer: jnp.asarray(layer, jnp.float32), encode(image))
    return ravel_pytree(layers)[0]


def linearised(encode: Any, point: Array) -> tuple[Array, Callable, Callable]:
    """Descriptor [D] of one image, and its Jacobian as two functions: d to J d, and e to Jᵀe.

    J d is the derivative of e to Jᵀe, which is linear: functions whose derivative is written by
    hand (`custom_vjp`) have no other.
    """
    value, pull = jax.vjp(functools.partial(_flat, encode), point)
    _, push = jax.vjp(lambda numbers: pull(numbers)[0], jnp.zeros_like(value))
    return value, lambda change: push(change)[0], lambda numbers: pull(numbers)[0]


def _jacobian(encode: Any, point: np.ndarray, numbers: int) -> tuple[np.ndarray, float]:
    """Jacobian [D, P] in 64 bits, and the descriptor's length; one program for all blocks."""
    block = min(_BLOCK, numbers)
    rows = np.empty((numbers, point.size))
    for start in range(0, numbers, block):
        asked = np.minimum(np.arange(start, start + block, dtype=np.int32), numbers - 1)
        part, value = _rows(encode, point, asked)
        rows[start : start + block] = np.asarray(part)[: numbers - start]
    return rows, float(np.linalg.norm(np.asarray(value, np.float64)))


def _exact(
    rows: np.ndarray,
    norm: float,
    shape: tuple[int, ...],
    count: int,
    changes: np.ndarray | None,
    tolerance: float,
) -> tuple[Any, ...]:
    """Fields of `ExtremeDirections` for one image, in order."""
    gains, basis = _row_space(rows)
    rank = len(basis)
    most = np.zeros((count, rows.shape[1]))
    least, residual = np.zeros_like(most), np.zeros(count)
    own = min(count, rank)
    most[:own], least[:own] = basis[:own], basis[::-1][:own]
    for k in range(own):
        rest = rows.T @ (rows @ most[k]) - gains[k] ** 2 * most[k]
        residual[k] = np.linalg.norm(rest) / gains[k] ** 2
    smooth = _smoothest(basis.reshape((rank, *shape)), shape, count)
    unseen = moved = None
    if changes is not None:
        flat = np.asarray(changes, np.float64).reshape((len(changes), -1))
        unseen = np.float32(flat - (flat @ basis.T) @ basis).reshape(changes.shape)
        moved = np.linalg.norm(rows @ flat.T, axis=0)
    first, last = (
        _signed(part.reshape((count, *shape)).astype(np.float32)) for part in (most, least)
    )
    converged = residual <= tolerance
    return gains, first, residual, converged, norm, rank, last, _signed(smooth), unseen, moved


def _row_space(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gains [min(D, P)] falling, and the right singular vectors [rank, P] of those not zero.

    From J Jᵀ, which is small; in 64 bits its rounding stays below that of J's own 32.
    """
    squares, left = np.linalg.eigh(rows @ rows.T)
    gains = np.sqrt(np.maximum(squares[::-1], 0.0))[: min(rows.shape)]
    rank = int(np.sum(gains > _ROUNDING * np.linalg.norm(rows)))
    basis = left[:, ::-1][:, :rank].T @ rows
    basis /= gains[:rank, None]
    return gains, basis


def _smoothest(basis: np.ndarray, shape: tuple[int, ...], count: int) -> np.ndarray:
    """Unseen directions [K, H, W, C] of the lowest frequencies; basis: [rank, H, W, C]."""
    height, width, channels = shape
    side = max(1, math.ceil(math.sqrt(2 * len(basis) / channels)))
    side = min(max(side, math.ceil(math.sqrt(count / channels))), height, width)
    down, across = (scipy.fft.dct(np.eye(n), axis=0, norm="ortho")[:side] for n in (height, width))
    waves = np.einsum("rhwc,ih,jw->rijc", basis, down, across, optimize=True)
    unseen = scipy.linalg.null_space(
        waves.reshape((len(basis), side * side * channels)), rcond=1e-6
    )
    half_cycles = np.arange(side) ** 2
    square = np.broadcast_to(
        (half_cycles[:, None] + half_cycles)[..., None], (side, side, channels)
    ).ravel()
    _, chosen = np.linalg.eigh(unseen.T @ (square[:, None] * unseen))
    own = min(count, unseen.shape[1])
    spectrum = np.zeros((count, *shape))
    spectrum[:own, :side, :side] = (unseen @ chosen[:, :own]).T.reshape((own, side, side, channels))
    return scipy.fft.idctn(spectrum, axes=(1, 2), norm="ortho").astype(np.float32)


def _signed(directions: np.ndarray) -> np.ndarray:
    """Directions [..., H, W, C] whose largest value is positive: J leaves the sign open."""
    flat = directions.reshape((*directions.shape[:-3], -1))
    largest = np.take_along_axis(flat, np.abs(flat).argmax(-1)[..., None], -1)
    return directions * np.where(largest < 0, np.float32(-1), np.float32(1))[..., None, None]


# Without it --------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnames="steps")
def _leading(
    encode: Any, points: Array, starts: Array, tolerance: Array, *, steps: int
) -> tuple[Array, ...]:
    """Squared gains [N, K], directions [N, P, K], their residuals [N, K], descriptors' lengths."""

    def one(point: Array, start: Array) -> tuple[Array, ...]:
        value, push, pull = linearised(encode, point)

        def normal(vector: Array) -> Array:
            return pull(push(vector.reshape(point.shape))).ravel()

        def product(vectors: Array) -> Array:
            return jax.vmap(normal, 1, 1)(vectors)

        # LOBPCG's own bound is tol · 10 P (λ + ‖A v‖): far above the residuals asked for here.
        own = tolerance / (20.0 * point.size)
        squares, vectors, _ = lobpcg_standard(product, start, m=steps, tol=own)
        rest = jnp.linalg.norm(product(vectors) - squares[None] * vectors, axis=0)
        return squares, vectors, rest / jnp.maximum(squares, 1e-30), jnp.linalg.norm(value)

    return jax.vmap(one)(points, starts)


def _iterated(
    encode: Any, points: np.ndarray, key: Array, count: int, steps: int, tolerance: float
) -> ExtremeDirections:
    starts = jax.random.normal(key, (len(points), points[0].size, count), jnp.float32)
    # Half of the tolerance: what passes LOBPCG's test is not to fail the one here by rounding.
    within = jnp.float32(0.5 * tolerance)
    squares, vectors, residual, norm = map(
        np.asarray, _leading(encode, points, starts, within, steps=steps)
    )
    most = vectors.swapaxes(1, 2).reshape((len(points), count, *points.shape[1:]))
    return ExtremeDirections(
        gains=np.sqrt(np.maximum(squares, 0.0)),
        most=_signed(most),
        residual=residual,
        converged=residual <= tolerance,
        norm=norm,
    )
