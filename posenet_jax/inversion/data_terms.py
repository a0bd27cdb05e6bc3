"""Data terms of an inversion, by name: what its descriptor is to be. Unbatched.

A descriptor is a pytree of arrays. A data term of the registry is written for one of them, and for
what the target has in its place; each array has its own, and their sum, weighted, is minimised.
Adding one takes a line of `DATA_TERMS`. `Recipe.data_term` takes a name, or a function of the whole
descriptor and the whole target, which may be any pytree of arrays then.
"""

import functools
import operator
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from posenet_jax import metrics
from posenet_jax.inversion.shapes import Descriptor, Layer, Scalar, Target

Own = Callable[[Descriptor, Target], Scalar]


class Masked(NamedTuple):
    """Target of the data term `masked`, in place of one array of the descriptor."""

    values: Layer
    mask: Layer  # 1 where the descriptor is to have the value, 0 where it is free


def distance(descriptor: Layer, target: Layer) -> Scalar:
    """‖φ0 - φ‖₂, the data term of eq. 2, with a finite gradient at zero."""
    return jnp.sqrt(jnp.sum(jnp.square(descriptor - target)) + 1e-12)


def relative_square(descriptor: Layer, target: Layer) -> Scalar:
    """‖φ0 - φ‖² / ‖φ0‖²: the scale of the encoder drops out."""
    return jnp.sum(jnp.square(descriptor - target)) / (jnp.sum(jnp.square(target)) + 1e-12)


def cosine_distance(descriptor: Layer, target: Layer) -> Scalar:
    """1 - φ·φ0 / (‖φ‖ ‖φ0‖): the descriptor's length is free. Between 0 and 2."""
    squares = jnp.sum(jnp.square(descriptor)), jnp.sum(jnp.square(target))
    lengths = jnp.sqrt(squares[0] + 1e-12) * jnp.sqrt(squares[1] + 1e-12)
    return 1.0 - jnp.sum(descriptor * target) / lengths


def negative_product(descriptor: Layer, target: Layer) -> Scalar:
    """-φ·φ0: a unit (1 in its place, else 0), or a direction, becomes as large as it can."""
    return -jnp.sum(descriptor * target)


def masked_square(descriptor: Layer, target: Masked) -> Scalar:
    """Σ m (φ0 - φ)² / Σ m φ0²: the relative square of the components that count."""
    squares = jnp.square(descriptor - target.values), jnp.square(target.values)
    return jnp.sum(target.mask * squares[0]) / (jnp.sum(target.mask * squares[1]) + 1e-12)


def _itself(value: Any) -> Any:
    return value


def _both(descriptor: Layer, target: Layer) -> tuple[Layer, Layer]:
    return descriptor, target


def _counted(descriptor: Layer, target: Masked) -> tuple[Layer, Layer]:
    return target.mask * descriptor, target.mask * target.values


class DataTerm(NamedTuple):
    """Value that is minimised for one array of a descriptor, and what it compares."""

    value: Callable[[Layer, Any], Scalar]
    target: Callable[[Any], Any] = _itself  # from the array's shape to those of its target
    # From an array and its target to those whose difference eq. 3 measures; None: it has none.
    compared: Callable[[Layer, Any], tuple[Layer, Layer]] | None = _both
    signed: bool = False  # whether the value may be negative


DATA_TERMS: dict[str, DataTerm] = {
    "norm": DataTerm(distance),
    "relative_square": DataTerm(relative_square),
    "cosine": DataTerm(cosine_distance),
    "maximise": DataTerm(negative_product, compared=None, signed=True),
    "masked": DataTerm(masked_square, lambda array: Masked(array, array), _counted),
}
"""Data terms by the names that `Recipe.data_term` takes."""


def value(term: str | Own, descriptor: Descriptor, target: Target, weights: Any) -> Scalar:
    """Returns the data term: the sum over the descriptor's arrays, each times its weight.

    weights: a pytree like the descriptor; None: all are 1.
    """
    if callable(term):
        return jnp.asarray(term(descriptor, target), jnp.float32)
    layers, structure = _parts(descriptor)
    own = structure.flatten_up_to(target)
    return _sum(map(DATA_TERMS[term].value, layers, own), _weights(structure, weights))


def errors(
    term: str | Own, descriptor: Descriptor, target: Target, weights: Any
) -> tuple[Scalar, Scalar]:
    """Returns eq. 3 and ‖φ - φ0‖ / ‖φ0‖; of several arrays their means, weighted likewise.

    NaN where the target is nothing that the descriptor can equal.
    """
    layers, structure = _parts(descriptor)
    compared = _both if callable(term) else DATA_TERMS[term].compared
    if compared is None or (callable(term) and not _alike(descriptor, target)):
        return jnp.full((), jnp.nan, jnp.float32), jnp.full((), jnp.nan, jnp.float32)
    pairs = list(map(compared, layers, structure.flatten_up_to(target)))
    found = [
        [measure(*pair) for pair in pairs]
        for measure in (metrics.relative_loss, metrics.descriptor_error)
    ]
    relative_loss, descriptor_error = (_mean(one, _weights(structure, weights)) for one in found)
    return relative_loss, descriptor_error


def target_like(term: str | Own, descriptor: Any) -> Any:
    """Returns a target's shapes, from those of the descriptor; None for a function: any will do."""
    return None if callable(term) else jax.tree.map(DATA_TERMS[term].target, descriptor)


def signed(term: str | Own) -> bool:
    """Returns whether the data term may be negative, as a function may."""
    return callable(term) or DATA_TERMS[term].signed


def _alike(descriptor: Descriptor, target: Target) -> bool:
    (layers, structure), (own, other) = _parts(descriptor), _parts(target)
    return structure == other and list(map(jnp.shape, layers)) == list(map(jnp.shape, own))


def _parts(tree: Any) -> tuple[list[Any], Any]:
    """Returns a pytree's arrays, and its structure, whose methods JAX gives no types."""
    return jax.tree.flatten(tree)


def _weights(structure: Any, weights: Any) -> list[Any] | None:
    return None if weights is None else structure.flatten_up_to(weights)


def _sum(terms: Iterable[Scalar], weights: list[Any] | None) -> Scalar:
    if weights is not None:
        terms = map(operator.mul, weights, terms)
    return functools.reduce(operator.add, terms)


def _mean(values: list[Scalar], weights: list[Any] | None) -> Scalar:
    if len(values) == 1:
        return values[0]
    whole = jnp.float32(len(values)) if weights is None else functools.reduce(operator.add, weights)
    return _sum(values, weights) / whole
