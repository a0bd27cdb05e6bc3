"""Pictures of a finished bulk inversion as a set, beside their originals."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from posenet_jax.data.sources import DatasetExamples, ImageSource
from posenet_jax.encoders.encoder import Tap
from posenet_jax.errors import ImageError
from posenet_jax.evaluation import image_sets
from posenet_jax.images.preprocessing import Preprocessing

MOST = 1024
"""Images that a set has at most: kernel distances compare all with all."""


def set_measures(
    folder: str | Path,
    source: ImageSource,
    preprocessing: Preprocessing,
    taps: Mapping[str, Tap],
    most: int = MOST,
) -> dict[str, float]:
    """Returns `image_sets.set_measures` and their controls, of each image's first restart.

    Of more than `most` images those are taken that lie evenly in the folder's order. Originals that
    cannot be read any more are left out; where none is left, nothing is measured.
    """
    pictures, originals = _pairs(folder, source, preprocessing, most)
    if not len(pictures):
        return {}
    found = image_sets.set_measures(pictures, originals, taps)
    return {"images": len(pictures), **found, **image_sets.half_measures(originals, taps)}


def _pairs(
    folder: str | Path, source: ImageSource, preprocessing: Preprocessing, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures and originals, uint8 RGB [N, H, W, 3] each."""
    examples = DatasetExamples(folder, "images")
    pairs = []
    for row in np.linspace(0, len(examples) - 1, min(most, len(examples))).round():
        example = examples[int(row)]
        try:
            original = source[int(example["position"])].image
        except ImageError:
            continue
        pairs.append((example["image"][0], preprocessing.resize(original)))
    pictures, originals = zip(*pairs, strict=True) if pairs else ((), ())
    return np.asarray(pictures), np.asarray(originals)
