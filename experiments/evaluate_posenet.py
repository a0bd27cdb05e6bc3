"""Measures an encoder on unseen rendered streets and on photographs with exact cameras.

    python -m experiments.evaluate_posenet --encoder=streetnet --strecha=STRECHA --out=runs/judged

Writes metrics.json (keys rendered, rendered_report_view and, with --strecha, strecha), rotation.png
and matching.png, pairs.csv with every pair's true rotation and errors, and run.json. Angles are in
degrees. Exit code: 0; 1 if some photographs could not be read; 2 if the run could not be made.
"""

import dataclasses
import math

from absl import flags

from experiments.common import options, runtime

_OUT = options.out()
_ENCODER = options.encoder()
_STRECHA = flags.DEFINE_string(
    "strecha", None, "Folder of scenes with NAME.camera beside each photograph; none if not given."
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

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from experiments.common import images
from posenet_jax import scenes
from posenet_jax.data import strecha, training_pairs
from posenet_jax.data.training_pairs import Pairs
from posenet_jax.encoders import weights
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.errors import InputError
from posenet_jax.evaluation import pose_evaluation
from posenet_jax.io.files import write_csv, write_json
from posenet_jax.io.output_folder import OutputFolder
from posenet_jax.io.provenance import run_record
from posenet_jax.metrics import PairErrors, pair_errors
from posenet_jax.report import pose_plots

_CHUNK = 64
# Of the report and of the 3D_Street_View data set.
_REPORT_VIEW = math.radians(89.75)


def _rendered_pairs(config: scenes.SceneConfig, atlas, mesh: Mesh, count: int) -> Pairs:
    """Host arrays of `count` pairs or a few less: those whose target is hidden are left out."""
    source = training_pairs.RenderedPairs(atlas, config, _CHUNK, mesh)
    key = jax.random.key(_SEED.value)
    draws = [
        jax.device_get(source(jax.random.fold_in(key, i)))
        for i in tqdm(range(count // _CHUNK), unit="chunk", desc="rendering", leave=False)
    ]
    return jax.tree.map(lambda *parts: np.concatenate(parts), *draws)


def _rows(name: str, errors: PairErrors, labels: list[str]) -> list[dict]:
    columns = errors._asdict()
    return [
        {"set": name, "pair": label} | {key: float(values[i]) for key, values in columns.items()}
        for i, label in enumerate(labels)
    ]


def _judge_rendered(encoder: Encoder, drawn: Pairs, mesh: Mesh):
    """(figures, errors of the pairs that count, their predictions)."""
    said = pose_evaluation.predict(encoder, drawn.image, mesh)
    posed = drawn.pose_weight > 0
    errors = pair_errors(said.pose[posed], drawn.rotation[posed], drawn.centre[posed])
    return pose_evaluation.summary(said, drawn), errors, said


def _judge_strecha(encoder: Encoder, folder: str, mesh: Mesh):
    """(figures, errors, names of the pairs, how many photographs could not be read)."""
    files, limit = images.listed(folder, _OUT.value), options.MAX_PIXELS.value
    found, failures = strecha.read_pairs(files, size=encoder.preprocessing.size, max_pixels=limit)
    for failure in failures:
        images.tell(failure)
    said = pose_evaluation.predict(encoder, found.image, mesh)
    errors = pair_errors(said.pose, found.rotation, found.centre)
    figures_ = pose_evaluation.rotation_summary(errors)
    scene = np.asarray([first.split("/")[0] for first, _ in found.names])
    figures_["scenes"] = {
        str(name): {
            "pairs": int((scene == name).sum()),
            "rotation_median_deg": float(np.median(errors.rotation[scene == name])),
            "identity_median_deg": float(np.median(errors.true_rotation[scene == name])),
        }
        for name in np.unique(scene)
    }
    return figures_, errors, [" ".join(pair) for pair in found.names], len(failures)


def _print(name: str, judged: dict) -> None:
    beside = f"identity {judged['identity_median_deg']:.1f}, "
    beside += f"constant {judged['constant_median_deg']:.1f}"
    print(
        f"{name}: {judged['pairs']} pairs, rotation {judged['rotation_median_deg']:.2f} ({beside})"
    )
    if "normal_median_deg" in judged:
        print(
            f"  normal {judged['normal_median_deg']:.2f}, false positives at 95 % recall: "
            f"{judged['matching_fpr95']:.3f} other streets, "
            f"{judged['matching_fpr95_same_scene']:.3f} the same street"
        )


def main() -> int:
    """Measures, writes and prints; returns the exit code."""
    if _PAIRS.value % _CHUNK:
        raise InputError(f"--pairs must be a multiple of {_CHUNK}, received {_PAIRS.value}")
    encoder = weights.load_encoder(_ENCODER.value)
    pose_evaluation.check_heads(encoder)
    mesh = Mesh(np.asarray(jax.devices()), ("pairs",))
    metrics, errors, rows, failures = {}, {}, [], 0
    if _STRECHA.value:
        judged, errors["photographs (Strecha)"], names, failures = _judge_strecha(
            encoder, _STRECHA.value, mesh
        )
        metrics["strecha"] = judged
        rows += _rows("strecha", errors["photographs (Strecha)"], names)
    files = ["metrics.json", "rotation.png", "matching.png", "pairs.csv"]
    out = OutputFolder(_OUT.value, "evaluate_posenet", files)
    atlas_key = jax.random.key(_SEED.value)
    _, atlas, skipped = images.facade_atlases(_FACADES.value, atlas_key, mesh, _OUT.value)
    size = encoder.preprocessing.size
    wide = scenes.SceneConfig(
        height=size, width=size, angle_between=(0.0, math.radians(_MAX_ANGLE.value))
    )
    report_view = dataclasses.replace(wide, field_of_view=(_REPORT_VIEW, _REPORT_VIEW))
    for name, label, config, count in (
        ("rendered", "rendered streets", wide, _PAIRS.value),
        (
            "rendered_report_view",
            "rendered, 89.75° wide",
            report_view,
            max(_CHUNK, _PAIRS.value // 2),
        ),
    ):
        drawn = _rendered_pairs(config, atlas, mesh, count)
        metrics[name], errors[label], said = _judge_rendered(encoder, drawn, mesh)
        rows += _rows(name, errors[label], [str(i) for i in np.flatnonzero(drawn.pose_weight > 0)])
        if name == "rendered":
            matched = drawn.match_weight > 0
            easy, hard = said.easy[matched], said.hard[matched]
            match, others = said.match[matched], {"another street": easy, "the same street": hard}
    out.begin()
    write_csv(out.held("pairs.csv"), rows)
    record = {"encoder": encoder.name, "weights": encoder.fingerprint}
    write_json(out.held("metrics.json"), record | metrics)
    left_out = failures + len(skipped)
    run = run_record(flags.FLAGS.flag_values_dict(), record | {"left_out": left_out})
    out.write_record(run)
    with out.spared():
        pose_plots.matching_figure(out.path / "matching.png", match, others)
    with out.spared():
        pose_plots.rotation_figure(out.path / "rotation.png", errors)
    missing = out.finish(runtime.tell)
    for name, judged in metrics.items():
        _print(name, judged)
    print(f"wrote {out.path}/{', '.join(files)} and run.json{missing}")
    return 1 if left_out or out.failures else 0


if __name__ == "__main__":
    runtime.run(main)
