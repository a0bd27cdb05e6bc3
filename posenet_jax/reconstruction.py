"""Images through an encoder and back: inversion of their descriptors, with what became of them.

N images, uint8 RGB [N, H, W, 3] at both ends.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from posenet_jax import metrics
from posenet_jax.decoders.decoding import Decoder, decode
from posenet_jax.encoders.weights import Encoder, Tap
from posenet_jax.errors import InputError
from posenet_jax.inversion import engine
from posenet_jax.inversion.descent import Status
from posenet_jax.inversion.recipes import Recipe

Array = jax.Array

_BATCH = 16  # fixed, so that few images do not wait for many or for another program


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


@jax.jit
def _encode(tap: Tap, images: Array) -> Array:
    return tap(images)


def descriptors(tap: Tap, images: np.ndarray, space: Any) -> np.ndarray:
    """[N, …] activations at a tap of uint8 RGB images [N, H, W, 3].

    Raises InputError for images of another size than `space` says.
    """
    if images.shape[1:3] != (space.size, space.size):
        size = "×".join(map(str, images.shape[1:3]))
        raise InputError(
            f"the encoder reads {space.size}×{space.size} pixels; the images are {size}"
        )
    parts = []
    for start in range(0, len(images), _BATCH):
        rows = np.minimum(np.arange(start, start + _BATCH), len(images) - 1)
        encoded = _encode(tap, space.to_network(images[rows]))
        parts.append(np.asarray(encoded[: len(images) - start]))
    return np.concatenate(parts)


@jax.jit
def correlations(pictures: Array, originals: Array) -> Array:
    """[N, N] luminance correlation of every picture (rows) with every original."""
    patterns = [
        jax.lax.map(metrics.luminance_pattern, images).reshape((len(images), -1))
        for images in (pictures, originals)
    ]
    return jnp.matmul(patterns[0], patterns[1].T, precision=jax.lax.Precision.HIGHEST)


def relative_losses(targets: np.ndarray) -> np.ndarray:
    """[N, N] eq. 3 between all pairs of descriptors [N, …]: what a wrong image scores."""
    flat = targets.reshape((len(targets), -1)).astype(np.float64)
    norms = np.linalg.norm(flat, axis=1)
    squares = norms[:, None] ** 2 + norms[None, :] ** 2 - 2.0 * flat @ flat.T
    return np.sqrt(np.maximum(squares, 0.0)) / np.maximum(norms[:, None] + norms[None, :], 1e-12)


def _others(matrix: np.ndarray) -> np.ndarray:
    """[N] mean of each row but for its diagonal; NaN where there is no other."""
    count = len(matrix)
    if count == 1:
        return np.full(1, np.nan)
    return (matrix.sum(axis=1) - np.diagonal(matrix)) / (count - 1)


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
    targets = descriptors(tap, originals, space)
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
        image=pictures, result=result, **measures(tap, targets, pictures, originals)
    )


def measures(
    tap: Tap,
    targets: np.ndarray,
    pictures: np.ndarray,
    originals: np.ndarray | None = None,
    judge: Tap | None = None,
) -> dict[str, np.ndarray]:
    """[N] each: how near pictures come to their targets [N, …], each beside a wrong image's score.

    Those of the picture itself are always there (names as in `Reconstruction`), luminance and what
    else compares where there are originals, and with a judge, an encoder that no inversion saw,
    `judge_relative_loss`: eq. 3 between its descriptors of picture and original.
    """
    seen_again = descriptors(tap, pictures, tap.preprocessing)
    found = {
        "picture_relative_loss": _relative_losses(seen_again, targets),
        "other_relative_loss": _others(relative_losses(targets)),
        "spectral_deviation": _spectral_deviations(pictures),
    }
    if originals is None:
        return found
    matrix = np.asarray(correlations(jnp.asarray(pictures), jnp.asarray(originals)))
    own = np.diagonal(matrix)
    found |= {
        "luminance_correlation": own,
        "luminance_rank": 1 + np.sum(matrix > own[:, None], axis=1),
        "other_luminance_correlation": _others(matrix),
        "original_spectral_deviation": _spectral_deviations(originals),
    }
    if judge is not None:
        seen, truth = (descriptors(judge, x, judge.preprocessing) for x in (pictures, originals))
        found |= {
            "judge_relative_loss": _relative_losses(seen, truth),
            "other_judge_relative_loss": _others(relative_losses(truth)),
        }
    return found


@jax.jit
def _deviations(images: Array) -> Array:
    return jax.lax.map(metrics.spectral_deviation, images)


def _spectral_deviations(images: np.ndarray) -> np.ndarray:
    return np.asarray(_deviations(jnp.asarray(images)))


@jax.jit
def _losses(descriptors: Array, targets: Array) -> Array:
    return jax.vmap(metrics.relative_loss)(descriptors, targets)


def _relative_losses(descriptors: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return np.asarray(_losses(jnp.asarray(descriptors), jnp.asarray(targets)))


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
