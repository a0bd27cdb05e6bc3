"""Closer looks at one picture's descriptor: other pictures of it, what changes it, its pose.

Pictures are uint8 [H, W, C] as the encoder reads them, each with a caption; a descriptor is one
image's, an array [...].
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from posenet_jax import metrics
from posenet_jax.analysis import extremes, surgery, walks
from posenet_jax.analysis.surgery import Components
from posenet_jax.decoders import decoding
from posenet_jax.decoders.decoding import Decoder
from posenet_jax.encoders.encoder import Encoder, Tap
from posenet_jax.errors import InputError
from posenet_jax.inversion import encode_checks

Array = jax.Array

DRAWS = 6
# Grey levels of standard deviation that are shown white.
_WHITE = 64.0

OPERATIONS: dict[str, tuple[float, float]] = {
    "largest": (1, 1e6),
    "random": (1, 1e6),
    "quantised": (1, 8),
    "noise": (0.0, 4.0),
    "components": (1, 1e6),
}
"""Operations on a descriptor, and the least and the largest amount of each: units kept, units kept,
bits a unit, standard deviation in terms of the descriptor's root mean square, components kept."""

_MOST_NUMBERS = 2048  # of a descriptor, where components are fitted: their covariance is square


class Shown(NamedTuple):
    """A picture and what it is."""

    caption: str
    picture: np.ndarray


def mean_and_deviation(pictures: Sequence[np.ndarray], what: str) -> list[Shown]:
    """Returns the mean of several pictures and their standard deviation; nothing of one."""
    if len(pictures) < 2:
        return []
    stacked = np.stack(pictures).astype(np.float64)
    deviation = stacked.std(axis=0, ddof=1)
    grey = np.clip(np.round(deviation * 255.0 / _WHITE), 0, 255).astype(np.uint8)
    words = f"deviation, {deviation.mean():.1f} grey levels on average (white: {_WHITE:.0f})"
    return [
        Shown(f"mean of {len(pictures)} {what}", np.round(stacked.mean(axis=0)).astype(np.uint8)),
        Shown(words, grey),
    ]


def decoded(decoder: Decoder, descriptor: np.ndarray, key: Array) -> list[Shown]:
    """Returns what a decoder makes of a descriptor: a picture, or draws, mean and deviation."""
    drawn = decoding.draws(decoder, descriptor[None], key, count=DRAWS)[:, 0]
    pictures = [np.asarray(decoder.preprocessing.picture(picture)) for picture in drawn]
    if len(pictures) == 1:
        return [Shown(f"{decoder.name}, in one pass", pictures[0])]
    named = [Shown(f"draw {number}", picture) for number, picture in enumerate(pictures, 1)]
    return named + mean_and_deviation(pictures, "draws")


def components_of_crops(tap: Tap, pictures: np.ndarray) -> Components:
    """Returns principal components of the descriptors of pictures, their crops and mirror images.

    pictures: uint8 [N, H, W, C]. Raises InputError where descriptors are too long for it.
    """
    like = encode_checks.descriptor_like(tap, tap.preprocessing)
    if like.size > _MOST_NUMBERS:
        raise InputError(
            f"components are kept of at most {_MOST_NUMBERS} numbers; {tap.layer} has {like.size}"
        )
    _, height, width, _ = pictures.shape
    down, across = height // 6, width // 6
    parts = [
        pictures[:, top : top + height - down, left : left + width - across]
        for top in (0, down)
        for left in (0, across)
    ]
    crops = [pictures, *map(tap.preprocessing.resize_all, parts)]
    images = np.concatenate([*crops, *(crop[:, :, ::-1] for crop in crops)])
    return surgery.fit_components(tap.describe(images).reshape((len(images), -1)))


def operated(
    operation: str,
    amount: float,
    descriptor: np.ndarray,
    others: np.ndarray,
    key: Array,
    components: Components | None = None,
) -> np.ndarray:
    """Returns a descriptor after an operation of `OPERATIONS`.

    others: [M, …] of other pictures, to know each unit's range. components: those of which the
    first are kept, where these are asked for. Raises InputError for operations
    that there are not, and amounts that make no sense.
    """
    if operation not in OPERATIONS:
        raise InputError(f"no operation {operation!r}; there are {', '.join(OPERATIONS)}")
    least, most = OPERATIONS[operation]
    if not least <= amount <= most:
        raise InputError(f"the amount of {operation!r} must lie within {least:g} and {most:g}")
    flat = descriptor.reshape((1, -1)).astype(np.float32)
    known = np.concatenate([flat, others.reshape((len(others), -1))])
    if operation == "noise":
        made = surgery.add_noise(key, flat, amount)
    elif operation == "components":
        assert components is not None
        made = surgery.project(flat, components, round(amount))
    elif operation == "quantised":
        made = surgery.quantise(flat, known.max(axis=0), round(amount))
    else:
        chosen = surgery.best_order(flat)
        if operation == "random":
            chosen = surgery.random_orders(key, known, 1)[0]
        made = surgery.mask(flat, chosen, round(amount))
    return made.reshape(descriptor.shape).astype(np.float32)


def distance(descriptor: np.ndarray, other: np.ndarray) -> float:
    """Returns the relative loss (eq. 3) between two descriptors."""
    return float(metrics.relative_losses(np.stack([descriptor, other]))[0, 1])


def pose(encoder: Encoder, first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Returns what the pose heads say of two fc5 descriptors: degrees, metres, a probability.

    Raises InputError where the encoder has no heads.
    """
    pair = jnp.asarray(first)[None], jnp.asarray(second)[None]
    found = np.asarray(encoder.poses(*pair))
    logit = float(np.asarray(encoder.matches(*pair))[0])
    right, down, forward = found[0, 3:].astype(np.float64)
    return {
        "rotation": float(metrics.rotation_errors(found, np.zeros_like(found))[0]),
        "turns": [float(angle) for angle in np.degrees(found[0, :3].astype(np.float64))],
        "distance": float(np.linalg.norm(found[0, 3:])),
        "azimuth": float(np.degrees(np.arctan2(right, forward))),
        "elevation": float(np.degrees(np.arctan2(-down, np.hypot(right, forward)))),
        "match": float(1.0 / (1.0 + np.exp(-logit))),
    }


def changed_most_and_least(
    tap: Tap, pixels: np.ndarray, key: Array, grey_levels: float
) -> list[Shown]:
    """Returns a picture changed along the extreme directions, by the same length along each."""
    found = extremes.extreme_directions(tap, pixels[None], key=key)
    noise = np.asarray(jax.random.normal(key, (1, *pixels.shape)), np.float32)
    directions = {
        "what it sees most": found.most[:, 0],
        "of what it sees, the least": None if found.least is None else found.least[:, 0],
        "what it does not see": None if found.smooth is None else found.smooth[:, 0],
        "noise, to compare": noise,
    }
    shown = []
    for name, direction in directions.items():
        if direction is not None:
            made = walks.step(tap, pixels[None], direction, grey_levels)
            words = f"{name}: descriptor changed by {100 * made.change[0]:.2g} %"
            shown.append(Shown(words, tap.preprocessing.picture(made.pictures[0])))
    return shown
