"""Transforms of an image before the encoder, by name, drawn anew in every step. Unbatched.

Images are [H, W, C] in grey levels. A transform takes an image, a random key and an amount, how
far it goes at most, and returns an image of the same shape. Those of the registry leave the image
as it is at amount 0; the border replicates where they look beyond it, as total variation has it.
Adding one takes a line of `TRANSFORMS`; `Recipe.transforms` gives its amount, by name or by a
function of one's own.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy import ndimage

from posenet_jax.inversion.priors import Weights, shown
from posenet_jax.inversion.shapes import Image, Scalar

Array = jax.Array
Apply = Callable[[Image, Array, Any], Image]


def jitter(image: Image, key: Array, amount: Scalar | float) -> Image:
    """Moves the image down and to the right by whole pixels, each up to ±amount, evenly drawn."""
    most = jnp.floor(jnp.asarray(amount, jnp.float32)).astype(jnp.int32)
    for axis, by in enumerate(jax.random.randint(key, (2,), -most, most + 1)):
        size = image.shape[axis]
        places = jnp.clip(jnp.arange(size) - by, 0, size - 1)
        image = jnp.take(image, places, axis=axis, mode="clip")
    return image


def scale(image: Image, key: Array, amount: Scalar | float) -> Image:
    """Enlarges the image about its centre by a factor within 1 ± amount, evenly drawn."""
    factor = 1.0 + amount * jax.random.uniform(key, (), jnp.float32, -1.0, 1.0)
    for axis in (0, 1):
        centre = (image.shape[axis] - 1) / 2.0
        places = (jnp.arange(image.shape[axis]) - centre) / factor + centre
        image = _interpolated(image, places, axis)
    return image


def _interpolated(image: Image, places: Array, axis: int) -> Image:
    """Returns the image's values at places along an axis, linear between its pixels.

    By whole lines of pixels, which are quick to gather, and to scatter in the gradient.
    """
    inside = jnp.clip(places, 0, image.shape[axis] - 1)
    before = jnp.floor(inside).astype(jnp.int32)
    weights = jnp.expand_dims(inside - before.astype(jnp.float32), (1 - axis, 2))
    first, second = (
        jnp.take(image, lines, axis=axis, mode="clip") for lines in (before, before + 1)
    )
    return first + weights * (second - first)


def rotation(image: Image, key: Array, amount: Scalar | float) -> Image:
    """Turns the image about its centre by an angle within ±amount degrees, evenly drawn."""
    angle = jnp.deg2rad(amount * jax.random.uniform(key, (), jnp.float32, -1.0, 1.0))
    centre = [(size - 1) / 2.0 for size in image.shape[:2]]
    lines = [jnp.arange(size) - middle for size, middle in zip(image.shape, centre, strict=False)]
    rows, columns = jnp.meshgrid(*lines, indexing="ij")
    places = (
        centre[0] + jnp.cos(angle) * rows - jnp.sin(angle) * columns,
        centre[1] + jnp.sin(angle) * rows + jnp.cos(angle) * columns,
    )

    def turned(plane: Array) -> Array:
        return ndimage.map_coordinates(plane, places, order=1, mode="nearest")

    return jax.vmap(turned, in_axes=-1, out_axes=-1)(image)


class Transform(NamedTuple):
    """A transform, and the unit of its amount."""

    apply: Apply
    unit: str
    below: float = float("inf")  # the amounts that there are: from 0 to here


TRANSFORMS: dict[str, Transform] = {
    "jitter": Transform(jitter, "pixels"),
    "scale": Transform(scale, "share of the size", 1.0),
    "rotation": Transform(rotation, "degrees"),
}
"""Transforms by the names that `Recipe.transforms` takes."""


@jax.tree_util.register_pytree_with_keys_class
class Amounts(Weights):
    """Amounts of transforms, by name or by function, in the order in which they are applied."""

    def tree_flatten_with_keys(self) -> tuple[tuple[Any, ...], Hashable]:
        return tuple((jax.tree_util.DictKey(shown(key)), self[key]) for key in self), tuple(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return Amounts, (self.unfreeze(),)


def checked(amounts: Mapping[Any, Any]) -> Amounts:
    """Returns the amounts. Raises ValueError for unknown names and impossible numbers."""
    named = {name: amount for name, amount in amounts.items() if not callable(name)}
    if unknown := named.keys() - TRANSFORMS.keys():
        names = f"{', '.join(TRANSFORMS)}; received {', '.join(map(repr, sorted(unknown)))}"
        raise ValueError(f"transforms must be among {names}")
    for name, amount in named.items():
        below = TRANSFORMS[name].below
        if isinstance(amount, int | float) and not 0 <= amount < below:
            raise ValueError(f"{name} must be at least 0 and below {below}, received {amount!r}")
    return Amounts(amounts)


def transformed(amounts: Mapping[Any, Any], image: Image, key: Array) -> Image:
    """Returns the image with all transforms applied, in their order, each with a key of its own."""
    for number, (name, amount) in enumerate(amounts.items()):
        apply = name if callable(name) else TRANSFORMS[name].apply
        image = jnp.asarray(apply(image, jax.random.fold_in(key, number), amount), jnp.float32)
    return image
