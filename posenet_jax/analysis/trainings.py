"""Encoders trained in different ways, side by side: what each keeps, and what the way made of it.

A run of train_posenet says of itself what it was trained for (tasks), on which pairs (varieties of
`data.varieties`), against perturbations of which radius, with which seed and for how many steps.
Two encoders that differ in one of the first three alone are a contrast: the same images are
inverted from both, begun in the same noise, and the differences are paired.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from posenet_jax.analysis import claims
from posenet_jax.encoders import weights
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.errors import InputError
from posenet_jax.io import run_files, storage

SETTINGS = ("tasks", "pairs", "robust_radius")
"""Settings that two trainings may differ in."""

_ALIKE = ("seed", "steps", "start")  # in both of a contrast, besides

ERRORS = ("rotation_median_deg", "normal_median_deg", "matching_fpr95_same_scene")
"""Held-out errors of a training, in its metrics.csv."""

_RECORD = {
    "flags": {"seed": run_files.COUNT},
    "options": {"tasks": [str], "vary": [str], "robust_radius": float},
}
_WEIGHTS = re.compile(r"weights(?:-(\d{1,9}))?\.safetensors")


class Training(NamedTuple):
    """An encoder and how it was trained."""

    encoder: Encoder
    run: str  # the training's folder, shared by weights that were kept on the way
    tasks: str  # joined by +
    pairs: str  # varieties, joined by +
    robust_radius: float | None  # None, as seed and steps: not known
    seed: int | None
    steps: int | None
    errors: Mapping[str, float]  # on held-out streets, by `ERRORS`; NaN where not measured
    start: str | None = None  # fingerprint of the encoder begun with; None: random, or not known

    @property
    def facts(self) -> dict[str, Any]:
        """Columns of a table that say how it was trained, and its errors; None: not known."""
        said = self._asdict()
        del said["encoder"], said["errors"]
        return said | {
            name: None if np.isnan(error) else error for name, error in self.errors.items()
        }


def bundled(name: str) -> Training:
    """Returns an encoder, bundled or a file, of whose training nothing is known here."""
    nothing = dict.fromkeys(ERRORS, np.nan)
    encoder = weights.load_encoder(name)
    return Training(encoder, encoder.name, "", "", None, None, None, nothing)


def runs(folder: str | Path) -> list[Training]:
    """Returns the trainings in a folder of folders of train_posenet, sorted by name and step.

    Each by the name of its folder; weights that --keep kept on the way are RUN-step-STEP. Raises
    InputError where no folder holds weights, or a record is not train_posenet's.
    """
    root = storage.path(folder)
    found = [
        training
        for record in sorted(root.glob("*/run.json"))
        for training in _run(record.parent, record)
    ]
    if not found:
        raise InputError(f"{folder} holds no folder with weights of train_posenet")
    return found


def _run(folder: Path, record: Path) -> Iterable[Training]:
    remedy = "give a folder of --workdirs of train_posenet"
    said = run_files.read_json(record, _RECORD, remedy=remedy)
    options = said["options"]
    kept = {}
    for path in folder.glob("weights*.safetensors"):
        if match := _WEIGHTS.fullmatch(path.name):
            kept[int(match[1] or 0)] = path
    if not kept:  # it has begun, and was not evaluated yet
        return
    errors = {
        row.whole("step"): {name: row.number(name) for name in ERRORS if name in row.cells}
        for row in run_files.read_csv(folder / "metrics.csv", ["step"], remedy=remedy)
    }
    if final := kept.pop(0, None):
        done = run_files.read_json(folder / "weights.json", {"steps": run_files.COUNT})["steps"]
        kept[done] = final
    for step, path in sorted(kept.items()):
        name = folder.name if path == final else f"{folder.name}-step-{step}"
        yield Training(
            dataclasses.replace(weights.load_encoder(path), name=name),
            folder.name,
            "+".join(sorted(options["tasks"])),
            "+".join(options["vary"]) or "as drawn",
            float(options["robust_radius"]),
            said["flags"]["seed"],
            step,
            dict.fromkeys(ERRORS, np.nan) | errors.get(step, {}),
            options.get("start"),
        )


def contrasts(
    trainings: Sequence[Training], measured: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]
) -> list[dict[str, Any]]:
    """Returns a row a contrast, set of images and measure: the second's less the first's, paired.

    measured: encoder -> set of images -> measure -> [N], the same images everywhere. value, low and
    high: mean and interval of 95 % over images (bootstrap). differ: the setting of `SETTINGS` that
    the two differ in; the others, seed, steps and the start are alike.
    """
    rows = []
    known = [training for training in trainings if training.tasks]
    for one, other in itertools.combinations(known, 2):
        differ = [name for name in SETTINGS if getattr(one, name) != getattr(other, name)]
        if len(differ) != 1 or any(getattr(one, name) != getattr(other, name) for name in _ALIKE):
            continue
        alike = {name: getattr(one, name) for name in SETTINGS if name not in differ}
        facts = {"differ": differ[0], "first": getattr(one, differ[0])}
        facts |= {"second": getattr(other, differ[0])}
        facts |= {"alike": ", ".join(f"{name} {value}" for name, value in alike.items())}
        facts |= {"seed": one.seed, "steps": one.steps}
        pair = measured[one.encoder.name], measured[other.encoder.name]
        for images, own in pair[0].items():
            for measure, values in own.items():
                difference = pair[1][images][measure] - values
                if np.isfinite(difference).any():
                    row = facts | {"images": images, "measure": measure}
                    rows.append(row | claims.columns({"": difference}))
    return rows


def sentences(rows: Sequence[Mapping[str, Any]], measure: str) -> list[str]:
    """Returns a line for a person on each row of `contrasts` of one measure."""
    return [
        f"{row['images']}, {row['alike']}, seed {row['seed']}: {measure} {row['value']:+.2f}"
        f" [{row['low']:+.2f}, {row['high']:+.2f}] with {row['differ']} {row['second']} instead of"
        f" {row['first']}"
        for row in rows
        if row["measure"] == measure
    ]
