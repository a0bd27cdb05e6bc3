"""Parameterisations of an image, by name: what the descent moves in place of pixels. Unbatched.

Images are [H, W, 3] in network space, square. Those of the registry are linear, give every image,
and keep its scale: parameters that all move by one grey level move an image by about as much, so
that a recipe's learning rate keeps its order of magnitude. Adding one takes a line of
`PARAMETERISATIONS`; `Recipe.parameterisation` takes a name, or a `Parameterisation` of one's own.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from posenet_jax.inversion.shapes import Image


class Parameterisation(NamedTuple):
    """An image as a function of parameters, any pytree of float32 arrays."""

    parameters: Callable[[Image], Any]  # those to begin with, from the first image, which is noise
    image: Callable[[Any, int], Image]  # of parameters and the image's side, in pixels


# Luminance and two opponent colours, alike for RGB and BGR but for a sign; their deviations in
# photographs, as lucid's colour matrix has them, scaled so that their squares add up to 3.
_COLOURS = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3.0], [2.0], [6.0]])
_DEVIATIONS = np.array([0.462, 0.127, 0.062])
_MIX = (_COLOURS.T * _DEVIATIONS * np.sqrt(3.0 / np.sum(_DEVIATIONS**2))).astype(np.float32)


def _amplitudes(side: int) -> np.ndarray:
    """[H, W // 2 + 1, 1] amplitude 1 / f of each wave, as in photographs; mean square 1."""
    rows, columns = np.fft.fftfreq(side), np.fft.fftfreq(side)
    amplitudes = 1.0 / np.maximum(np.hypot(rows[:, None], columns), 1.0 / side)
    amplitudes /= np.sqrt(np.mean(amplitudes**2))
    return amplitudes[:, : side // 2 + 1, None].astype(np.float32)


def _to_waves(image: Image) -> jax.Array:
    """Returns real and imaginary parts [2, H, W // 2 + 1, 3]: Adam moves real numbers."""
    colours = image @ np.linalg.inv(_MIX.astype(np.float64)).T.astype(np.float32)
    waves = jnp.fft.rfft2(colours, axes=(0, 1), norm="ortho") / _amplitudes(image.shape[0])
    return jnp.stack([waves.real, waves.imag])


def _of_waves(waves: jax.Array, side: int) -> Image:
    scaled = jax.lax.complex(waves[0], waves[1]) * _amplitudes(side)
    colours = jnp.fft.irfft2(scaled, s=(side, side), axes=(0, 1), norm="ortho")
    return colours @ _MIX.T


def _levels(side: int) -> list[int]:
    """Returns the sides of a pyramid's levels: whole, half, quarter, …, not below 4 pixels."""
    sides = [side]
    while sides[-1] >= 8:
        sides.append(-(-sides[-1] // 2))
    return sides


def _to_levels(image: Image) -> list[jax.Array]:
    """Returns all of the image in the finest level."""
    finest, *others = _levels(image.shape[0])
    weight = float(np.sqrt(1 + len(others)))
    return [weight * image, *(jnp.zeros((side, side, 3), jnp.float32) for side in others)]


def _of_levels(levels: list[jax.Array], side: int) -> Image:
    whole = [jax.image.resize(level, (side, side, 3), "linear") for level in levels]
    return sum(whole[1:], whole[0]) / float(np.sqrt(len(levels)))


PARAMETERISATIONS: dict[str, Parameterisation] = {
    "pixels": Parameterisation(lambda image: image, lambda parameters, side: parameters),
    "fourier": Parameterisation(_to_waves, _of_waves),
    "pyramid": Parameterisation(_to_levels, _of_levels),
}
"""Parameterisations by the names that `Recipe.parameterisation` takes."""


def of(name: str | Parameterisation) -> Parameterisation:
    """Returns the parameterisation that a recipe names, or has."""
    return PARAMETERISATIONS[name] if isinstance(name, str) else name
