"""Searches the learning rate of a decoder as the report did: a coarse search, then a fine one.

    python -m experiments.search_decoder --stage=coarse --images=PHOTOS --workdir=runs/search
    python -m experiments.search_decoder --stage=fine --images=PHOTOS --val_images=OTHERS \\
        --workdir=runs/search

Coarse: 500 batches each, judged by the training loss of the last 50. Fine: rates between those of
the best third of the coarse trials and a little beyond, judged by the validation loss, on all
validation images and with averaged weights. Rates are drawn log-uniformly, one in each of as many
equal parts of the range as there are trials. All trials see the same batches and start from the
same weights, in one compiled program. Writes coarse.csv, fine.csv and search.png; a search that was
killed is finished by the same command.
"""

import math
from pathlib import Path
from typing import Any

from absl import flags

from experiments.common import decoder_options, runtime

_STAGE = flags.DEFINE_enum(
    "stage", None, ["coarse", "fine"], "Search to run: the coarse one comes first.", required=True
)
_TRIALS = flags.DEFINE_integer(
    "trials", 8, "Trials, each with a learning rate of its own.", lower_bound=3
)
_BATCHES = flags.DEFINE_integer("batches", 500, "Training steps of every trial.", lower_bound=1)
_LOWEST = flags.DEFINE_float(
    "lowest", 1e-5, "Least learning rate of the coarse search, above 0.", lower_bound=0.0
)
_HIGHEST = flags.DEFINE_float(
    "highest", 1e-1, "Highest learning rate of the coarse search.", lower_bound=0.0
)

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse()

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from tqdm import tqdm

from experiments.common import decoder_inputs, run_sources
from posenet_jax.decoders import decoding
from posenet_jax.errors import InputError
from posenet_jax.evaluation import decoder_evaluation
from posenet_jax.io import files, output_folder, provenance
from posenet_jax.io.run_files import read_csv
from posenet_jax.report.decoder_plots import search_figure
from posenet_jax.training import decoder_training

_LAST = 50
_BEYOND = 1.5
_POSSIBLE = (1e-150, 1e150)  # rates


def _range(workdir: Path) -> tuple[float, float]:
    """Range of the rates to be drawn."""
    if _STAGE.value == "coarse":
        if not 0.0 < _LOWEST.value < _HIGHEST.value:
            raise InputError("--lowest must be positive and below --highest")
        return _LOWEST.value, _HIGHEST.value
    coarse = _rows(workdir / "coarse.csv")
    if not coarse:
        raise InputError(f"{workdir}/coarse.csv is not there: run --stage=coarse first")
    best = sorted(coarse, key=lambda row: row["loss"])[: max(2, len(coarse) // 3)]
    rates = [row["learning_rate"] for row in best]
    return min(rates) / _BEYOND, max(rates) * _BEYOND


def _rates(low: float, high: float) -> list[float]:
    rng = np.random.default_rng([decoder_options.SEED.value, _STAGE.value == "fine"])
    places = (np.arange(_TRIALS.value) + rng.uniform(size=_TRIALS.value)) / _TRIALS.value
    return [float(f"{low * (high / low) ** place:.4g}") for place in places]


def _rows(path: Path) -> list[dict[str, float]]:
    if not path.exists():
        return []
    remedy = "remove it and run that stage again"
    return [
        {"learning_rate": row.number("learning_rate", _POSSIBLE)}
        | {name: row.number(name, (0.0, math.inf)) for name in ("loss", "validation_mse")}
        for row in read_csv(path, ("learning_rate", "loss", "validation_mse"), remedy=remedy)
    ]


def _trial(data: decoder_inputs.DecoderInputs, rate: float, bar: tqdm) -> dict[str, float]:
    """One training run from the start; infinite losses where it left the numbers."""
    config = decoder_training.DecoderConfig(network=decoder_options.NETWORK.value)
    layer = decoder_options.LAYER.value
    everywhere = NamedSharding(data.mesh, PartitionSpec())
    shape = decoding.descriptor_shape(data.encoder, layer)
    state: Any = decoder_training.init_state(config, shape, decoder_options.SEED.value)
    state, tap, scale, given = jax.device_put(
        (state, data.tap, data.scale, jnp.float32(rate)), everywhere
    )
    losses = []
    for number in range(_BATCHES.value):
        state, metrics = decoder_training.train_step(
            state, data.batches(number), tap, scale, given, config=config, mesh=data.mesh
        )
        losses.append(float(metrics["loss"]))
        bar.update()
        if not math.isfinite(losses[-1]):
            bar.update(_BATCHES.value - number - 1)
            return {"learning_rate": rate, "loss": math.inf, "validation_mse": math.inf}
    loss = float(np.mean(losses[-_LAST:]))
    decoder = decoder_training.trained_decoder(
        jax.device_get(state.average), data.scale, config, data.encoder, layer
    )
    judged = data.judged.get("validation", data.judged.get("rendered", data.judged["train"]))
    validation = float(decoder_evaluation.errors(decoder, judged).mean())
    return {"learning_rate": rate, "loss": loss, "validation_mse": validation}


def main() -> int:
    """Searches, or goes on, and prints the table; returns the exit code."""
    workdir = output_folder.prepare_workdir(decoder_options.WORKDIR.value)
    table = workdir / f"{_STAGE.value}.csv"
    rates = _rates(*_range(workdir))
    done = {row["learning_rate"]: row for row in _rows(table)}
    data = decoder_inputs.load(decoder_options.WORKDIR.value)
    record = workdir / f"run-{_STAGE.value}.json"
    options = {
        "encoder": data.encoder.fingerprint,
        "layer": decoder_options.LAYER.value,
        "network": decoder_options.NETWORK.value,
        "batches": _BATCHES.value,
    }
    if done:
        run_sources.check(record, "the trials done", data.sources, options)
    facts: dict[str, Any] = {"encoder": data.encoder.name, "weights": data.encoder.fingerprint}
    facts |= {"sources": data.sources, "options": options}
    files.write_json(record, provenance.run_record(flags.FLAGS.flag_values_dict(), facts))
    rows = [done[rate] for rate in rates if rate in done]
    pending = [rate for rate in rates if rate not in done]
    total = _BATCHES.value * len(rates)
    with tqdm(
        total=total, initial=_BATCHES.value * len(rows), unit="batch", mininterval=2.0
    ) as bar:
        for rate in pending:
            rows.append(_trial(data, rate, bar))
            files.write_csv(table, rows)
    judge = "loss" if _STAGE.value == "coarse" else "validation_mse"
    rows.sort(key=lambda row: row[judge])
    files.write_csv(table, rows)
    stages = {name: _rows(workdir / f"{name}.csv") for name in ("coarse", "fine")}
    search_figure(workdir / "search.png", {name: rows for name, rows in stages.items() if rows})
    print("learning rate   training loss   validation error; best first")
    for row in rows:
        print(f"{row['learning_rate']:13.3g}{row['loss']:16.5f}{row['validation_mse']:19.5f}")
    print(f"wrote {table} and search.png")
    return 0


if __name__ == "__main__":
    runtime.run(main)
