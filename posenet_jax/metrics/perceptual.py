"""Distance of two images in the features of a network that names objects."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

FeatureMap = Float[Array, "height width channels"]
ChannelWeights = Float[ArrayLike, " channels"]
Maps = Sequence[FeatureMap]  # of several layers, each of its own size
Weights = Sequence[ChannelWeights]
Scalar = Float[Array, ""]

_LEAST_NORM = 1e-10  # as in the package lpips


def lpips(maps: Maps, others: Maps, weights: Weights) -> Scalar:
    """Distance of two images by their feature maps, one [h, w, C] a layer (Zhang et al. 2018).

    Features of a pixel are brought to length one; their squared differences, weighted by channel
    with the layer's weights [C] and summed, are averaged over pixels and summed over layers (their
    eq. 1). 0 for equal images. Unbatched.
    """

    def distance(x: Array, y: Array, weight: ArrayLike) -> Array:
        squares = jnp.square(_unit(x) - _unit(y))
        return jnp.mean(jnp.sum(squares * jnp.reshape(weight, (1, 1, -1)), axis=-1))

    layers = zip(maps, others, weights, strict=True)
    return jnp.sum(jnp.stack([distance(x, y, weight) for x, y, weight in layers]))


def _unit(x: Array) -> Array:
    return x / (jnp.sqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True)) + _LEAST_NORM)
