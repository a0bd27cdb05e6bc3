"""Pictures and figures of the images of a bulk inversion."""

from typing import Any

import numpy as np

from posenet_jax.bulk.inversion_batches import Entry
from posenet_jax.encoders.encoder import Encoder, Tap
from posenet_jax.evaluation.measures import Context, measured
from posenet_jax.inversion.job_queues import Finished
from posenet_jax.shards.reconstruction_shards import InvertedImage


def measured_images(
    encoder: Encoder,
    tap: Tap,
    judge: Tap | None,
    entries: list[Entry],
    made: list[list[Finished]],
) -> list[InvertedImage]:
    """Returns each entry's pictures and figures. made: its inversions, one a restart."""
    restarts = len(made[0])
    iterates = np.stack([[one.image for one in results] for results in made])  # [n, R, H, W, 3]
    pictures = np.asarray(tap.preprocessing.to_image(iterates))
    targets = np.stack([entry.target for entry in entries])
    seen = [entry.original for entry in entries if entry.original is not None]
    originals = np.stack(seen) if seen else None
    # Restart by restart: so are the others, with which each is compared, other images.
    context = Context(tap, targets, pictures[:, 0], originals, judge, encoder)
    found = [measured(context)]
    found += [measured(context.with_pictures(pictures[:, r])) for r in range(1, restarts)]
    return [
        InvertedImage(
            entry.position,
            entry.name,
            pictures[row],
            [
                _figures(made[row][restart])
                | {name: values[row].item() for name, values in found[restart].items()}
                for restart in range(restarts)
            ],
        )
        for row, entry in enumerate(entries)
    ]


def _figures(one: Finished) -> dict[str, Any]:
    return {
        "steps": one.steps,
        "starts": one.starts,
        "status": one.status.sentence,
        "loss": one.loss,
        "relative_loss": one.relative_loss,
        "descriptor_error": one.descriptor_error,
    }
