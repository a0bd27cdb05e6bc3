"""Searches the learning rate of a decoder as the paper did: a coarse stage, then a fine one.

    posenet-jax search_decoder --stage=coarse --images=PHOTOS --workdir=runs/search
    posenet-jax search_decoder --stage=fine --images=PHOTOS --val_images=OTHERS \\
        --workdir=runs/search

Coarse: 500 batches each, judged by the training loss of the last 50. Fine: rates between those of
the best third of the coarse trials and a little beyond, judged by the validation loss, on all
validation images and with averaged weights. Rates are drawn log-uniformly, one in each of as many
equal parts of the range as there are trials. All trials see the same batches and start from the
same weights, in one compiled program. Writes coarse.csv, fine.csv and search.png; an interrupted
search is resumed by the same command.
"""

from pathlib import Path

from absl import flags

from .common import decoder_options, runtime

_STAGE = flags.DEFINE_enum(
    "stage",
    None,
    ["coarse", "fine"],
    "Stage of the search to run: first coarse, then fine.",
    required=True,
)
_TRIALS = flags.DEFINE_integer(
    "trials", 8, "Number of trials, each with a learning rate of its own.", lower_bound=3
)
_BATCHES = flags.DEFINE_integer("batches", 500, "Training steps of each trial.", lower_bound=1)
_LOWEST = flags.DEFINE_float(
    "lowest", 1e-5, "Lowest learning rate of the coarse stage, above 0.", lower_bound=0.0
)
_HIGHEST = flags.DEFINE_float(
    "highest", 1e-1, "Highest learning rate of the coarse stage.", lower_bound=0.0
)

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse()

from posenet_jax.errors import InputError
from posenet_jax.io import files, output_folder
from posenet_jax.report.decoder_plots import search_figure
from posenet_jax.training import decoder_search
from posenet_jax.training.decoder_training import DecoderConfig

from .common import decoder_inputs, progress, run_sources
from .common.decoder_inputs import DecoderInputs


def _rates(workdir: Path) -> list[float]:
    """Learning rates of the stage's trials."""
    low, high = _LOWEST.value, _HIGHEST.value
    if _STAGE.value == "fine":
        coarse = decoder_search.read_trials(workdir / "coarse.csv")
        if not coarse:
            raise InputError(f"{workdir}/coarse.csv is not there: run --stage=coarse first")
        low, high = decoder_search.refined_range(coarse)
    elif not 0.0 < low < high:
        raise InputError("--lowest must be positive and below --highest")
    seed = decoder_options.SEED.value, _STAGE.value == "fine"
    return decoder_search.log_uniform_rates(low, high, _TRIALS.value, seed)


def _record(workdir: Path, table: Path, data: DecoderInputs) -> None:
    """Writes the stage's record. Raises InputError where its trials done had other data."""
    chosen = {
        "encoder": data.encoder.fingerprint,
        "layer": data.tap.layer,
        "network": decoder_options.NETWORK.value,
        "batches": _BATCHES.value,
    }
    record = workdir / f"run-{_STAGE.value}.json"
    if decoder_search.read_trials(table):
        run_sources.check(record, "the trials done", data.sources, chosen)
    facts = {"encoder": data.encoder.name, "weights": data.encoder.fingerprint}
    facts_of_search = {"sources": data.sources, "options": chosen}
    files.write_json(record, runtime.record(facts | facts_of_search))


def main() -> int:
    """Searches, or resumes, and prints the table; returns the exit code."""
    config = DecoderConfig(network=decoder_options.NETWORK.value)
    workdir = output_folder.prepare_workdir(decoder_options.WORKDIR.value)
    table, rates = workdir / f"{_STAGE.value}.csv", _rates(workdir)
    decoder_search.read_trials(table)  # a damaged one is refused before any image is read
    data = decoder_inputs.load(decoder_options.WORKDIR.value)
    _record(workdir, table, data)
    with progress.bar(_BATCHES.value * len(rates), "batch") as bar:
        trials = decoder_search.search(
            config,
            data,
            _STAGE.value,
            rates,
            table,
            steps=_BATCHES.value,
            seed=decoder_options.SEED.value,
            progress=bar.update,
        )
    stages = {
        stage: decoder_search.read_trials(workdir / f"{stage}.csv")
        for stage in decoder_search.RANKED_BY
    }
    search_figure(workdir / "search.png", {stage: rows for stage, rows in stages.items() if rows})
    print(*decoder_search.sentences(trials), sep="\n")
    print(f"wrote {table} and search.png")
    return 0


if __name__ == "__main__":
    runtime.run(main)
