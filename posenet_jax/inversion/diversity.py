"""Features that pictures of a group are to differ in, by name, and their distance. Unbatched.

Images are [H, W, C] in grey levels. Adding one takes a line of `FEATURES`; `Recipe.diverse_in`
takes a name, or a function of an image to an array, such as a second encoder.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from posenet_jax.inversion.shapes import Image, PixelMap, Scalar, Values
from posenet_jax.metrics.pixels import gaussian_blur

Features = Callable[[Image], Any]

_LEVELS = 32.0  # grey levels whose root mean square makes a distance of one half
_WIDTH = 25.0  # deviations of the blur in an image's shorter side: 4 pixels of 100


def light_and_dark(image: Image) -> PixelMap:
    """Returns blurred grey values less their mean, in units of 32 grey levels.

    What is left are silhouette, ground and sky: neither texture nor colours nor a brighter picture
    makes a difference.
    """
    blurred = gaussian_blur(jnp.mean(image, axis=-1), min(image.shape[:2]) / _WIDTH)
    return (blurred - jnp.mean(blurred)) / _LEVELS


def distance(features: Values, others: Values) -> Scalar:
    """Returns d / (1 + d) of the mean square difference d: from 0 to 1, one half at d = 1.

    Pictures that are far apart are let go, and a weight w of it never costs more than w of the rest
    of the objective, where the mean square itself would run away with pictures.
    """
    difference = jnp.mean(jnp.square(features - others))
    return difference / (1.0 + difference)


FEATURES: dict[str, Features] = {"light_and_dark": light_and_dark}
"""Features by the names that `Recipe.diverse_in` takes."""


def of(name: str | Features) -> Callable[[Image], jax.Array]:
    """Returns a function from an image to the features that a recipe names, or has, as a vector."""
    features = FEATURES[name] if isinstance(name, str) else name
    return lambda image: jnp.ravel(jnp.asarray(features(image), jnp.float32))
