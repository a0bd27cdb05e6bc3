"""Searches the hyper-parameters of inversion as the paper did, all trials in one program.

    posenet-jax search_inversion --stage=1 --images=PHOTOS --workdir=runs/stage_1
    posenet-jax search_inversion --stage=2 --images=PHOTOS --workdir=runs/stage_2

Stage 1: both λ zero, learning rate drawn log-uniformly from 1e-10 to 1e4, 1,500 trials. Stage 2:
learning rate, β1, β2, both λ and the clipping percentile, 2,500 trials. Trial 0 is Table 1. Writes
trials.csv, best first by a score that sees no original's pixels (the relative loss in the judge
network, and how natural the spectrum is); loss.png, each measure against each hyper-parameter;
parallel.png; and contact sheets of the best, of those with the least relative loss, and of the
whole range. A search that was killed is finished by the same command.
"""

from absl import flags

from .common import inputs, options, runtime

_STAGE = flags.DEFINE_enum(
    "stage", None, ["1", "2"], "Search of the paper's two to run.", required=True
)
inputs.require()
flags.set_default(inputs.LIMIT, 4)
_WORKDIR = options.workdir()
_TRIALS = flags.DEFINE_integer(
    "trials", 0, "Trials besides Table 1; 0: as many as the paper's.", lower_bound=0
)
_STEPS = flags.DEFINE_integer("steps", 200, "Steps of each inversion of a trial.", lower_bound=1)
_PATIENCE = flags.DEFINE_integer(
    "patience",
    50,
    "Steps without the loss falling by a thousandth that end an inversion, so that a rate at which"
    " nothing moves gives its slot up; 0: none do.",
    lower_bound=0,
)
_RUNGS = flags.DEFINE_integer(
    "rungs",
    1,
    "Successive halving: in each rung the best quarter of the last one's trials, at four times its"
    " steps; 1: none, every trial has all its steps.",
    lower_bound=1,
)
_LAYER = options.layer()
_ENCODER = options.encoder()
_JUDGE = options.judge()
_SEED = options.seed()
_SLOTS = options.slots()
_SHARD = options.shard_size()

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse()

import numpy as np

from posenet_jax.bulk import search, search_run
from posenet_jax.bulk.search import STAGES
from posenet_jax.bulk.search_run import SearchConfig
from posenet_jax.encoders import weights
from posenet_jax.io.output_folder import OutputFolder
from posenet_jax.report import search_sheets

from .common import progress, results


def main() -> int:
    """Searches, writes tables and figures, and returns the exit code."""
    stage = STAGES[int(_STAGE.value)]
    config = SearchConfig(
        trials=_TRIALS.value or stage.trials,
        steps=_STEPS.value,
        patience=_PATIENCE.value,
        rungs=_RUNGS.value,
        seed=_SEED.value,
        slots=_SLOTS.value,
        shard_size=_SHARD.value,
    )
    encoder, judge = weights.load_encoder(_ENCODER.value), weights.load_encoder(_JUDGE.value)
    encoder.tap(_LAYER.value)
    originals = inputs.first(_WORKDIR.value, encoder.preprocessing)
    files = ["trials.csv", *search_sheets.FILES]
    out = OutputFolder(_WORKDIR.value, "search_inversion", files)
    with progress.bar(config.work(len(originals)), "image·step") as bar:
        for last in search_run.run(
            encoder,
            _LAYER.value,
            originals,
            stage,
            out.path,
            config,
            judge=judge,
            progress=bar.update,
        ):
            bar.write(
                f"{last.folder.name}: {len(last.columns['trial'])} trials, {last.steps} steps"
            )
    record = {
        "encoder": encoder.name,
        "weights": encoder.fingerprint,
        "judge": judge.fingerprint,
        "images": [image.name for image in originals],
    }
    missing = results.write(
        out,
        record,
        tables={"trials.csv": search.table(last.columns)},
        pages=search_sheets.pages(
            stage,
            folder=last.folder,
            originals=np.stack([image for _, image in originals]),
            columns=last.columns,
            title=f"stage {_STAGE.value}",
        ),
    )
    print(*search_run.summary(stage, last.columns), sep="\n")
    print(f"wrote {out.path}/trials.csv, loss.png, parallel.png and contact sheets{missing}")
    return 1 if out.failures else 0


if __name__ == "__main__":
    runtime.run(main)
