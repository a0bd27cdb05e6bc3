"""Compares encoders that were trained in different ways: what does each keep, and why?

    posenet-jax train_posenet --tasks=pose --vary=together --workdir=runs/cells/shared
    posenet-jax train_posenet --tasks=pose --vary=recoloured --workdir=runs/cells/recoloured
    posenet-jax compare_trainings --runs=runs/cells --workdir=runs/compared

The same images are inverted from every encoder in the folders of --runs, from those that --keep
kept on the way as well, and from those of --beside: rendered scenes, and photographs if given. A
linear probe reads further streets, and scenes are changed in one thing at a time, their colours for
one: how far do the descriptor and the pose heads move?

Writes trainings.csv (a row an encoder, set of images and measure: how it was trained, its held-out
errors, the measure's value, its interval of 95 % over images, the same for a wrong image and for
the untrained network, chance), contrasts.csv (a row two trainings that differ in one thing: the
paired difference), claims.csv (the paper's claims of each, p-values corrected for the number of
rows by Holm's method), sensitivity.csv and rotations.csv (as measure_sensitivity), figures, a page
of pictures of each set, and run.json. parts/ keeps inversions and probes: an interrupted run is
resumed, and one with further encoders inverts nothing twice; scenes are changed anew.

Exit code: 0; 1 if some images could not be read (they are named); 2 if nothing could be done.
"""

from absl import flags

from .common import buckets, options, runtime

_WORKDIR = options.workdir()
_RUNS = buckets.string(
    "runs", None, "Folder of the --workdirs of train_posenet to compare.", required=True
)
_BESIDE = buckets.strings(
    "beside",
    [],
    "Further encoders, bundled or files, separated by commas.",
)
_CONTROL = options.control()
_LAYER = flags.DEFINE_string(
    "layer", "fc5", "Layer of every encoder that is inverted, and whose changes are measured."
)
_KINDS = options.kinds()
_PHOTOGRAPHS = options.photographs()
_SCENES = options.measured_scenes()
_PROBE = options.probe_scenes(1536)
_GRID = options.shown(4)
_STEPS = options.inversion_steps()
_BATCH = options.render_batch()
_SEED = options.seed(options.MEASURING_SEED)
_FACADES = options.facades()

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse()

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from posenet_jax import numerics, scenes, sharding
from posenet_jax.analysis import layer_retention, sensitivity, trainings
from posenet_jax.analysis.findings import SceneSet
from posenet_jax.analysis.layer_retention import Parts
from posenet_jax.analysis.retention import Network
from posenet_jax.analysis.trainings import Training
from posenet_jax.encoders import weights
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.errors import InputError
from posenet_jax.images.contact_sheet import image_grid
from posenet_jax.inversion import recipes
from posenet_jax.io import files, output_folder, storage
from posenet_jax.report.trainings_plot import learning_figure, trainings_figure

from .common import images, measured_sets, progress, rendered

Rows = list[dict[str, Any]]


def _found() -> list[Training]:
    """The trainings of --runs and --beside; refuses two of one name."""
    every = [*trainings.runs(_RUNS.value), *map(trainings.bundled, _BESIDE.value)]
    names = [*(training.encoder.name for training in every), "untrained"]  # the control's column
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"two encoders are called {twice[0]!r}; rename a folder of --runs")
    return every


def _moved(every: list[Training], workdir: str) -> dict[str, Rows]:
    """Tables of how far each encoder moves under every change of rendered streets."""
    encoders = [*(training.encoder for training in every), weights.load_encoder(_CONTROL.value)]
    size = encoders[0].preprocessing.side
    mesh = sharding.device_mesh("scenes")
    atlas_key, scene_key = jax.random.split(jax.random.fold_in(numerics.seed_key(_SEED.value), 1))
    _, atlas, _ = images.facade_atlases(_FACADES.value, atlas_key, mesh, workdir)
    with progress.bar(_SCENES.value, "scene") as bar:
        found = sensitivity.measure(
            encoders,
            atlas,
            scenes.kind_named("streets").config(height=size, width=size),
            key=scene_key,
            mesh=mesh,
            count=_SCENES.value,
            batch=rendered.batch(mesh, _BATCH.value),
            progress=bar.update,
        )
    posed = {training.encoder.name for training in every if "pose" in (training.tasks or "pose")}
    return {
        "sensitivity.csv": [
            row for row in sensitivity.table(found.displacements) if row["layer"] == _LAYER.value
        ],
        "rotations.csv": [
            row
            for row in sensitivity.rotation_table(found.displacements)
            if row["encoder"] in posed
        ],
    }


def _draw_pictures(
    every: list[Training],
    control: Encoder,
    groups: Mapping[str, SceneSet],
    parts: Parts,
    workdir: Path,
    measured: Any,
) -> None:
    """Writes a page of each set of images: originals beside their inversions from every encoder."""
    shown = {group: views.take(slice(_GRID.value)) for group, views in groups.items()}
    encoders = [*(training.encoder for training in every), control]
    steps = sum(
        len(views) * parts.recipe.steps
        for group, views in shown.items()
        for encoder in encoders
        if not storage.exists(parts.pictures_path(encoder, _LAYER.value, group, views))
    )
    with progress.bar(steps, "image·step", description="pictures") as bar:
        for group, views in shown.items():
            columns = {
                "untrained" if encoder is control else encoder.name: parts.pictures(
                    encoder, _LAYER.value, group, views, bar.part()
                )
                for encoder in encoders
            }
            labels = {
                name: [f"chroma {value:.2f}" for value in own[group]["chroma"][: len(views)]]
                for name, own in measured.items()
            }
            title = f"{group}: inversions of {_LAYER.value}, {parts.recipe.steps} steps"
            page = {"original": views.images, **columns}
            image_grid(workdir / f"{group}_pictures.jpg", page, cell_labels=labels, title=title)


def main() -> int:
    """Measures, or resumes, writes and prints; returns the exit code."""
    every = _found()
    control = weights.load_encoder(_CONTROL.value)
    series = [[Network(training.encoder, control, _LAYER.value)] for training in every]
    workdir = output_folder.prepare_workdir(_WORKDIR.value)
    drawn = measured_sets.read(
        kinds=_KINDS.value,
        photographs=_PHOTOGRAPHS.value,
        space=every[0].encoder.preprocessing,
        count=_SCENES.value,
        probe_scenes=_PROBE.value,
        seed=_SEED.value,
        facades=_FACADES.value,
        batch=_BATCH.value,
        output=_WORKDIR.value,
    )
    parts = Parts(
        folder=files.prepare_output(workdir / "parts"),
        recipe=recipes.with_steps(recipes.CALIBRATED, _STEPS.value),
        key=drawn.start_key,
    )
    todo = dict(layer_retention.work(series, drawn.groups, parts))
    done = sum(steps for path, steps in todo.items() if storage.exists(path))
    with progress.bar(sum(todo.values()), "image·step", done=done) as bar:
        found = layer_retention.measure(
            series, drawn.groups, drawn.probes, parts=parts, progress=bar.update
        )
    measured = {
        training.encoder.name: {
            group: parts.measured(training.encoder, _LAYER.value, group, views)[0]
            for group, views in drawn.groups.items()
        }
        for training in every
    }
    tables = _tables(every, found, measured) | _moved(every, _WORKDIR.value)
    for name, rows in tables.items():
        if rows:
            files.write_csv(workdir / name, rows)
    for group in drawn.groups:
        shown = [row for row in tables["trainings.csv"] if row["images"] == group]
        trainings_figure(workdir / f"{group}.png", shown)
        learning_figure(workdir / f"{group}_learning.png", shown)
    _draw_pictures(every, control, drawn.groups, parts, workdir, measured)
    facts = {
        "weights": {one.encoder.name: one.encoder.fingerprint for one in every},
        "facades_left_out": drawn.facades_left_out,
        "photographs_left_out": drawn.photographs_left_out,
    }
    files.write_json(workdir / "run.json", runtime.record(facts))
    print(*trainings.sentences(tables["contrasts.csv"], "chroma"), sep="\n")
    print(f"wrote {workdir}/{', '.join(name for name, rows in tables.items() if rows)}, run.json")
    return 1 if drawn.facades_left_out or drawn.photographs_left_out else 0


def _tables(every: list[Training], found: layer_retention.Layers, measured: Any) -> dict[str, Rows]:
    facts = {training.encoder.name: training.facts for training in every}
    rows = [{"encoder": row["encoder"]} | facts[row["encoder"]] | row for row in found.table]
    return {
        "trainings.csv": rows,
        "contrasts.csv": trainings.contrasts(every, measured),
        "claims.csv": found.claims,
    }


if __name__ == "__main__":
    runtime.run(main)
