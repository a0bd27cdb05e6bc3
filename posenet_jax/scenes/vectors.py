"""Arithmetic of rays: vectors as x, y and z apart, since planes vectorise and triples do not."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp

Array = jax.Array
Vector = tuple[Array, Array, Array]


def between(uniform: Array, low: Array | float, high: Array | float) -> Array:
    """[0, 1) -> [low, high)."""
    return low + (high - low) * uniform


def triple(planes: Iterable[Array]) -> Vector:
    """Exactly three planes as a tuple."""
    x, y, z = planes
    return x, y, z


def turn_vector(angle: Array, vector: Vector) -> Vector:
    """World coordinates -> those of a frame turned by `angle` about z."""
    c, s = jnp.cos(angle), jnp.sin(angle)
    return c * vector[0] + s * vector[1], c * vector[1] - s * vector[0], vector[2]


def dot(a: Iterable[Array], b: Iterable[Array]) -> Array:
    """Scalar product of two vectors of planes."""
    x, y, z = (u * v for u, v in zip(a, b, strict=True))
    return x + y + z


def away_from_zero(x: Array) -> Array:
    """The number, or a finite stand-in for 0 to divide by."""
    return jnp.where(jnp.abs(x) < 1e-9, 1e-9, x)


def inverse(direction: Vector) -> Vector:
    """1/d with a finite stand-in for 0, so that a slab parallel to the ray yields no NaN."""
    return triple(1.0 / away_from_zero(d) for d in direction)


def smaller(a: Array, b: Array) -> Array:
    """Minimum without NaN's special case, which costs XLA:CPU two more instructions."""
    return jnp.where(a < b, a, b)


def larger(a: Array, b: Array) -> Array:
    """Maximum, likewise."""
    return jnp.where(a > b, a, b)
