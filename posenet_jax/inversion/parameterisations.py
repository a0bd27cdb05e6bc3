"""Parameterisations of an image, by name: what the descent moves in place of pixels. Unbatched.

Images are [H, W, C] in grey levels. Those of the registry are linear, give every image,
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

Size = int | tuple[int, int]  # side of a square image, else height and width, pixels


class Parameterisation(NamedTuple):
    """An image as a function of parameters, any pytree of float32 arrays.

    begin: where an inversion begins with what is known of the target and not with an image: the
    first parameters from the key of the job's noise and its target. name: what a file calls it, so
    that runs can be resumed; none: they cannot.
    """

    parameters: Callable[[Image], Any]  # those to begin with, from the first image, which is noise
    image: Callable[[Any, Any], Image]  # of parameters and the image's `Size`
    begin: Callable[[jax.Array, Any], Any] | None = None
    name: str = ""


def size_of(image: Image) -> Size:
    """Returns the size that a parameterisation is told of an image [H, W, C]."""
    height, width, _ = image.shape
    return height if height == width else (height, width)


def _sides(size: Size) -> tuple[int, int]:
    """Returns height and width."""
    return (size, size) if isinstance(size, int) else size


# Luminance and two opponent colours, alike for RGB and BGR but for a sign; their deviations in
# photographs, as lucid's colour matrix has them, scaled so that their squares add up to 3.
_COLOURS = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3.0], [2.0], [6.0]])
_DEVIATIONS = np.array([0.462, 0.127, 0.062])
_MIX = (_COLOURS.T * _DEVIATIONS * np.sqrt(3.0 / np.sum(_DEVIATIONS**2))).astype(np.float32)


def _amplitudes(size: Size) -> np.ndarray:
    """[H, W // 2 + 1, 1] amplitude 1 / f of each wave, as in photographs; mean square 1."""
    height, width = _sides(size)
    rows, columns = np.fft.fftfreq(height), np.fft.fftfreq(width)
    amplitudes = 1.0 / np.maximum(np.hypot(rows[:, None], columns), 1.0 / max(height, width))
    amplitudes /= np.sqrt(np.mean(amplitudes**2))
    return amplitudes[:, : width // 2 + 1, None].astype(np.float32)


def _to_waves(image: Image) -> jax.Array:
    """Returns real and imaginary parts [2, H, W // 2 + 1, C]: Adam moves real numbers.

    Three channels are taken for colours and decorrelated; others are as they are.
    """
    if image.shape[-1] == 3:
        image = image @ np.linalg.inv(_MIX.astype(np.float64)).T.astype(np.float32)
    waves = jnp.fft.rfft2(image, axes=(0, 1), norm="ortho") / _amplitudes(size_of(image))
    return jnp.stack([waves.real, waves.imag])


def _of_waves(waves: jax.Array, size: Size) -> Image:
    scaled = jax.lax.complex(waves[0], waves[1]) * _amplitudes(size)
    planes = jnp.fft.irfft2(scaled, s=_sides(size), axes=(0, 1), norm="ortho")
    return planes @ _MIX.T if planes.shape[-1] == 3 else planes


def _levels(size: Size) -> list[tuple[int, int]]:
    """Returns the sizes of a pyramid's levels: whole, half, quarter, …, not below 4 pixels."""
    sizes = [_sides(size)]
    while min(sizes[-1]) >= 8:
        height, width = sizes[-1]
        sizes.append((-(-height // 2), -(-width // 2)))
    return sizes


def _to_levels(image: Image) -> list[jax.Array]:
    """Returns all of the image in the finest level."""
    finest, *others = _levels(size_of(image))
    weight = float(np.sqrt(1 + len(others)))
    channels = image.shape[-1]
    return [weight * image, *(jnp.zeros((*sides, channels), jnp.float32) for sides in others)]


def _of_levels(levels: list[jax.Array], size: Size) -> Image:
    shape = *_sides(size), levels[0].shape[-1]
    whole = [jax.image.resize(level, shape, "linear") for level in levels]
    return sum(whole[1:], whole[0]) / float(np.sqrt(len(levels)))


PARAMETERISATIONS: dict[str, Parameterisation] = {
    "pixels": Parameterisation(lambda image: image, lambda parameters, size: parameters),
    "fourier": Parameterisation(_to_waves, _of_waves),
    "pyramid": Parameterisation(_to_levels, _of_levels),
}
"""Parameterisations by the names that `Recipe.parameterisation` takes."""


def of(name: str | Parameterisation) -> Parameterisation:
    """Returns the parameterisation that a recipe names, or has."""
    return PARAMETERISATIONS[name] if isinstance(name, str) else name
