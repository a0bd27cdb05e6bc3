"""Data terms of an inversion, by name: how far a descriptor is from its target. Unbatched.

A descriptor is a pytree of arrays. A data term of the registry is written for one of them, and for
what the target has in its place; each array has its own, and their sum, weighted, is minimised.
Adding one takes a line of `DATA_TERMS`. `Recipe.data_term` takes a name, or a function of the whole
descriptor and the whole target.
"""

import functools
import operator
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from posenet_jax import metrics
from posenet_jax.inversion.shapes import Descriptor, Layer, Scalar, Target


def distance(descriptor: Layer, target: Layer) -> Scalar:
    """‖φ0 - φ‖₂, the data term of eq. 2, with a finite gradient at zero."""
    return jnp.sqrt(jnp.sum(jnp.square(descriptor - target)) + 1e-12)


def relative_square(descriptor: Layer, target: Layer) -> Scalar:
    """‖φ0 - φ‖² / ‖φ0‖²: the scale of the encoder drops out."""
    return jnp.sum(jnp.square(descriptor - target)) / (jnp.sum(jnp.square(target)) + 1e-12)


class DataTerm(NamedTuple):
    """What is minimised for one array of a descriptor."""

    value: Callable[[Layer, Any], Scalar]


DATA_TERMS: dict[str, DataTerm] = {
    "norm": DataTerm(distance),
    "relative_square": DataTerm(relative_square),
}
"""Data terms by the names that `Recipe.data_term` takes."""


def value(term: str, descriptor: Descriptor, target: Target, weights: Any) -> Scalar:
    """Returns the data term: the sum over the descriptor's arrays, each times its weight.

    weights: a pytree like the descriptor; None: all are 1.
    """
    layers, structure = jax.tree.flatten(descriptor)
    own = structure.flatten_up_to(target)
    return _sum(map(DATA_TERMS[term].value, layers, own), _weights(structure, weights))


def errors(
    term: str, descriptor: Descriptor, target: Target, weights: Any
) -> tuple[Scalar, Scalar]:
    """Returns eq. 3 and ‖φ - φ0‖ / ‖φ0‖; of several arrays their means, weighted likewise."""
    layers, structure = jax.tree.flatten(descriptor)
    own = structure.flatten_up_to(target)
    found = [
        [measure(layer, wanted) for layer, wanted in zip(layers, own, strict=True)]
        for measure in (metrics.relative_loss, metrics.descriptor_error)
    ]
    relative_loss, descriptor_error = (_mean(one, _weights(structure, weights)) for one in found)
    return relative_loss, descriptor_error


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
