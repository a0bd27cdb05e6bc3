"""Searches the hyper-parameters of inversion as the report did, all trials in one program.

    python -m experiments.search_inversion --stage=1 --images=PHOTOS --workdir=runs/stage_1
    python -m experiments.search_inversion --stage=2 --images=PHOTOS --workdir=runs/stage_2

Stage 1: both λ zero, learning rate drawn log-uniformly from 1e-10 to 1e4, 1,500 trials. Stage 2:
learning rate, β1, β2, both λ and the clipping percentile, 2,500 trials. Trial 0 is Table 1. Writes
trials.csv, best first by a score that sees no original's pixels (the relative loss in the judge
network, and how natural the spectrum is); loss.png, each measure against each hyper-parameter;
parallel.png; and contact sheets of the best, of those with the least relative loss, and of the
whole range. A search that was killed is finished by the same command.
"""

from pathlib import Path

from absl import flags

from experiments.common import options, runtime

_STAGE = flags.DEFINE_enum(
    "stage", None, ["1", "2"], "Search of the report's two to run.", required=True
)
_IMAGES = options.images(required=True)
_LIMIT = options.limit(4)
_WORKDIR = options.workdir()
_TRIALS = flags.DEFINE_integer(
    "trials", 0, "Trials besides Table 1; 0: as many as the report's.", lower_bound=0
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
from tqdm import tqdm

from experiments.common import images
from posenet_jax.bulk import bulk_inversion, search
from posenet_jax.bulk.search import STAGES
from posenet_jax.data.sources import DatasetExamples, NamedImage
from posenet_jax.encoders import weights
from posenet_jax.errors import ImageError, InputError
from posenet_jax.images.contact_sheet import image_grid
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.io.files import write_csv
from posenet_jax.io.output_folder import OutputFolder
from posenet_jax.io.provenance import run_record
from posenet_jax.report import search_plots

_SHOWN = 24


def _images(preprocessing: Preprocessing) -> list[NamedImage]:
    """Those of the trials; one that cannot be read is named and another takes its place."""
    source = images.source(_IMAGES.value, _WORKDIR.value)
    found: list[NamedImage] = []
    for position in range(len(source)):
        if _LIMIT.value and len(found) == _LIMIT.value:
            break
        try:
            name, image = source[position]
            found.append(NamedImage(name, preprocessing.resize(image)))
        except ImageError as error:
            images.tell(error)
    if not found:
        raise InputError(f"none of the {len(source)} images could be read")
    return found


def _run_rung(encoder, judge, originals, drawn, steps: int, folder: Path) -> dict[str, np.ndarray]:
    """The trials with their measures and score."""
    stage, trials = STAGES[int(_STAGE.value)], len(drawn["trial"])
    recipe = search.recipe_of(stage, drawn, len(originals), steps, _PATIENCE.value)
    config = bulk_inversion.BulkConfig(
        seed=_SEED.value, slots=_SLOTS.value, shard_size=_SHARD.value
    )
    work = trials * len(originals) * steps
    with tqdm(total=work, unit="image·step", mininterval=1.0, dynamic_ncols=True) as bar:
        bulk_inversion.invert_all(
            encoder,
            _LAYER.value,
            search.RepeatedImages(originals, drawn["trial"]),
            folder,
            recipe,
            config,
            judge=judge,
            progress=bar.update,
        )
    measured = search.read_measures(folder / "results.csv", trials)
    return drawn | measured | {"score": search.score(measured)}


def _sheets(out: OutputFolder, folder: Path, originals: np.ndarray, columns) -> None:
    """The best trials by score and by relative loss, and all of them from best to last."""
    pictures = DatasetExamples(folder)
    by_score = np.argsort(columns["score"], kind="stable")
    by_loss = np.argsort(np.where(columns["not_finite"] > 0, np.inf, columns["relative_loss"]))
    spread = by_score[np.linspace(0, len(by_score) - 1, _SHOWN).astype(int)]
    for name, rows, title in (
        ("best", by_score[:_SHOWN], "best by score"),
        ("least_loss", by_loss[:_SHOWN], "least relative loss"),
        ("spread", spread, "from the best by score to the last"),
    ):
        with out.spared():
            _sheet(out.path / f"{name}.png", pictures, originals, columns, rows, title)


def _sheet(path: Path, pictures, originals: np.ndarray, columns, rows, title: str) -> None:
    count = len(originals)
    shown = [originals] + [
        np.stack([pictures[int(row) * count + i]["image"][0] for i in range(count)]) for row in rows
    ]
    labels = ["originals"] + [
        f"{columns['trial'][row]}: loss {columns['relative_loss'][row]:.3f},"
        f" judge {columns['judge_relative_loss'][row]:.3f},"
        f" spectrum {columns['spectral_deviation'][row]:.1f}"
        for row in rows
    ]
    by_image = {f"image {i + 1}": np.stack([each[i] for each in shown]) for i in range(count)}
    image_grid(path, by_image, row_labels=labels, title=f"stage {_STAGE.value}, {title}")


def _summarise(columns) -> None:
    """Table 1, the best by score, and the least relative loss."""
    names = [*STAGES[int(_STAGE.value)].ranges, *search.measure_names(), "score"]
    rows = {
        "Table 1": 0,
        "best by score": int(np.argmin(columns["score"])),
        "least relative loss": int(np.nanargmin(columns["relative_loss"])),
    }
    if columns["trial"][0]:  # Table 1 was not among the best quarters
        del rows["Table 1"]
    print(f"{'':24}" + "".join(f"{name:>22}" for name in rows))
    for name in names:
        print(f"  {name:22}" + "".join(f"{columns[name][row]:22.4g}" for row in rows.values()))


def main() -> int:
    """Searches, writes tables and figures, and returns the exit code."""
    stage = STAGES[int(_STAGE.value)]
    encoder, judge = weights.load_encoder(_ENCODER.value), weights.load_encoder(_JUDGE.value)
    encoder.tap(_LAYER.value)
    originals = _images(encoder.preprocessing)
    sheets = [f"{name}.png" for name in ("best", "least_loss", "spread")]
    files = ["trials.csv", "loss.png", "parallel.png", *sheets]
    out = OutputFolder(_WORKDIR.value, "search_inversion", files)
    drawn = search.draw(stage, _TRIALS.value or stage.trials, _SEED.value)
    rungs = search.rungs(_STEPS.value, len(drawn["trial"]), _RUNGS.value)
    columns = drawn
    for number, (steps, kept) in enumerate(rungs, start=1):
        if number > 1:
            best = np.sort(np.argsort(columns["score"], kind="stable")[:kept])
            drawn = {name: values[best] for name, values in drawn.items()}
            print(f"rung {number} of {len(rungs)}: {kept} trials, {steps} steps")
        folder = out.path / f"rung-{number}-of-{len(rungs)}"
        columns = _run_rung(encoder, judge, originals, drawn, steps, folder)
    out.begin()
    write_csv(out.held("trials.csv"), search.table(columns))
    record = {
        "encoder": encoder.name,
        "weights": encoder.fingerprint,
        "judge": judge.fingerprint,
        "images": [image.name for image in originals],
    }
    out.write_record(run_record(flags.FLAGS.flag_values_dict(), record))
    with out.spared():
        search_plots.loss_figure(out.path / "loss.png", stage, columns)
    with out.spared():
        search_plots.parallel_figure(out.path / "parallel.png", stage, columns)
    _sheets(out, folder, np.stack([image for _, image in originals]), columns)
    missing = out.finish(runtime.tell)
    _summarise(columns)
    print(f"wrote {out.path}/trials.csv, loss.png, parallel.png and contact sheets{missing}")
    return 1 if out.failures else 0


if __name__ == "__main__":
    runtime.run(main)
