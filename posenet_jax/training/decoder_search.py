"""Search of a decoder's learning rate, as the paper's: a coarse stage, then a fine one.

A trial is a short training at a rate of its own. All trials see the same batches and start from the
same weights, in one compiled program. The fine stage draws its rates about the best ones of the
coarse stage.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from posenet_jax.decoders import decoding
from posenet_jax.errors import InputError
from posenet_jax.evaluation import decoder_evaluation
from posenet_jax.io import files, storage
from posenet_jax.io.run_files import read_csv
from posenet_jax.sharding import on_every_device
from posenet_jax.training import decoder_training
from posenet_jax.training.decoder_data import DecoderData
from posenet_jax.training.decoder_training import DecoderConfig

Trial = dict[str, float]  # learning_rate, loss, validation_mse; infinite where not finite

RANKED_BY = {"coarse": "loss", "fine": "validation_mse"}
"""Column by which the trials of each stage are ranked."""

_LAST = 50  # number of batches whose training losses are averaged
_BEYOND = 1.5  # factor beyond the best rates
_POSSIBLE = (1e-150, 1e150)  # rates


def log_uniform_rates(
    low: float, high: float, count: int, seed: int | Sequence[int]
) -> list[float]:
    """Returns `count` rates of four digits, one log-uniformly in each of as many equal parts.

    Raises InputError unless 0 < low < high.
    """
    if not 0.0 < low < high:
        raise InputError(f"the lowest rate must be positive and below the highest, not {low}")
    drawn = np.random.default_rng(seed).uniform(size=count)
    fractions = (np.arange(count) + drawn) / count
    return [float(f"{low * (high / low) ** fraction:.4g}") for fraction in fractions]


def refined_range(coarse: Sequence[Trial]) -> tuple[float, float]:
    """Returns the range of a fine stage: rates of the best third, and a little beyond."""
    best = sorted(coarse, key=lambda row: row[RANKED_BY["coarse"]])[: max(2, len(coarse) // 3)]
    rates = [row["learning_rate"] for row in best]
    return min(rates) / _BEYOND, max(rates) * _BEYOND


def read_trials(path: Path) -> list[Trial]:
    """Returns the trials of a table; none where there is no file. Raises InputError."""
    if not storage.exists(path):
        return []
    remedy = "remove it and run that stage again"
    return [
        {"learning_rate": row.number("learning_rate", _POSSIBLE)}
        | {name: row.number(name, (0.0, math.inf)) for name in ("loss", "validation_mse")}
        for row in read_csv(path, ("learning_rate", "loss", "validation_mse"), remedy=remedy)
    ]


def search(
    config: DecoderConfig,
    data: DecoderData,
    stage: str,
    rates: Sequence[float],
    table: Path,
    *,
    steps: int,
    seed: int,
    progress: Callable[[int], object] = lambda steps: None,
) -> list[Trial]:
    """Tries every rate for so many steps; returns the trials, best first.

    table: CSV file of the trials, written after each; those that it holds are not repeated.
    progress: called with numbers of steps done.
    """
    before = {row["learning_rate"]: row for row in read_trials(table)}
    trials = [before[rate] for rate in rates if rate in before]
    progress(steps * len(trials))
    for rate in rates:
        if rate not in before:
            trials.append(_trial(config, data, rate, steps, seed, progress))
            files.write_csv(table, trials)
    trials.sort(key=lambda row: row[RANKED_BY[stage]])
    files.write_csv(table, trials)
    return trials


def sentences(trials: Sequence[Mapping[str, float]]) -> list[str]:
    """Returns the table of trials for a person."""
    return ["learning rate   training loss   validation error; best first"] + [
        f"{row['learning_rate']:13.3g}{row['loss']:16.5f}{row['validation_mse']:19.5f}"
        for row in trials
    ]


def _trial(
    config: DecoderConfig,
    data: DecoderData,
    rate: float,
    steps: int,
    seed: int,
    progress: Callable[[int], object],
) -> Trial:
    """Returns one training run from the start; infinite losses where one was not finite."""
    shape = decoding.descriptor_shape(data.encoder, data.tap.layer)
    state: Any = decoder_training.init_state(config, shape, seed)
    state, tap, scale, given = jax.device_put(
        (state, data.tap, data.scale, jnp.float32(rate)), on_every_device(data.mesh)
    )
    losses = []
    for number in range(steps):
        state, metrics = decoder_training.train_step(
            state, data.batches(number), tap, scale, given, config=config, mesh=data.mesh
        )
        losses.append(float(metrics["loss"]))
        progress(1)
        if not math.isfinite(losses[-1]):
            progress(steps - number - 1)
            return {"learning_rate": rate, "loss": math.inf, "validation_mse": math.inf}
    decoder = decoder_training.trained_decoder(
        jax.device_get(state.average), data.scale, config, data.encoder, data.tap.layer
    )
    sets = (data.judged.get(name) for name in ("validation", "rendered", "train"))
    images = next(found for found in sets if found is not None)
    return {
        "learning_rate": rate,
        "loss": float(np.mean(losses[-_LAST:])),
        "validation_mse": float(decoder_evaluation.errors(decoder, images).mean()),
    }
