"""Remakes the paper's figures and tables as one HTML page, with nothing but what is bundled.

    python -m experiments.report --out=report
    python -m experiments.report --out=report --photos=mine=FOLDER --beside=squeezenet/features

Streets, cars and rooms are rendered, encoded, inverted with the trained and an untrained network,
decoded, and measured; no data is needed.

Writes report.html (pictures embedded, nothing is fetched), the plots as PNG, the tables as CSV,
and run.json; those of an earlier run in the same folder are replaced. Exit code: 0; 1 if some
photographs could not be read or figures not be written (they are named, the others are done); 2 if
the page could not be made.
"""

import contextlib
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from absl import flags
from tqdm import tqdm

from experiments.common import photo_sets, runtime
from posenet_jax.encoders import weights
from posenet_jax.errors import InputError
from posenet_jax.inversion import recipes
from posenet_jax.io import provenance
from posenet_jax.io.output_folder import OutputFolder
from posenet_jax.io.run_files import read_csv
from posenet_jax.report import contents
from posenet_jax.report.material import SCENE_GROUPS, Material, Photographs, ReportOptions

_OUT = flags.DEFINE_string("out", None, "Folder for the results.", required=True)
_PHOTOS = flags.DEFINE_list(
    "photos", [], "NAME=FOLDER of photographs to invert as well, several after commas."
)
_CLAIMS = flags.DEFINE_string(
    "claims", None, "claims.csv of measure_retention, on more scenes, instead of this run's own."
)
_BESIDE = flags.DEFINE_list(
    "beside", [], "ENCODER/LAYER, several after commas, inverted besides: squeezenet/features."
)
_SCENES = flags.DEFINE_integer(
    "scenes",
    24,
    "Streets, and photographs of each folder at most; half as many cars and rooms.",
    lower_bound=2,
)
_KINDS = flags.DEFINE_list("kinds", ["rooms", "cars"], "Kinds of scenes besides streets.")
_PAIRS = flags.DEFINE_integer(
    "pairs", 128, "Scenes for sensitivity, and pairs for surgery.", lower_bound=4
)
_PROBE = flags.DEFINE_integer(
    "probe_scenes", 768, "Streets for linear probes: two thirds fit, the rest test.", lower_bound=12
)
_STEPS = flags.DEFINE_integer(
    "steps", recipes.CALIBRATED.steps, "Steps of recipe calibrated.", lower_bound=1
)
_BATCHES = flags.DEFINE_integer(
    "batches", 400, "Batches of the decoder that learns eight streets by heart.", lower_bound=1
)
_BATCH = flags.DEFINE_integer(
    "batch", 32, "Scenes that a device renders at once, an even number.", lower_bound=2
)
_SEED = flags.DEFINE_integer("seed", 1_000_003, "Decides scenes and noise: not one of training's.")
_ENCODERS = ("streetnet", "streetnet-random-0")
_NAMES_TAKEN = [*SCENE_GROUPS, *(group.kind for group in SCENE_GROUPS.values())]


def _options() -> ReportOptions:
    return ReportOptions(
        kinds=tuple(_KINDS.value),
        scenes=_SCENES.value,
        pairs=_PAIRS.value,
        probe_scenes=_PROBE.value,
        steps=_STEPS.value,
        decoder_steps=_BATCHES.value,
        batch=_BATCH.value,
        seed=_SEED.value,
    )


def _claims() -> list[dict[str, str]]:
    """Rows of --claims; none where they are to be measured."""
    if not _CLAIMS.value:
        return []
    remedy = "give the claims.csv that measure_retention wrote"
    path = Path(_CLAIMS.value).expanduser()
    rows = [row.cells for row in read_csv(path, open_end=True, remedy=remedy)]
    if not rows:
        raise InputError(f"{path} has no line below its header; {remedy}")
    return rows


@contextlib.contextmanager
def _progress(description: str, total: int, unit: str) -> Iterator[Callable[[int], Any]]:
    with tqdm(total=total, desc=description, unit=unit, mininterval=1.0) as bar:
        yield bar.update


def main() -> int:
    """Makes the page and returns the exit code."""
    options, claims = _options(), _claims()
    *encoders, judge = (weights.load_encoder(name) for name in (*_ENCODERS, "judge"))
    beside = [weights.encoder_and_layer(named) for named in _BESIDE.value]
    space = encoders[0].preprocessing
    photos = photo_sets.read(_PHOTOS.value, space, _SCENES.value, _NAMES_TAKEN, _OUT.value)
    left_out = sum(found.left_out for found in photos.values())
    networks = [*encoders, judge, *(encoder for encoder, _ in beside)]
    record = {
        "weights": {encoder.name: encoder.fingerprint for encoder in networks},
        "command": shlex.join(["python", "-m", "experiments.report", *sys.argv[1:]]),
        "photographs_left_out": left_out,
    }
    with tempfile.TemporaryDirectory() as folder:
        material = Material(
            options=options,
            out=Path(folder),
            encoders=encoders,
            judge=judge,
            beside=beside,
            photographs={name: Photographs(one.images, one.names) for name, one in photos.items()},
            claims_given=claims,
            record=provenance.run_record(flags.FLAGS.flag_values_dict(), record),
            progress=_progress,
        )
        out = OutputFolder(_OUT.value, "report", contents.file_names(contents.SECTIONS, material))
        text = contents.html(contents.SECTIONS, material)
        contents.write(out, material, text)
        missing = out.finish(runtime.tell)
    print(f"wrote {out.path}/report.html, plots as PNG, tables as CSV, and run.json{missing}")
    return 1 if left_out or out.failures else 0


if __name__ == "__main__":
    runtime.run(main)
