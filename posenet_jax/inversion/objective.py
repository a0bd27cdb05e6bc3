"""What an inversion minimises: eq. 2, or its scale-free form. Unbatched."""

import jax
import jax.numpy as jnp

from posenet_jax.inversion.priors import sixth_norm, sixth_power, total_variation
from posenet_jax.inversion.recipes import Recipe

Array = jax.Array


def distance(descriptor: Array, target: Array) -> Array:
    """‖φ0 - φ‖₂, the data term of eq. 2, with a finite gradient at zero."""
    return jnp.sqrt(jnp.sum(jnp.square(descriptor - target)) + 1e-12)


def relative_square(descriptor: Array, target: Array) -> Array:
    """‖φ0 - φ‖² / ‖φ0‖²: the scale of the encoder drops out."""
    return jnp.sum(jnp.square(descriptor - target)) / (jnp.sum(jnp.square(target)) + 1e-12)


def loss(image: Array, descriptor: Array, target: Array, recipe: Recipe) -> Array:
    """Eq. 2, or its scale-free form (see `Recipe`)."""
    if recipe.data_term == "norm":
        data, priors = distance(descriptor, target), image
        share = 1.0
    else:
        data, priors = relative_square(descriptor, target), image / 127.5
        share = 1.0 / (image.shape[0] * image.shape[1])
    sixth = sixth_power if recipe.l6_form == "power" else sixth_norm
    smoothness = total_variation(priors, recipe.tv_beta)
    return data + share * (recipe.tv_weight * smoothness + recipe.l6_weight * sixth(priors))
