"""Images through an encoder and back: inversion of their descriptors, with what became of them.

N images, uint8 RGB [N, H, W, 3] at both ends.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import struct

from posenet_jax.decoders.decoding import Decoder, decode
from posenet_jax.encoders.encoder import Encoder, describe
from posenet_jax.evaluation.reconstructions import picture_measures
from posenet_jax.inversion import engine
from posenet_jax.inversion.descent import Status
from posenet_jax.inversion.recipes import Recipe

Array = jax.Array


@struct.dataclass
class Reconstruction:
    """One entry an image."""

    image: np.ndarray  # [N, H, W, 3] uint8 RGB
    result: engine.Result
    picture_relative_loss: np.ndarray  # [N] eq. 3 of the uint8 picture, encoded anew
    luminance_correlation: np.ndarray  # [N] with its own original
    luminance_rank: np.ndarray  # [N] of its original among all, by that correlation; 1 is best
    other_relative_loss: np.ndarray  # [N] control: its target against the other images', mean
    spectral_deviation: np.ndarray  # [N] of the picture, octaves: 0 would be 1/f²
    original_spectral_deviation: np.ndarray  # [N] control: of its original
    other_luminance_correlation: np.ndarray  # [N] control: with the other originals, mean


def reconstruct(
    encoder: Encoder,
    layer: str,
    originals: np.ndarray,
    *,
    key: Array,
    recipe: Recipe,
    decoder: Decoder | None = None,
    slots: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Reconstruction:
    """Encodes uint8 images [N, H, W, 3] at `layer` and inverts what comes out.

    decoder: of this layer, where the recipe begins with a decoder's images. Raises InputError
    where one is wanted and not given, or given and not wanted.
    """
    tap, space = encoder.tap(layer), encoder.preprocessing
    targets = describe(tap, originals, space)
    result = engine.invert(
        tap,
        targets,
        key=key,
        recipe=recipe,
        start=decode(decoder, targets) if decoder else None,
        slots=slots,
        progress=progress,
    )
    pictures = np.asarray(space.to_image(result.image))
    return Reconstruction(
        image=pictures, result=result, **picture_measures(tap, targets, pictures, originals)
    )


def table(
    reconstruction: Reconstruction,
    names: Sequence[str],
    *,
    layer: str,
    recipe: str,
    seed: int,
) -> list[dict[str, Any]]:
    """One row an image for results.csv."""
    result = reconstruction.result
    return [
        {
            "image": name,
            "layer": layer,
            "recipe": recipe,
            "seed": seed,
            "steps": int(result.steps[i]),
            "status": Status(int(result.status[i])).sentence,
            "relative_loss": float(result.relative_loss[i]),
            "descriptor_error": float(result.descriptor_error[i]),
            "picture_relative_loss": float(reconstruction.picture_relative_loss[i]),
            "luminance_correlation": float(reconstruction.luminance_correlation[i]),
            "luminance_rank": int(reconstruction.luminance_rank[i]),
            "other_relative_loss": float(reconstruction.other_relative_loss[i]),
            "other_luminance_correlation": float(reconstruction.other_luminance_correlation[i]),
            "spectral_deviation": float(reconstruction.spectral_deviation[i]),
            "original_spectral_deviation": float(reconstruction.original_spectral_deviation[i]),
        }
        for i, name in enumerate(names)
    ]
