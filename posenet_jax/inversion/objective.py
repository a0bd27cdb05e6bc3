"""Objective of an inversion: eq. 2, or a scale-free form. Unbatched."""

from posenet_jax.inversion import data_terms, priors
from posenet_jax.inversion.recipes import Recipe
from posenet_jax.inversion.shapes import Descriptor, Image, Scalar, Target


def loss(image: Image, descriptor: Descriptor, target: Target, recipe: Recipe) -> Scalar:
    """Returns the data term plus the priors, scaled as `Recipe` says; `norm` makes it eq. 2."""
    data = data_terms.value(recipe.data_term, descriptor, target, recipe.leaf_weights)
    if recipe.data_term == "norm":
        scaled, weight = image, 1.0
    else:
        # Of three channels exactly 1 / pixels; a grey picture costs what it would in colour.
        scaled, weight = image / 127.5, 3.0 / image.size
    penalty = priors.total(recipe.priors, scaled)
    return data if penalty is None else data + weight * penalty


def signed(recipe: Recipe) -> bool:
    """Returns whether the objective may be negative."""
    return data_terms.signed(recipe.data_term) or any(map(callable, recipe.priors))
