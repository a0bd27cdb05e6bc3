"""Two networks set against each other: images that one takes for the same, the other for others.

From each image a descent begins that moves the descriptor of one network as far as it can, while
that of the other stays within a limit. Images whose limit is kept show what the first network sees
and the second does not. N images, uint8 RGB [N, H, W, C].
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from posenet_jax import metrics
from posenet_jax.encoders.encoder import Tap
from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import data_terms, engine, recipes
from posenet_jax.inversion.recipes import Recipe

Array = jax.Array

LIMIT = 0.02
"""Relative loss (eq. 3) up to which two images count as the same to a network."""
# Aimed at: rounding to grey levels moves the descriptor as well. For a small distance eq. 3 is half
# of the relative one.
_AIM = (2.0 * 0.75 * LIMIT) ** 2
# Relative square above that costs more than there is to win by moving, and not so much more that
# a descent which has overstepped does nothing but go back.
_STIFFNESS = 300.0


def held_and_moved(descriptor: Mapping[str, Array], target: Mapping[str, Array]) -> Array:
    """Data term: `moved` as far from its target as it can be, `held` within the limit of its own.

    Squares are relative; that of `moved` counts as d / (1 + d), so that it cannot outweigh `held`.
    """
    held, moved = (
        data_terms.relative_square(descriptor[name], target[name]) for name in ("held", "moved")
    )
    excess = jnp.maximum(held - jnp.float32(_AIM), 0.0)
    return jnp.float32(_STIFFNESS) * excess - moved / (1.0 + moved)


RECIPE: Recipe = dataclasses.replace(
    recipes.CALIBRATED,
    name="oppose",
    data_term=held_and_moved,
    priors={"tv": 0.3, "l6": 0.03},
    start="image",
    start_deviation=2.0,
    learning_rate=8.0,
    warmup=0,
    final_rate=0.002,
    steps=300,
)
"""Begins with the image itself and a little noise: there alone no gradient says where to go.

Total variation weighs ten times as much as where there is a target to reach: with less of it the
change is noise, which moves a network by itself.
"""


@struct.dataclass
class Pair:
    """Two taps as one function of an image, in the space of the one that is held."""

    held: Tap
    moved: Tap

    @property
    def preprocessing(self) -> Preprocessing:
        """Image space of `held`."""
        return self.held.preprocessing

    def __call__(self, image: Array) -> dict[str, Array]:
        """Returns both descriptors of one image [H, W, C], clipped to what a picture can have."""
        space, ends = self.preprocessing, np.zeros((2, 1, 1, self.preprocessing.channels), np.uint8)
        ends[1] = 255
        darkest, lightest = jnp.sort(space.to_network(ends), axis=0)  # of a scale below 0 too
        shown = jnp.clip(image, darkest, lightest)
        other = space.to_space(shown, self.moved.preprocessing)
        return {"held": self.held(shown), "moved": self.moved(other)}

    def prepared(self) -> "Pair":
        """Returns the same function, prepared as taps are."""
        return Pair(self.held.prepared(), self.moved.prepared())


class Opposed(NamedTuple):
    """Pictures found, and their relative losses (eq. 3) to the originals."""

    pictures: np.ndarray  # [N, H, W, C] uint8
    held: np.ndarray  # [N] in the network that was held
    moved: np.ndarray  # [N] in the other one
    moved_by_noise: np.ndarray  # [N] in the other one, of noise of the same root mean square
    others: np.ndarray  # [N, 2] of the next original, in both: held, moved
    grey_levels: np.ndarray  # [N] root mean square of the change
    luminance: np.ndarray  # [N] luminance correlation with the original


def _shown(space: Preprocessing) -> str:
    return "×".join(map(str, space.shape))


def opposed(
    held: Tap,
    moved: Tap,
    images: np.ndarray,
    *,
    key: Array,
    recipe: Recipe = RECIPE,
    slots: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Opposed:
    """Returns images that stay the same to `held` and become as different to `moved` as they can.

    slots, progress: as in `engine.run`. What is measured is the pictures, rounded to 8 bits.
    Raises InputError for taps that read images of different sizes.
    """
    space = held.preprocessing
    if moved.preprocessing.shape != space.shape:
        raise InputError(
            f"the two networks read images of {_shown(space)} and {_shown(moved.preprocessing)}; "
            f"name the second one with @{space.height}"
        )
    pair = Pair(held, moved)
    targets = {"held": held.describe(images), "moved": moved.describe(images)}
    own_key, noise_key = jax.random.split(key)
    result = engine.invert(
        pair,
        targets,
        key=own_key,
        recipe=recipe,
        start=np.asarray(space.to_network(images)),
        slots=slots,
        progress=progress,
    )
    pictures = np.asarray(space.to_image(result.image))
    change = pictures.astype(np.float64) - images
    grey_levels = np.sqrt(np.mean(change**2, axis=(1, 2, 3)))
    noise = np.asarray(jax.random.normal(noise_key, images.shape, jnp.float32))
    noisy = np.round(images + grey_levels[:, None, None, None] * noise)
    noisy = np.clip(noisy, 0, 255).astype(np.uint8)
    others = [losses_in(tap, np.roll(images, -1, axis=0), images) for tap in (held, moved)]
    seen = metrics.luminance_correlations(jnp.asarray(pictures), jnp.asarray(images))
    return Opposed(
        pictures,
        losses_in(held, pictures, images),
        losses_in(moved, pictures, images),
        losses_in(moved, noisy, images),
        np.stack(others, axis=1),
        grey_levels,
        np.asarray(seen).diagonal(),
    )


def losses_in(tap: Tap, pictures: np.ndarray, originals: np.ndarray) -> np.ndarray:
    """Returns the relative loss [N] of each picture to its original in a network."""
    found, wanted = (
        tap.describe(tap.preprocessing.resize_all(x)).reshape((len(x), -1)).astype(np.float64)
        for x in (pictures, originals)
    )
    total = np.linalg.norm(found, axis=1) + np.linalg.norm(wanted, axis=1)
    return np.linalg.norm(found - wanted, axis=1) / np.maximum(total, 1e-12)


def table(
    found: Opposed, names: Sequence[str], held: str, moved: str, judged: np.ndarray | None
) -> list[dict[str, Any]]:
    """Returns a row an image. held, moved: names of the networks; judged: [N] losses in a third."""
    return [
        {
            "image": name,
            "held": held,
            "moved": moved,
            "loss_held": float(found.held[i]),
            "loss_moved": float(found.moved[i]),
            "loss_judge": None if judged is None else float(judged[i]),
            "same_to_held": bool(found.held[i] <= LIMIT),
            "different_to_moved": bool(found.moved[i] >= found.others[i, 1]),
            "noise_moved": float(found.moved_by_noise[i]),
            "other_held": float(found.others[i, 0]),
            "other_moved": float(found.others[i, 1]),
            "grey_levels": float(found.grey_levels[i]),
            "luminance": float(found.luminance[i]),
        }
        for i, name in enumerate(names)
    ]


def summary(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a sentence for each way round, of medians."""
    lines = []
    for held, moved in dict.fromkeys((row["held"], row["moved"]) for row in rows):
        own = [row for row in rows if row["held"] == held]
        middle = {
            name: np.median([row[name] for row in own])
            for name in own[0]
            if isinstance(own[0][name], float)
        }
        same = [row for row in own if row["same_to_held"]]
        judged = f"{middle['loss_judge']:.3f}" if "loss_judge" in middle else "not asked"
        lines.append(
            f"held {held}: {len(same)} of {len(own)} are the same, "
            f"{sum(row['different_to_moved'] for row in same)} of these as different to {moved} as "
            f"another image; relative loss {middle['loss_held']:.3f} (another image "
            f"{middle['other_held']:.2f}), to {moved} {middle['loss_moved']:.2f} (noise of that "
            f"size {middle['noise_moved']:.2f}, another image {middle['other_moved']:.2f}), judge "
            f"{judged}; luminance {middle['luminance']:.2f}, {middle['grey_levels']:.0f} levels"
        )
    return lines
