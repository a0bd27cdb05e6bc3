"""Detection of collapsed adversarial trainings, from their log."""

from collections.abc import Mapping

import numpy as np

LINES = 20  # number of lines of the log looked back on
_WON = 0.99
_CHANCE = 1.98
_SAME = 0.25


def collapse(log: Mapping[str, np.ndarray]) -> str | None:
    """Returns a sentence that says how the training collapsed; None while it has not.

    log: columns of metrics.csv, NaN where a cell is empty. The discriminator has won where it has
    known real from made almost always, and lost where its hinge loss has been that of saying
    nothing (2), in all of the last `LINES` lines. The generator has collapsed where its pictures of
    different descriptors differ less than a quarter as much as the originals do.
    """
    if len(log["step"]) >= LINES:
        real, made, loss = (
            log[name][-LINES:] for name in ("real_accuracy", "made_accuracy", "discriminator_loss")
        )
        if min(real.min(), made.min()) > _WON:
            return (
                "the discriminator has won: it knows real from made images without an error; take a"
                " smaller --pace, or --pause=0.1"
            )
        if loss.min() > _CHANCE:
            return (
                "the discriminator has lost: it says the same of real and made images; take a"
                " larger --pace"
            )
    for name, values in log.items():
        known = values[np.isfinite(values)]
        if name.endswith("_diversity_ratio") and len(known) and known[-1] < _SAME:
            return (
                f"the generator makes nearly the same image of every descriptor ({name} is "
                f"{known[-1]:.2f}); take a smaller --adversarial_weight"
            )
    return None
