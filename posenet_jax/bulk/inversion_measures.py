"""Pictures, results and measures of the images of a bulk inversion."""

from typing import Any

import numpy as np

from posenet_jax.bulk.inversion_batches import Entry
from posenet_jax.encoders.encoder import Encoder, Tap
from posenet_jax.evaluation.feature_networks import Lpips
from posenet_jax.evaluation.measures import Context, measured
from posenet_jax.inversion.job_queues import Finished
from posenet_jax.shards.reconstruction_shards import InvertedImage


def measured_images(
    encoder: Encoder,
    tap: Tap,
    judge: Tap | None,
    lpips: Lpips | None,
    entries: list[Entry],
    inversions: list[list[Finished]],
) -> list[InvertedImage]:
    """Returns each entry's pictures, results and measures. inversions: of each, one a restart."""
    restarts = len(inversions[0])
    iterates = np.stack(
        [[one.image for one in results] for results in inversions]
    )  # [n, R, H, W, C]
    pictures = np.asarray(tap.preprocessing.to_image(iterates))
    targets = np.stack([entry.target for entry in entries])
    known = [entry.original for entry in entries if entry.original is not None]
    originals = np.stack(known) if known else None
    # Restart by restart, so that the others with which a picture is compared are other images.
    context = Context(tap, targets, pictures[:, 0], originals, judge, encoder, lpips)
    measures = [measured(context)]
    measures += [measured(context.with_pictures(pictures[:, r])) for r in range(1, restarts)]
    return [
        InvertedImage(
            entry.position,
            entry.name,
            tap.preprocessing.picture(pictures[row]),
            [
                _results(inversions[row][restart])
                | {name: values[row].item() for name, values in measures[restart].items()}
                for restart in range(restarts)
            ],
        )
        for row, entry in enumerate(entries)
    ]


def _results(one: Finished) -> dict[str, Any]:
    return {
        "steps": one.steps,
        "starts": one.starts,
        "status": one.status.sentence,
        "loss": one.loss,
        "relative_loss": one.relative_loss,
        "descriptor_error": one.descriptor_error,
    }
