"""Measures what is left of an image after each layer: inversions and linear probes of all of them.

    posenet-jax measure_layers --workdir=runs/layers
    posenet-jax measure_layers --beside=judge,squeezenet/conv1+fire3+fire5+fire9+features \\
        --photographs=photographs=FOLDER --workdir=runs/layers

Streets, cars and rooms are rendered, and every layer of a trained network and of its control, the
same architecture untrained, is inverted: colour, light, detail by octave, texture by amount and
kind, edges by direction, the skyline. Is the picture's texture nearer to its scene's than to that
of the scene with its textures drawn anew? Where streets are among the scenes, linear probes read
the layers of further streets. With --beside other networks, each at as many layers.

Writes layers.csv (a row a network, layer, set of images and measure: value, interval of 95 % over
images, the same for a wrong image and for the untrained network, chance), claims.csv (the paper's
claims with verdicts and p-values, corrected for the number of rows by Holm's method),
validation.csv (what scenes score that are changed in a known way), a figure a set of images and
run.json. parts/ keeps what is measured: an interrupted run is resumed, and one with further sets,
networks or layers measures nothing twice.

Exit code: 0; 1 if some images could not be read (they are named); 2 if nothing could be done.
"""

from absl import flags

from .common import buckets, options, runtime

_WORKDIR = options.workdir()
_ENCODER = options.encoder()
_CONTROL = options.control()
_LAYERS = flags.DEFINE_list(
    "layers",
    ["conv1", "conv2", "conv3", "conv4", "fc5"],
    "Layers to invert, from the first to the last, separated by commas.",
)
_BESIDE = buckets.strings(
    "beside",
    [],
    "Networks to measure as well, separated by commas: ENCODER at the same layers, or"
    " ENCODER/LAYER+LAYER at its own, as many.",
)
_KINDS = options.kinds()
_PHOTOGRAPHS = options.photographs()
_SCENES = options.measured_scenes()
_PROBE = options.probe_scenes(1536)
_STEPS = options.inversion_steps()
_BATCH = options.render_batch()
_SEED = options.seed(options.MEASURING_SEED)
_FACADES = options.facades()

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse()

from posenet_jax.analysis import layer_retention, retention
from posenet_jax.analysis.layer_retention import Series
from posenet_jax.inversion import recipes
from posenet_jax.io import files, output_folder, storage
from posenet_jax.report.layers_plot import layers_figure

from .common import measured_sets, progress


def _series() -> list[Series]:
    """The network of --encoder, and those of --beside."""
    first = layer_retention.series(_ENCODER.value, _LAYERS.value, _CONTROL.value)
    size, control = first[0].trained.preprocessing.side, first[0].untrained
    found = [first]
    for named in _BESIDE.value:
        name, separator, own = named.rpartition("/")
        at = own.split("+") if separator else _LAYERS.value
        found.append(layer_retention.series(name if separator else named, at, control, size=size))
    return found


def main() -> int:
    """Measures, or resumes, writes and prints; returns the exit code."""
    every = _series()
    workdir = output_folder.prepare_workdir(_WORKDIR.value)
    drawn = measured_sets.read(
        kinds=_KINDS.value,
        photographs=_PHOTOGRAPHS.value,
        space=every[0][0].trained.preprocessing,
        count=_SCENES.value,
        probe_scenes=_PROBE.value,
        seed=_SEED.value,
        facades=_FACADES.value,
        batch=_BATCH.value,
        output=_WORKDIR.value,
    )
    groups = drawn.groups
    parts = layer_retention.Parts(
        folder=files.prepare_output(workdir / "parts"),
        recipe=recipes.with_steps(recipes.CALIBRATED, _STEPS.value),
        key=drawn.start_key,
    )
    todo = {path: steps for path, steps in layer_retention.work(every, groups, parts)}
    done = sum(steps for path, steps in todo.items() if storage.exists(path))
    with progress.bar(sum(todo.values()), "image·step", done=done) as bar:
        found = layer_retention.measure(
            every, groups, drawn.probes, parts=parts, progress=bar.update
        )
    for name, rows in found.tables.items():
        files.write_csv(workdir / name, rows)
    for group in groups:
        shown = [row for row in found.table if row["images"] == group]
        layers_figure(workdir / f"{group}.png", shown)
    files.write_json(workdir / "run.json", runtime.record(_facts(every, drawn)))
    print(*layer_retention.sentences(found), sep="\n")
    print(f"wrote {workdir}/layers.csv, claims.csv, validation.csv, run.json, a figure a set")
    return 1 if drawn.facades_left_out or drawn.photographs_left_out else 0


def _facts(every: list[Series], drawn: measured_sets.MeasuredSets) -> dict[str, object]:
    """Returns what run.json says besides the flags."""
    weights = [retention.fingerprints(one) for one in every]
    return {
        "weights": {name: own for found in weights for name, own in found.items()},
        "facades_left_out": drawn.facades_left_out,
        "photographs_left_out": drawn.photographs_left_out,
    }


if __name__ == "__main__":
    runtime.run(main)
