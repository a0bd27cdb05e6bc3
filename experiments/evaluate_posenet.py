"""Evaluates an encoder on unseen rendered streets and on photographs with exact cameras.

    posenet-jax evaluate_posenet --encoder=streetnet --strecha=STRECHA --out=runs/judged

Writes metrics.json (keys rendered, rendered_report_view, rendered_along, turned and the sets of
photographs with cameras), rotation.png and matching.png, pairs.csv with every pair's true rotation
and errors, and run.json. Angles are in degrees. Exit code: 0; 1 if some photographs could not be
read; 2 if the run could not be made.
"""

import math

from absl import flags

from .common import buckets, options, runtime

_OUT = options.out()
_ENCODER = options.encoder()
_STRECHA = options.strecha()
_CAMERAS = buckets.strings(
    "cameras",
    [],
    "NAME=FOLDER of further photographs with known cameras, several after commas: NAME.camera"
    " beside each, or a COLMAP model as text (cameras.txt and images.txt). All pairs of a"
    " folder count.",
)
_TURNED = buckets.string(
    "turned_photos",
    None,
    "Folder, glob or file of photographs to cut pairs of views from, half as many as --pairs (set"
    " turned): real pixels, exact rotations. Give photographs of one kind, such as streets.",
)
_FACADES = options.facades()
_PAIRS = flags.DEFINE_integer(
    "pairs", 8192, "Rendered pairs of views: a multiple of 64, or 8, 16 or 32.", lower_bound=8
)
_MAX_ANGLE = flags.DEFINE_float(
    "max_angle", 120.0, "Largest angle at the target between the two views, degrees."
)
_READINGS = flags.DEFINE_enum(
    "readings",
    "1",
    ["1", "2", "4"],
    "Readings of each pose, whose mean is the prediction: 1, as the heads say it; 2, from either"
    " view; 4, both of the mirrored images too, which takes twice the time.",
)
_SEED = options.seed(options.MEASURING_SEED)

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse(renamed={"weights": "encoder"})

from posenet_jax import numerics, sharding
from posenet_jax.data import photograph_pairs
from posenet_jax.data.photograph_pairs import PhotographPairs
from posenet_jax.encoders import weights
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.evaluation import pose_evaluation, rendered_evaluation, turned_photographs
from posenet_jax.io.output_folder import OutputFolder
from posenet_jax.report import pose_plots

from .common import images, photo_sets, progress, results

_FILES = ["metrics.json", "rotation.png", "matching.png", "pairs.csv"]


def _photographs(encoder: Encoder) -> tuple[dict[str, PhotographPairs], int]:
    """Pairs of each set of photographs, and the number of those that could not be read."""
    folders = photo_sets.folders("cameras", _CAMERAS.value, pose_plots.LABELS)
    limits = dict.fromkeys(folders, math.pi)
    if _STRECHA.value:
        folders, limits = {"strecha": _STRECHA.value} | folders, {"strecha": math.pi / 3} | limits
    sets, unreadable = {}, 0
    for name, folder in folders.items():
        sets[name], failures = photograph_pairs.read_pairs(
            images.listed(folder, _OUT.value),
            size=encoder.preprocessing.side,
            largest_rotation=limits[name],
            max_pixels=options.MAX_PIXELS.value,
        )
        unreadable += len(failures)
        for failure in failures:
            images.tell(failure)
    return sets, unreadable


def main() -> int:
    """Evaluates, writes and prints; returns the exit code."""
    encoder, mesh = weights.load_encoder(_ENCODER.value), sharding.device_mesh("pairs")
    size, largest_angle = encoder.preprocessing.side, math.radians(_MAX_ANGLE.value)
    sets = rendered_evaluation.rendered_sets(size, _PAIRS.value, largest_angle)
    pose_evaluation.check_heads(encoder)
    photographs, unreadable = _photographs(encoder)
    to_turn = images.photographs(_TURNED.value, mesh, _OUT.value) if _TURNED.value else None
    out = OutputFolder(_OUT.value, "evaluate_posenet", _FILES)
    key, readings = numerics.seed_key(_SEED.value), int(_READINGS.value)
    _, atlas, skipped = images.facade_atlases(_FACADES.value, key, mesh, _OUT.value)
    evaluations = {
        name: pose_evaluation.evaluate_photographs(encoder, pairs, mesh, readings=readings)
        for name, pairs in photographs.items()
    }
    if to_turn:
        half = sets["rendered_report_view"].pairs
        evaluations["turned"] = turned_photographs.evaluate(
            encoder, to_turn[0], half, key=key, mesh=mesh, readings=readings
        )
    with progress.bar(sum(one.pairs for one in sets.values()), "pair") as bar:
        evaluations |= rendered_evaluation.evaluate(
            encoder, atlas, sets, key=key, mesh=mesh, readings=readings, progress=bar.update
        )
    left_out = unreadable + len(skipped) + (len(to_turn[1]) if to_turn else 0)
    facts = {"encoder": encoder.name, "weights": encoder.fingerprint, "readings": readings}
    metrics = {name: evaluation.metrics for name, evaluation in evaluations.items()}
    rows = [row for item in evaluations.items() for row in pose_evaluation.table(*item)]
    missing = results.write(
        out,
        facts | {"left_out": left_out},
        tables={"pairs.csv": rows, "metrics.json": facts | metrics},
        pages=pose_plots.pages(evaluations),
    )
    for item in metrics.items():
        print(*pose_evaluation.sentences(*item), sep="\n")
    print(f"wrote {out.path}/{', '.join(_FILES)} and run.json{missing}")
    return 1 if left_out or out.failures else 0


if __name__ == "__main__":
    runtime.run(main)
