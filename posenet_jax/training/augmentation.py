"""Differentiable augmentation of what a discriminator sees (Zhao et al. 2020, DiffAugment).

Originals and generated images are changed alike, so that the discriminator cannot learn the few
originals by heart, and the generator's gradient passes through the change.
"""

import jax
import jax.numpy as jnp

Array = jax.Array

# As in the paper, whose images lie within two units and ours within one.
_BRIGHTNESS = 0.25  # largest change of all values
_SATURATION = (0.0, 2.0)  # factor of a pixel's colours about their mean
_CONTRAST = (0.5, 1.5)  # factor of an image's values about their mean
_SHIFT = 0.125  # largest, of a side
_HIDDEN = 0.5  # side of the hidden square, of the image's


def augmented(image: Array, key: Array) -> Array:
    """Image [H, W, 3], 1 = the full range, with other colours, moved, and with a square hidden.

    Hidden, and moved in from beyond the frame, is zero: the mean colour of a network's space.
    """
    colour_key, shift_key, hide_key = jax.random.split(key, 3)
    return _hidden(_shifted(_recoloured(image, colour_key), shift_key), hide_key)


def augmented_draws(made: Array, keys: Array) -> Array:
    """Draws [S, B, H, W, 3], augmented apart, by keys [B] of their images."""

    def of_draw(images: Array, number: Array) -> Array:
        own = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
        return jax.vmap(augmented)(images, own)

    return jax.vmap(of_draw)(made, jnp.arange(len(made)))


def enlarged(images: Array, keys: Array, most: float) -> Array:
    """Images [..., B, H, W, C]: a square part of each, by keys [B], enlarged to the whole.

    Up to `most` times as large, by linear interpolation; the factor's logarithm is uniform, and so
    is the part's place.
    """
    height, width, _ = images.shape[-3:]

    def part(key: Array) -> tuple[Array, Array]:
        scale_key, down_key, across_key = jax.random.split(key, 3)
        scale = jnp.exp(jax.random.uniform(scale_key) * jnp.log(most))
        down, across = (jax.random.uniform(key) for key in (down_key, across_key))
        return _sampling(height, scale, down), _sampling(width, scale, across)

    rows, columns = jax.vmap(part)(keys)
    return jnp.einsum("bih,bjw,...bhwc->...bijc", rows, columns, images)


def _sampling(side: int, scale: Array, place: Array) -> Array:
    """[side, side] share of each pixel in each of the enlarged ones, along one side."""
    reach = side / scale
    centres = place * (side - reach) + (jnp.arange(side) + 0.5) / scale - 0.5
    centres = jnp.clip(centres, 0.0, side - 1.0)
    return jnp.maximum(0.0, 1.0 - jnp.abs(centres[:, None] - jnp.arange(side)[None]))


def _recoloured(image: Array, key: Array) -> Array:
    shares = jax.random.uniform(key, (3,))
    image = image + _BRIGHTNESS * (2.0 * shares[0] - 1.0)
    grey = image.mean(axis=-1, keepdims=True)
    image = grey + _between(shares[1], *_SATURATION) * (image - grey)
    level = image.mean()
    return level + _between(shares[2], *_CONTRAST) * (image - level)


def _between(share: Array, low: float, high: float) -> Array:
    return low + (high - low) * share


def _shifted(image: Array, key: Array) -> Array:
    height, width, channels = image.shape
    most = (round(_SHIFT * height), round(_SHIFT * width))
    padded = jnp.pad(image, [(most[0], most[0]), (most[1], most[1]), (0, 0)])
    top, left = (
        jax.random.randint(k, (), 0, 2 * reach + 1)
        for k, reach in zip(jax.random.split(key), most, strict=True)
    )
    return jax.lax.dynamic_slice(padded, (top, left, 0), (height, width, channels))


def _hidden(image: Array, key: Array) -> Array:
    sides = image.shape[:2]
    shown = []
    for side, k in zip(sides, jax.random.split(key), strict=True):
        middle = jax.random.uniform(k, (), maxval=float(side))
        shown.append(jnp.abs(jnp.arange(side) + 0.5 - middle) > 0.5 * _HIDDEN * side)
    rows, columns = shown
    return jnp.where((rows[:, None] | columns[None])[..., None], image, 0.0)
