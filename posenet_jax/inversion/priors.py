"""Priors of an inversion, by name: total variation, sixth power. Unbatched: images are [H, W, C].

Adding one takes a line of `PRIORS`; a recipe gives its weight: `Recipe(priors={"tv": 4e-6})`. A
recipe takes a function of an image in place of a name, too.
Equation numbers are those of "The Essence of Pose". The squared roots carry an ε: without it the
gradient is not a number wherever the image is flat.
"""

import functools
import operator
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax.core import FrozenDict

from posenet_jax.inversion.shapes import Image, Rows, Scalar

TV_EPSILON = 1e-8
SPARSE_EPSILON = 1e-4  # differences of about a grey level: below it the penalty is a square


def total_variation(image: Image, beta: float = 1.0) -> Scalar:
    """Eq. 1, summed over channels: Σ ((right - here)² + (below - here)² + ε)^(beta/2).

    The border replicates, so that the last column's and row's outward differences are zero.
    beta = 2 is Mahendran & Vedaldi's smoother choice.
    """
    if beta == 1.0:
        return _total_length(image)
    right, below = _differences(image)
    square = right * right + below * below
    if beta == 2.0:
        return jnp.sum(square)
    return jnp.sum((square + TV_EPSILON) ** (0.5 * beta))


@jax.custom_vjp
def _total_length(image: Image) -> Scalar:
    """Σ √(right² + below² + ε), with a gradient by hand: XLA's own is slower, as it pads an
    array for every difference.
    """
    return _length_forward(image)[0]


def _differences(image: Image) -> tuple[Rows, Rows]:
    """Right and below, each [H, W·3]: rows stay whole, for loops over channels are too short."""
    height, width, channels = image.shape
    rows = image.reshape(height, width * channels)
    right = jnp.pad(rows[:, channels:] - rows[:, :-channels], ((0, 0), (0, channels)))
    return right, jnp.pad(rows[1:] - rows[:-1], ((0, 1), (0, 0)))


def _length_forward(image: Image) -> tuple[Scalar, tuple[Rows, Rows, Image]]:
    right, below = _differences(image)
    length = jnp.sqrt(right * right + below * below + TV_EPSILON)
    return jnp.sum(length), (right / length, below / length, image[:0])


def _length_gradient(residuals: tuple[Rows, Rows, Image], cotangent: Scalar) -> tuple[Image]:
    """Sums each pixel's part in its own differences, and in its left and upper neighbour's."""
    right, below, like_image = residuals
    _, width, channels = like_image.shape
    before = jnp.pad(right[:, :-channels], ((0, 0), (channels, 0)))
    above = jnp.pad(below[:-1], ((1, 0), (0, 0)))
    gradient = (before - right) + (above - below)
    return (cotangent * gradient.reshape(-1, width, channels),)


_total_length.defvjp(_length_forward, _length_gradient)


def sparse_edges(image: Image) -> Scalar:
    """Σ over pixels of (|right|² + |below|² + ε)^0.3, squares summed over channels.

    The hyper-Laplacian of differences in photographs (Krishnan & Fergus 2009), exponent 0.6: a few
    strong edges cost less than many weak ones, and an edge less where all channels have it in the
    same place than where each has its own.
    """
    height, width, channels = image.shape
    right, below = _differences(image)
    square = (right * right + below * below).reshape(height, width, channels)
    return jnp.sum((jnp.sum(square, axis=-1) + SPARSE_EPSILON) ** 0.3)


def sixth_power(image: Image) -> Scalar:
    """Σ x⁶, the meaning that ‖x‖₆ in eq. 2 must have (see BUILD_NOTES.md)."""
    square = image * image
    return jnp.sum(square * square * square)


def sixth_norm(image: Image) -> Scalar:
    """‖x‖₆, as eq. 2 prints it."""
    largest = jnp.max(jnp.abs(image)) + 1e-12
    return largest * (sixth_power(image / largest) + 1e-30) ** (1.0 / 6.0)


class Prior(NamedTuple):
    """Penalty of an image, which the objective adds to its data term."""

    penalty: Callable[[Image], Scalar]
    symbol: str  # name of its weight in tables
    weights: tuple[float, float]  # least and largest weight that a search with eq. 2 draws


PRIORS: dict[str, Prior] = {
    # The paper gives no ranges. These have Table 1 well inside, and each end does visible harm.
    "tv": Prior(total_variation, "λ TV", (1e-9, 1e-1)),
    "l6": Prior(sixth_power, "λ L6", (1e-20, 1e-11)),
    # As large a penalty as those above at neighbours 10 grey levels apart, pixels 65 from the mean.
    "tv_squared": Prior(functools.partial(total_variation, beta=2.0), "λ TV, β = 2", (1e-10, 1e-2)),
    "l6_norm": Prior(sixth_norm, "λ ‖x‖₆", (1e-6, 1e3)),
    "sparse": Prior(sparse_edges, "λ sparse", (1e-8, 1e0)),
}
"""Priors by the names that `Recipe.priors` takes; an objective adds them in this order."""


@jax.tree_util.register_pytree_with_keys_class
class Weights(FrozenDict):
    """Weights of priors, by name or by function: those of functions are leaves after the others.

    FrozenDict, which it is otherwise, sorts its keys; functions have no order but the one given.
    """

    def tree_flatten_with_keys(self) -> tuple[tuple[Any, ...], Hashable]:
        names = sorted(key for key in self if not callable(key))
        keys = (*names, *filter(callable, self))
        return tuple((jax.tree_util.DictKey(shown(key)), self[key]) for key in keys), keys

    def __reduce__(self) -> tuple[Any, ...]:
        return Weights, (self.unfreeze(),)


def shown(prior: Any) -> str:
    """Returns the name of a prior or another function, for messages."""
    return getattr(prior, "__name__", repr(prior)) if callable(prior) else prior


def total(weights: Mapping[Any, Any], image: Image) -> Scalar | None:
    """Returns the sum of the penalties, each times its weight; None where there is none.

    In the registry's order, functions last: rounding must not depend on the order in which a recipe
    names them.
    """
    terms = [
        weights[name] * prior.penalty(image) for name, prior in PRIORS.items() if name in weights
    ]
    own = filter(callable, weights)
    terms += [weights[prior] * jnp.asarray(prior(image), jnp.float32) for prior in own]
    return functools.reduce(operator.add, terms) if terms else None
