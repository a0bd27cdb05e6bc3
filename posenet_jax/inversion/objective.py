"""Objective of an inversion: eq. 2, or its scale-free form. Unbatched."""

import functools
import operator

from posenet_jax.inversion import data_terms
from posenet_jax.inversion.priors import PRIORS
from posenet_jax.inversion.recipes import Recipe
from posenet_jax.inversion.shapes import Descriptor, Image, Scalar, Target


def loss(image: Image, descriptor: Descriptor, target: Target, recipe: Recipe) -> Scalar:
    """Returns eq. 2, or its scale-free form (see `Recipe`): the data term plus the priors."""
    data = data_terms.value(recipe.data_term, descriptor, target, recipe.leaf_weights)
    if recipe.data_term == "norm":
        scaled, weight = image, 1.0
    else:
        scaled, weight = image / 127.5, 1.0 / (image.shape[0] * image.shape[1])
    # In the registry's order: rounding must not depend on the order in which a recipe names them.
    terms = [
        recipe.priors[name] * prior.penalty(scaled)
        for name, prior in PRIORS.items()
        if name in recipe.priors
    ]
    return data + weight * functools.reduce(operator.add, terms) if terms else data
