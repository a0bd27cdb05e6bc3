"""Detection of collapsed adversarial trainings, from their log."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from posenet_jax.errors import Collapsed
from posenet_jax.training.training_loop import read_metrics

LINES = 20  # number of lines of the log looked back on
_WON = 0.99
_CHANCE = 1.98
_SAME = 0.25


def collapse(log: Mapping[str, np.ndarray]) -> str | None:
    """Returns a sentence that says how the training collapsed; None while it has not.

    log: columns of metrics.csv, NaN where a cell is empty. The discriminator has won where it has
    told real from generated almost always, and lost where its hinge loss has been that of a
    constant (2), in all of the last `LINES` lines. The generator has collapsed where its pictures
    of different descriptors differ less than a quarter as much as the originals do.
    """
    if len(log["step"]) >= LINES:
        real, made, loss = (
            log[name][-LINES:] for name in ("real_accuracy", "made_accuracy", "discriminator_loss")
        )
        if min(real.min(), made.min()) > _WON:
            return (
                "the discriminator has won: it tells real from generated images without an error;"
                " give a smaller --discriminator_lr_scale, or --discriminator_pause_below=0.1"
            )
        if loss.min() > _CHANCE:
            return (
                "the discriminator has lost: it does not tell real from generated images; give a"
                " larger --discriminator_lr_scale"
            )
    for name, values in log.items():
        known = values[np.isfinite(values)]
        if name.endswith("_diversity_ratio") and len(known) and known[-1] < _SAME:
            return (
                f"the generator makes nearly the same image of every descriptor ({name} is "
                f"{known[-1]:.2f}); take a smaller --adversarial_weight"
            )
    return None


def check(metrics: str | Path) -> None:
    """Raises Collapsed where the metrics.csv of an adversarial training says that it has."""
    sentence = collapse(read_metrics(metrics))
    if sentence:
        raise Collapsed(sentence)
