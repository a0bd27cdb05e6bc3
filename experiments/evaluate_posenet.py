"""Evaluates an encoder on unseen rendered streets and on photographs with exact cameras.

    python -m experiments.evaluate_posenet --encoder=streetnet --strecha=STRECHA --out=runs/judged

Writes metrics.json (keys rendered, rendered_report_view and the sets of photographs), rotation.png
and matching.png, pairs.csv with every pair's true rotation and errors, and run.json. Angles are in
degrees. Exit code: 0; 1 if some photographs could not be read; 2 if the run could not be made.
"""

import dataclasses
import math

from absl import flags

from experiments.common import options, runtime

_OUT = options.out()
_ENCODER = options.encoder()
_STRECHA = options.strecha()
_CAMERAS = flags.DEFINE_list(
    "cameras",
    [],
    "NAME=FOLDER of further photographs with known cameras, several after commas: NAME.camera"
    " beside each, or a COLMAP model as text (cameras.txt and images.txt). All pairs of a folder"
    " count.",
)
_FACADES = options.facades()
_PAIRS = flags.DEFINE_integer(
    "pairs", 8192, "Rendered pairs of views, a multiple of 64.", lower_bound=64
)
_MAX_ANGLE = flags.DEFINE_float(
    "max_angle", 120.0, "Largest angle at the target between the two views, degrees."
)
_SEED = options.seed(options.MEASURING_SEED)

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse(renamed={"weights": "encoder"})

from functools import partial

from experiments.common import images, photo_sets, progress, results
from posenet_jax import numerics, scenes, sharding
from posenet_jax.data import photograph_pairs, training_pairs
from posenet_jax.data.photograph_pairs import PhotographPairs
from posenet_jax.data.training_pairs import RenderedPairs
from posenet_jax.encoders import weights
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.errors import InputError
from posenet_jax.evaluation import pose_evaluation
from posenet_jax.evaluation.pose_evaluation import Evaluation
from posenet_jax.io.output_folder import OutputFolder
from posenet_jax.report import pose_plots

_CHUNK = 64
_FILES = ["metrics.json", "rotation.png", "matching.png", "pairs.csv"]
# Field of view of the paper's cameras and of the 3D_Street_View data set.
_PAPER_VIEW = math.radians(89.75)
_LABELS = {
    "strecha": "photographs (Strecha)",
    "rendered": "rendered streets",
    "rendered_report_view": "rendered, 89.75° wide",
}


def _photographs(encoder: Encoder) -> tuple[dict[str, PhotographPairs], int]:
    """Pairs of each set of photographs, and the number of those that could not be read."""
    folders = photo_sets.folders("cameras", _CAMERAS.value, _LABELS)
    limits = dict.fromkeys(folders, math.pi)
    if _STRECHA.value:
        folders, limits = {"strecha": _STRECHA.value} | folders, {"strecha": math.pi / 3} | limits
    sets, unreadable = {}, 0
    for name, folder in folders.items():
        sets[name], failures = photograph_pairs.read_pairs(
            images.listed(folder, _OUT.value),
            size=encoder.preprocessing.size,
            largest_rotation=limits[name],
            max_pixels=options.MAX_PIXELS.value,
        )
        unreadable += len(failures)
        for failure in failures:
            images.tell(failure)
    return sets, unreadable


def _views(size: int) -> dict[str, tuple[scenes.SceneConfig, int]]:
    """Configuration of each rendered set, and the number of its pairs."""
    angles = (0.0, math.radians(_MAX_ANGLE.value))
    wide = scenes.SceneConfig(height=size, width=size, angle_between=angles)
    paper = dataclasses.replace(wide, field_of_view=(_PAPER_VIEW, _PAPER_VIEW))
    half = max(1, _PAIRS.value // 2 // _CHUNK) * _CHUNK
    return {"rendered": (wide, _PAIRS.value), "rendered_report_view": (paper, half)}


def _rendered(encoder: Encoder, atlas: scenes.Atlas) -> dict[str, Evaluation]:
    """Evaluations of the rendered sets."""
    mesh, key = sharding.device_mesh("pairs"), numerics.seed_key(_SEED.value)
    views = _views(encoder.preprocessing.size)
    evaluations = {}
    with progress.bar(sum(count for _, count in views.values()), "pair") as bar:
        for name, (config, count) in views.items():
            source = RenderedPairs(atlas, config, _CHUNK, mesh)
            pairs = training_pairs.drawn(source, key, count, progress=bar.update)
            evaluations[name] = pose_evaluation.evaluate_rendered(encoder, pairs, mesh)
    return evaluations


def main() -> int:
    """Evaluates, writes and prints; returns the exit code."""
    if _PAIRS.value % _CHUNK:
        raise InputError(f"--pairs must be a multiple of {_CHUNK}, received {_PAIRS.value}")
    encoder, mesh = weights.load_encoder(_ENCODER.value), sharding.device_mesh("pairs")
    pose_evaluation.check_heads(encoder)
    photographs, unreadable = _photographs(encoder)
    out = OutputFolder(_OUT.value, "evaluate_posenet", _FILES)
    key = numerics.seed_key(_SEED.value)
    _, atlas, skipped = images.facade_atlases(_FACADES.value, key, mesh, _OUT.value)
    evaluations = {
        name: pose_evaluation.evaluate_photographs(encoder, pairs, mesh)
        for name, pairs in photographs.items()
    } | _rendered(encoder, atlas)
    left_out = unreadable + len(skipped)
    facts = {"encoder": encoder.name, "weights": encoder.fingerprint}
    metrics = {name: evaluation.metrics for name, evaluation in evaluations.items()}
    rows = [row for item in evaluations.items() for row in pose_evaluation.table(*item)]
    errors = {_LABELS.get(name, name): one.errors for name, one in evaluations.items()}
    match, others = evaluations["rendered"].match, evaluations["rendered"].others
    missing = results.write(
        out,
        facts | {"left_out": left_out},
        tables={"pairs.csv": rows, "metrics.json": facts | metrics},
        pages={
            "matching.png": partial(pose_plots.matching_figure, matching=match, others=others),
            "rotation.png": partial(pose_plots.rotation_figure, sets=errors),
        },
    )
    for item in metrics.items():
        print(*pose_evaluation.sentences(*item), sep="\n")
    print(f"wrote {out.path}/{', '.join(_FILES)} and run.json{missing}")
    return 1 if left_out or out.failures else 0


if __name__ == "__main__":
    runtime.run(main)
