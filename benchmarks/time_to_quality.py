"""Time to bring photographs to a relative loss, with slots refilled and in plain PyTorch batches.

Both run recipe `calibrated` with its prior. Ours ends each image where it gets there and gives its
slot to the next; the plain loop runs its batch for as many steps as 95 % of the images need.
"""

import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch

from benchmarks import torch_inversion, torch_networks
from posenet_jax.data.sources import FolderImages
from posenet_jax.encoders.encoder import Encoder, Tap
from posenet_jax.inversion import engine, recipes

TOLERANCE = 0.05
RECIPE = recipes.CALIBRATED.replace(stop_early=True, tolerance=TOLERANCE)
# Of the images, for whose sake the plain loop's batch goes on.
SHARE = 95


def compare(
    encoder: Encoder, tap: Tap, folder: str | Path, count: int, slots: int, torch_batch: int
) -> dict[str, Any]:
    """The ratio `time_to_quality_ratio` and what it is made of. Times are seconds an image."""
    source, space = FolderImages(folder), encoder.preprocessing
    rows = range(min(count, len(source)))
    images = np.stack([space.resize(source[row].image) for row in rows])
    targets = tap.describe(images)
    # Where an image is a large part of a slot's work, the last ones alone would be what is timed.
    slots = min(slots, _multiple(len(targets) // 8, jax.device_count()))
    options: dict[str, Any] = {"key": jax.random.key(1), "recipe": RECIPE, "slots": slots}
    engine.invert(tap, targets[: slots + 1], **options)  # compiles, refilling too
    start = time.perf_counter()
    result = engine.invert(tap, targets, **options)
    ours = (time.perf_counter() - start) / len(targets)
    reached = result.relative_loss <= TOLERANCE
    needed = np.where(reached, result.steps, RECIPE.steps)
    steps = int(np.ceil(np.percentile(needed, SHARE)))
    theirs, least = _plain(encoder, tap, targets[:torch_batch], steps)
    return {
        "time_to_quality_ratio": theirs / ours,
        "time_to_quality": {
            "images": len(targets),
            "slots": slots,
            "seconds_an_image": ours,
            "torch_seconds_an_image": theirs,
            "mean_steps": float(needed.mean()),
            "torch_steps": steps,
            "share_reached": float(reached.mean()),
            "torch_share_reached": float(np.mean(least <= TOLERANCE)),
        },
    }


def _multiple(count: int, of: int) -> int:
    return max(1, count // of) * of


def _plain(encoder: Encoder, tap: Tap, targets: np.ndarray, steps: int) -> tuple[float, np.ndarray]:
    """(seconds an image, least relative losses) of one batch; all batches cost the same."""
    size = encoder.preprocessing.side
    noise = np.random.default_rng(0).normal(size=(len(targets), size, size, 3))
    wanted = np.moveaxis(targets, -1, 1) if targets.ndim == 4 else targets
    architecture = encoder.module.architecture

    def invert(steps: int) -> np.ndarray:
        return torch_inversion.calibrated(
            architecture,
            tap.layer,
            torch_inversion.freeze(torch_networks.from_flax(encoder.params)),
            torch_networks.channels_first(RECIPE.start_deviation * noise.astype(np.float32)),
            torch.from_numpy(np.array(wanted)),
            RECIPE,
            steps,
        ).least.numpy()

    invert(1)
    start = time.perf_counter()
    least = invert(steps)
    return (time.perf_counter() - start) / len(targets), least
