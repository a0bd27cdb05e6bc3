"""Walks along directions: how far a descriptor really moves where it is to move most, or not.

A step of a grey levels has a root mean square of a over all values, whatever its direction. N
images, uint8 RGB [N, H, W, C]; directions [N, H, W, C] in network space, of any length. Host
arrays.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft

from posenet_jax.analysis import extremes
from posenet_jax.analysis.extremes import ExtremeDirections
from posenet_jax.encoders.encoder import Tap, in_batches
from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import Preprocessing

Array = jax.Array

OCTAVES = ("0-2", "2-4", "4-8", "8-16", "16-32", "32+")
"""Spatial frequencies in cycles an image that `octave_energies` tells apart."""

NAMES = {
    "most": "most seen",
    "random": "random",
    "least": "least seen",
    "smooth": "unseen, smooth",
    "difference": "another image",
    "unseen_difference": "unseen of it",
}
"""Directions by the names that tables have: what pictures are labelled with."""


class Steps(NamedTuple):
    """Both steps of one length along a direction, forth and back."""

    pictures: np.ndarray  # [N, H, W, C] uint8, forth
    grey_levels: np.ndarray  # [N] root mean square of what is left of it in 0 to 255, of both
    change: np.ndarray  # [N] ‖φ(x') - φ(x)‖ / ‖φ(x)‖ of pictures, rounded and clipped, mean of both
    unclipped: np.ndarray  # [N] the same of the iterates as they are


class Walk(NamedTuple):
    """A direction at each image."""

    direction: np.ndarray  # [N, H, W, C] in network space, of any length
    gain: np.ndarray  # [N] how far a change of length one moves a linear descriptor; NaN: not known


def names(tap: Tap, count: int, exact: int = extremes.EXACT) -> list[str]:
    """Returns the keys of `directions` of so many images: not all are known beyond `exact`."""
    image = jax.ShapeDtypeStruct(tap.preprocessing.shape, jnp.float32)
    known = {"most", "random"}
    known |= {"difference"} if count > 1 else set()
    if math.prod(jax.eval_shape(tap, image).shape) <= exact:
        known |= {"least", "smooth"} | ({"unseen_difference"} if count > 1 else set())
    return [name for name in NAMES if name in known]


def directions(
    tap: Tap, images: np.ndarray, *, key: Array, **options: Any
) -> tuple[ExtremeDirections, dict[str, Walk]]:
    """Returns the extreme directions of the images, and those to walk along by the keys of `NAMES`.

    Beside the most and the least seen: a random one, the difference to the next image and what is
    unseen of it, and the smoothest unseen one. options: further ones of `extreme_directions`.
    """
    points = np.asarray(tap.preprocessing.to_network(images))
    own_key, random_key = jax.random.split(key)
    changes = np.asarray(jax.random.normal(random_key, points.shape, jnp.float32))[:, None]
    if len(images) > 1:
        difference = np.roll(points, -1, axis=0) - points
        changes = np.concatenate([changes, difference[:, None]], axis=1)
    whole = "least" in names(tap, len(images), options.get("exact", extremes.EXACT))
    found = extremes.extreme_directions(
        tap, images, key=own_key, changes=changes if whole else None, **options
    )
    unknown, zero = np.full(len(images), np.nan), np.zeros(len(images))
    gains = unknown[:, None].repeat(2, axis=1)
    if found.moved is not None:
        lengths = np.linalg.norm(changes.reshape((*changes.shape[:2], -1)), axis=2)
        gains = found.moved / np.maximum(lengths, 1e-30)
    walks = {"most": Walk(found.most[:, 0], found.gains[:, 0])}
    walks["random"] = Walk(changes[:, 0], gains[:, 0])
    if found.least is not None and found.smooth is not None:
        walks["least"] = Walk(found.least[:, 0], found.smallest)
        walks["smooth"] = Walk(found.smooth[:, 0], zero)
    if len(images) > 1:
        walks["difference"] = Walk(changes[:, 1], gains[:, 1])
        if found.unseen_parts is not None:
            walks["unseen_difference"] = Walk(found.unseen_parts[:, 1], zero)
    return found, walks


def step(tap: Tap, images: np.ndarray, direction: np.ndarray, grey_levels: float) -> Steps:
    """Returns the steps of so many grey levels along a direction; zero directions stay."""
    space = tap.preprocessing
    points = np.asarray(space.to_network(images))
    change = np.float32(grey_levels * _scale(space)) * _unit(direction)
    before = _described(tap, points)
    moved = [points + sign * change for sign in (np.float32(1), np.float32(-1))]
    pictures = [np.asarray(space.to_image(x)) for x in moved]
    difference = [picture.astype(np.float64) - images for picture in pictures]
    return Steps(
        pictures=pictures[0],
        grey_levels=np.mean([np.sqrt(np.mean(d**2, axis=(1, 2, 3))) for d in difference], axis=0),
        change=_mean_change(tap, before, [np.asarray(space.to_network(x)) for x in pictures]),
        unclipped=_mean_change(tap, before, moved),
    )


def _scale(space: Preprocessing) -> float:
    """Returns the network space's units in a grey level; InputError where channels differ."""
    if isinstance(space.scale, tuple):
        raise InputError("steps are in grey levels, and this encoder's channels differ in scale")
    return abs(space.scale)


def _unit(direction: np.ndarray) -> np.ndarray:
    """Directions of a root mean square of 1; zero ones as they are."""
    size = np.sqrt(np.mean(np.square(direction, dtype=np.float64), axis=(1, 2, 3), keepdims=True))
    return (direction / np.where(size > 0, size, 1.0)).astype(np.float32)


def _mean_change(tap: Tap, before: np.ndarray, moved: Sequence[np.ndarray]) -> np.ndarray:
    norms = np.maximum(np.linalg.norm(before, axis=1), 1e-30)
    return np.mean(
        [np.linalg.norm(_described(tap, x) - before, axis=1) / norms for x in moved], axis=0
    )


def _described(tap: Tap, points: np.ndarray) -> np.ndarray:
    """Descriptors [N, D] of images in network space, in 64 bits."""
    found = in_batches(lambda rows: _encode(tap, rows), points)
    return found.reshape((len(points), -1)).astype(np.float64)


@jax.jit
def _encode(tap: Tap, points: Array) -> Array:
    return tap(points)


def octave_energies(directions: np.ndarray) -> np.ndarray:
    """Fractions [N, 6] of the energy of directions [N, H, W, C] in `OCTAVES`; they add up to 1.

    By the cosine transform, which mirrors an image at its borders: a Fourier transform would see
    edges there. Zero directions have none.
    """
    power = np.square(scipy.fft.dctn(directions.astype(np.float64), axes=(1, 2), norm="ortho"))
    height, width = directions.shape[1:3]
    cycles = np.hypot(np.arange(height)[:, None] / 2, np.arange(width) / 2)
    octave = np.digitize(cycles, (2, 4, 8, 16, 32))
    power = power.sum(axis=-1)
    energies = np.stack([power[:, octave == k].sum(axis=1) for k in range(len(OCTAVES))], axis=1)
    return energies / np.maximum(energies.sum(axis=1, keepdims=True), 1e-300)


def spectrum_rows(
    encoder: str, names: Sequence[str], found: ExtremeDirections
) -> list[dict[str, Any]]:
    """Returns a row an image: how the gains fall, and how well they are known."""
    return [
        {
            "encoder": encoder,
            "image": name,
            "norm": float(found.norm[i]),
            "rank": None if found.rank is None else int(found.rank[i]),
            "effective_rank": None if found.rank is None else float(found.effective_rank[i]),
            "largest": float(found.gains[i, 0]),
            "smallest": float(found.smallest[i]),
            "ratio": float(found.gains[i, 0] / found.smallest[i]),
            "residual": float(found.residual[i].max()),
            "converged": bool(found.converged[i].all()),
        }
        for i, name in enumerate(names)
    ]


def walk_rows(
    encoder: str,
    tap: Tap,
    names: Sequence[str],
    images: np.ndarray,
    walked: Mapping[str, Walk],
    norm: np.ndarray,
    grey_levels: Sequence[float],
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Returns a row for each image, direction and length, and the pictures of the longest steps.

    norm: [N] lengths of the descriptors. Pictures: {direction: [N, H, W, C]}.
    """
    rows, pictures = [], {}
    a_level = _scale(tap.preprocessing) * math.sqrt(images[0].size)
    for name, walk in walked.items():
        energies = octave_energies(walk.direction)
        for length in sorted(grey_levels):
            steps = step(tap, images, walk.direction, length)
            linear = walk.gain * length * a_level / np.maximum(norm, 1e-30)
            pictures[name] = steps.pictures
            rows += [
                {
                    "encoder": encoder,
                    "image": image,
                    "direction": name,
                    "grey_levels": length,
                    "grey_levels_clipped": float(steps.grey_levels[i]),
                    "change": float(steps.change[i]),
                    "change_unclipped": float(steps.unclipped[i]),
                    "predicted": float(linear[i]),
                    **{f"energy_{o}": float(energies[i, k]) for k, o in enumerate(OCTAVES)},
                }
                for i, image in enumerate(names)
            ]
    return rows, pictures


def summary(spectrum: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns sentences of medians: how the gains fall, and the change of the longest steps."""
    lines = []
    for encoder in dict.fromkeys(row["encoder"] for row in spectrum):
        own = [row for row in spectrum if row["encoder"] == encoder]
        ended = sum(row["converged"] for row in own)
        if own[0]["rank"] is None:
            known = "more numbers than the whole Jacobian is formed of"
        else:
            rank, effective, ratio = (
                np.median([row[name] for row in own])
                for name in ("rank", "effective_rank", "ratio")
            )
            known = f"rank {rank:.0f}, effective rank {effective:.0f}, largest over smallest gain "
            known += f"{ratio:.0f}"
        lines.append(f"{encoder}: {known}; {ended} of {len(own)} images converged")
        longest = max(row["grey_levels"] for row in rows)
        for name in NAMES:
            steps = [
                row
                for row in rows
                if (row["encoder"], row["direction"], row["grey_levels"])
                == (encoder, name, longest)
            ]
            if steps:
                change, linear = (
                    np.median([row[key] for row in steps]) for key in ("change", "predicted")
                )
                lines.append(
                    f"  {name}: {longest:g} grey levels change the descriptor by {change:.3f} "
                    f"(linear: {linear:.3f})"
                )
    return lines
