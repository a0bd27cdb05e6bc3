"""Tells what descriptors keep, as one HTML page, with nothing but what is bundled.

    posenet-jax report --out=report
    posenet-jax report --out=report --photographs=mine=FOLDER --beside=squeezenet/features

Streets, cars and rooms are rendered, encoded, inverted with the trained and an untrained network,
decoded, and measured; no data is needed. The page begins with the question and the answer, in
findings and in pictures of the bundled images; the method, what is left after each layer, what
moves a descriptor, what could not be reproduced, and limits follow, then, as details, the paper's
figures and tables made anew.

Writes report.html (pictures embedded, nothing is fetched), the plots as PNG, the tables as CSV,
and run.json; those of an earlier run in the same folder are replaced. Exit code: 0; 1 if some
photographs could not be read or figures not be written (they are named, the others are done); 2 if
the page could not be made.
"""

import shlex
import sys
import tempfile
from pathlib import Path

from absl import flags

from .common import buckets, options, runtime

_OUT = options.out()
_PHOTOGRAPHS = options.photographs()
_CLAIMS = buckets.string(
    "claims",
    None,
    "File claims.csv of measure_retention, to show instead of claims measured in this run.",
)
_BESIDE = buckets.strings(
    "beside",
    [],
    "Further networks to invert, as ENCODER/LAYER separated by commas: squeezenet/features.",
)
_SCENES = flags.DEFINE_integer(
    "scenes",
    24,
    "Streets to render, and the largest number of photographs from each folder; half as many cars"
    " and rooms.",
    lower_bound=2,
)
_KINDS = options.kinds()
_PAIRS = flags.DEFINE_integer(
    "pairs", 128, "Rendered pairs of views for surgery, and scenes for sensitivity.", lower_bound=4
)
_PROBE = options.probe_scenes(768)
_STEPS = options.inversion_steps()
_BATCHES = flags.DEFINE_integer(
    "batches",
    400,
    "Training steps of the decoder that is overfitted to eight streets.",
    lower_bound=1,
)
_BATCH = options.render_batch()
_ENCODER = options.encoder()
_CONTROL = options.control()
_JUDGE = options.judge()
_NETWORKS = options.feature_networks()
_SEED = options.seed(options.MEASURING_SEED)

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse(renamed={"photos": "photographs", "batch": "render_batch"})

from posenet_jax import sharding
from posenet_jax.analysis import claims
from posenet_jax.encoders import weights
from posenet_jax.evaluation import feature_networks
from posenet_jax.inversion import recipes
from posenet_jax.io.output_folder import OutputFolder
from posenet_jax.report import contents
from posenet_jax.report.material import NAMES_TAKEN, Material, ReportOptions, groups_of

from .common import photo_sets, progress, rendered


def _options() -> ReportOptions:
    mesh = sharding.device_mesh("scenes")
    return ReportOptions(
        kinds=groups_of(_KINDS.value),
        scenes=_SCENES.value,
        pairs=_PAIRS.value,
        probe_scenes=_PROBE.value,
        steps=recipes.with_steps(recipes.CALIBRATED, _STEPS.value).steps,
        decoder_steps=_BATCHES.value,
        batch=rendered.batch(mesh, _BATCH.value, unit=2) // mesh.size,
        seed=_SEED.value,
    )


def main() -> int:
    """Makes the page and returns the exit code."""
    sizes = _options()
    claims_given = claims.read(_CLAIMS.value) if _CLAIMS.value else []
    named = _ENCODER.value, _CONTROL.value, _JUDGE.value
    *encoders, judge = map(weights.load_encoder, named)
    compared_in = feature_networks.load(_NETWORKS.value)
    space = encoders[0].preprocessing
    beside = [weights.encoder_and_layer(named, size=space.side) for named in _BESIDE.value]
    photographs, left_out = photo_sets.read(
        _PHOTOGRAPHS.value, space, _SCENES.value, NAMES_TAKEN, _OUT.value
    )
    networks = [*encoders, judge, *(encoder for encoder, _ in beside)]
    facts = {
        "weights": {encoder.name: encoder.fingerprint for encoder in networks},
        "command": shlex.join(["posenet-jax", "report", *sys.argv[1:]]),
        "photographs_left_out": left_out,
    }
    with tempfile.TemporaryDirectory() as folder:
        material = Material(
            options=sizes,
            out=Path(folder),
            encoders=encoders,
            judge=judge,
            networks=compared_in,
            beside=beside,
            photographs=photographs,
            claims_given=claims_given,
            record=runtime.record(facts),
            progress=progress.described,
        )
        out = OutputFolder(_OUT.value, "report", contents.file_names(contents.SECTIONS, material))
        contents.write(out, material, contents.html(contents.SECTIONS, material))
        missing = out.finish(runtime.tell)
    print(f"wrote {out.path}/report.html, plots as PNG, tables as CSV, and run.json{missing}")
    for sentence in compared_in.absent:
        print(sentence)
    return 1 if left_out or out.failures else 0


if __name__ == "__main__":
    runtime.run(main)
