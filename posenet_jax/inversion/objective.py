"""Objective of an inversion: eq. 2, or its scale-free form. Unbatched."""

import functools
import operator

import jax.numpy as jnp

from posenet_jax.inversion.priors import PRIORS
from posenet_jax.inversion.recipes import Recipe
from posenet_jax.inversion.shapes import Descriptor, Image, Scalar


def distance(descriptor: Descriptor, target: Descriptor) -> Scalar:
    """‖φ0 - φ‖₂, the data term of eq. 2, with a finite gradient at zero."""
    return jnp.sqrt(jnp.sum(jnp.square(descriptor - target)) + 1e-12)


def relative_square(descriptor: Descriptor, target: Descriptor) -> Scalar:
    """‖φ0 - φ‖² / ‖φ0‖²: the scale of the encoder drops out."""
    return jnp.sum(jnp.square(descriptor - target)) / (jnp.sum(jnp.square(target)) + 1e-12)


def loss(image: Image, descriptor: Descriptor, target: Descriptor, recipe: Recipe) -> Scalar:
    """Returns eq. 2, or its scale-free form (see `Recipe`): the data term plus the priors."""
    if recipe.data_term == "norm":
        data, scaled, weight = distance(descriptor, target), image, 1.0
    else:
        data, scaled = relative_square(descriptor, target), image / 127.5
        weight = 1.0 / (image.shape[0] * image.shape[1])
    # In the registry's order: rounding must not depend on the order in which a recipe names them.
    terms = [
        recipe.priors[name] * prior.penalty(scaled)
        for name, prior in PRIORS.items()
        if name in recipe.priors
    ]
    return data + weight * functools.reduce(operator.add, terms) if terms else data
