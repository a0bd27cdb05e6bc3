"""Remakes the report's figures and tables as one HTML page, with nothing but what is bundled.

    python -m experiments.report --out=report
    python -m experiments.report --out=report --photos=mine=FOLDER --beside=squeezenet/features

Streets, cars and rooms are rendered, encoded, inverted with the trained and an untrained network,
decoded, and measured; no data is needed.

Writes report.html (pictures embedded, nothing is fetched), the figures as PNG, the tables as CSV,
and run.json; those of an earlier run in the same folder are replaced. Exit code: 0; 1 if some
photographs could not be read or figures not be written (they are named, the others are done); 2 if
the page could not be made.
"""

import dataclasses
import shlex
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
from absl import flags
from jax.sharding import Mesh
from tqdm import tqdm

from experiments.common import photo_sets, runtime
from posenet_jax import scenes
from posenet_jax.analysis import findings, sensitivity, surgery
from posenet_jax.data import training_pairs
from posenet_jax.encoders import weights
from posenet_jax.errors import InputError
from posenet_jax.inversion import recipes
from posenet_jax.io import files, provenance
from posenet_jax.io.output_folder import OutputFolder
from posenet_jax.io.run_files import read_csv
from posenet_jax.report import closing_sections, decoder_sections
from posenet_jax.report import page as report_page
from posenet_jax.report import sections as parts

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
_FIGURES = (
    "figure_4_samples.png",
    "figure_6_overfit.png",
    "figure_7_decoders.png",
    "figure_8_training.png",
    "sensitivity.png",
    "surgery.png",
)
_TABLES = (
    "table_1_inversion.csv",
    "table_2_decoder.csv",
    "figure_8_training.csv",
    "fidelity.csv",
    "sensitivity.csv",
    "surgery.csv",
    "claims.csv",
)
_INTRODUCTION = (
    "What does the descriptor of a network trained for camera pose keep of a street image? This "
    "page remakes the figures and tables of “The Essence of Pose” (Thatte, Sitzmann, Ruban), with "
    "networks trained anew, as the report's were never published, mostly on rendered scenes.",
    "Beside every value stands a control: the same from an untrained network, or of another image.",
)


def _titles(group: str) -> tuple[str, str, str]:
    """File, heading and words of a group's inversions."""
    if group in scenes.KINDS:
        return scenes.KINDS[group].figure_titles
    return f"photographs_{group}", f"Photographs inverted: {group}", f"Photographs ({group})"


def _written(group: str) -> str:
    """Name of a group in the rows of claims.csv."""
    return scenes.KINDS[group].written if group in scenes.KINDS else group


def _claims() -> list[dict[str, str]]:
    """Those given, none if they are to be measured."""
    if not _CLAIMS.value:
        return []
    remedy = "give the claims.csv that measure_retention wrote"
    path = Path(_CLAIMS.value).expanduser()
    rows = [row.cells for row in read_csv(path, open_end=True, remedy=remedy)]
    if not rows:
        raise InputError(f"{path} has no line below its header; {remedy}")
    return rows


def _kinds() -> dict[str, str]:
    """Name of a kind of scene -> the name that rows have, streets first."""
    kinds = [scenes.kind_named(name) for name in ["streets", *_KINDS.value]]
    return {kind.name: kind.written for kind in kinds}


def _rendered(
    kinds: dict[str, str], key: jax.Array, atlas: scenes.Atlas, mesh: Mesh, size: int
) -> dict[str, findings.SceneSet]:
    """Scenes of each kind; of streets ten at least, for the samples."""
    views = {}
    for number, (group, kind) in enumerate(tqdm(kinds.items(), desc="rendering", unit="kind")):
        count = _SCENES.value if group == "streets" else max(2, _SCENES.value // 2)
        least = max(count, parts.SAMPLES) if group == "streets" else count
        config, own = findings.configured(kind, size), jax.random.fold_in(key, number)
        batch = _BATCH.value * mesh.size
        views[group] = findings.scene_set(own, atlas, config, mesh, least, batch=batch)
    return views


def _known(
    kinds: dict[str, str], key: jax.Array, atlas: scenes.Atlas, mesh: Mesh, size: int
) -> dict[str, findings.SceneSet]:
    """Further scenes of each kind, to know from; most of streets, of which probes are fitted."""
    return {
        group: findings.scene_set(
            jax.random.fold_in(key, number), atlas, findings.configured(kind, size), mesh,
            _PROBE.value if group == "streets" else max(2, _PROBE.value // 8),
            batch=_BATCH.value * mesh.size,
        )
        for number, (group, kind) in enumerate(kinds.items())
    }  # fmt: skip


def _floors(sets, known, encoder, judge) -> list[parts.Inverted]:
    """Of photographs nothing but the rendered streets is known."""
    return [
        floor
        for group, images in sets.items()
        for layer in parts.LAYERS
        for floor in parts.floors(
            group, encoder, layer, images, known.get(group, known["streets"]).images, judge=judge
        )
    ]


def _measured_claims(made, views, encoders, known) -> list[dict]:
    """Of the pictures inverted from fc5, and of probes of it on `known` streets."""
    rows = []
    names = [encoder.name for encoder in encoders]
    for group, views_of in views.items():
        of_fc5 = {one.encoder: one.pictures for one in made[group] if one.layer == "fc5"}
        pictures, kind = {name: of_fc5[name] for name in names}, _written(group)
        rows += findings.reconstruction_claims(kind, "fc5", views_of, pictures).rows
    return rows + findings.probe_claims("cities", encoders, "fc5", known)


def _inverted(sets, encoders, beside, key, judge) -> dict[str, list[parts.Inverted]]:
    """Group -> of every encoder and layer."""
    recipe = dataclasses.replace(recipes.CALIBRATED, steps=_STEPS.value)
    runs = [(encoder, layer) for encoder in encoders for layer in parts.LAYERS] + beside
    work = sum(len(images) for images in sets.values()) * len(runs) * recipe.steps
    with tqdm(total=work, desc="inverting", unit="image·step", mininterval=1.0) as bar:
        return {
            group: [
                parts.invert(
                    group,
                    encoder,
                    layer,
                    images,
                    key=key,
                    recipe=recipe,
                    judge=judge,
                    progress=bar.update,
                )  # fmt: skip
                for encoder, layer in runs
            ]
            for group, images in sets.items()
        }


def _learning(out, encoder, streets) -> report_page.Section:
    with tqdm(total=_BATCHES.value, desc="learning by heart", unit="batch") as bar:
        return decoder_sections.learning(
            out, encoder, streets, steps=_BATCHES.value, seed=_SEED.value, progress=bar.update
        )


def _sensitivity(out, encoders, atlas, config, key, mesh) -> report_page.Section:
    with tqdm(total=_PAIRS.value, desc="sensitivity", unit="scene") as bar:
        found = sensitivity.measure(
            encoders, atlas, config, key=key, mesh=mesh,
            count=_PAIRS.value, batch=_BATCH.value * mesh.size, progress=bar.update,
        )  # fmt: skip
    return parts.sensitivity(out, found)


def _surgery(out, encoder, atlas, config, key, mesh) -> report_page.Section:
    own, other, noise = jax.random.split(key, 3)
    source = training_pairs.RenderedPairs(atlas, config, _BATCH.value * mesh.size, mesh)
    with tqdm(total=2 * _PAIRS.value, desc="surgery", unit="pair") as bar:
        images, fitted = (
            surgery.rendered(encoder, source, key=k, count=_PAIRS.value, progress=bar.update)
            for k in (own, other)
        )
    return parts.surgery(out, encoder, images, fitted.descriptor, noise)


def _files(groups: list[str]) -> list[str]:
    """All that a run may write."""
    pictures = [f"{_titles(group)[0]}.png" for group in groups]
    return ["report.html", *_FIGURES, *_TABLES, *pictures]


def _write(out: OutputFolder, made: Path, html: str, record: dict) -> str:
    """Page, tables and figures that lie in the folder `made`; what `out.finish` returns."""
    out.begin()
    for name in _TABLES:
        if (made / name).exists():
            _copy(made / name, out.held(name))
    out.write_record(record)
    with out.spared():
        page = html.encode()
        files.write_atomically(out.held("report.html"), lambda file: file.write(page))
    for figure in sorted(made.glob("*.png")):
        with out.spared():
            _copy(figure, out.path / figure.name)
    return out.finish(runtime.tell)


def _copy(file: Path, path: Path) -> None:
    content = file.read_bytes()
    files.write_atomically(path, lambda file: file.write(content))


def main() -> int:
    """Makes the page and returns the exit code."""
    with tempfile.TemporaryDirectory() as made:
        return _make(Path(made))


def _make(made: Path) -> int:
    """Makes figures and tables in the folder `made`; when all are there they are written."""
    encoders = [weights.load_encoder(name) for name in _ENCODERS]
    judge, claims = weights.load_encoder("judge"), _claims()
    if _BATCH.value % 2:
        raise InputError(f"--batch must be even, as two pairs share a street, not {_BATCH.value}")
    kinds = _kinds()
    beside = [weights.encoder_and_layer(named) for named in _BESIDE.value]
    taken = scenes.kind_names()
    photo_set = photo_sets.read(
        _PHOTOS.value, encoders[0].preprocessing, _SCENES.value, taken, _OUT.value
    )
    photos = {name: found.images for name, found in photo_set.items()}
    failures = sum(found.left_out for found in photo_set.values())
    out = OutputFolder(_OUT.value, "report", _files([*kinds, *photos]))
    mesh = Mesh(np.asarray(jax.devices()), ("scenes",))
    keys = jax.random.split(jax.random.key(_SEED.value), 7)
    _, atlas, _ = training_pairs.facade_atlases(None, keys[0], mesh)
    size = encoders[0].preprocessing.size
    drawn = _rendered(kinds, keys[1], atlas, mesh, size)
    sections = [
        parts.samples(made, drawn["streets"].images),
        parts.hyperparameters(made, dataclasses.replace(recipes.CALIBRATED, steps=_STEPS.value)),
    ]
    drawn["streets"] = drawn["streets"].take(slice(_SCENES.value))
    originals = {group: views.images for group, views in drawn.items()}
    inverted = _inverted(originals | photos, encoders, beside, keys[2], judge)
    shown = {
        group: parts.inversions(
            made,
            *_titles(group),
            group_inverted,
            row_labels=photo_set[group].names if group in photo_set else None,
        )
        for group, group_inverted in inverted.items()
    }
    sections += [shown[group] for group in ("streets", *photos)]
    sections.append(_learning(made, encoders[0], originals["streets"]))
    sections.append(decoder_sections.decoders(made, encoders[0], originals["streets"], keys[3]))
    sections += [shown[group] for group in kinds if group != "streets"]
    known = _known(kinds, keys[6], atlas, mesh, size)
    floors = _floors(originals | photos, known, encoders[0], judge)
    every = [one for group in inverted.values() for one in group]
    sections.append(parts.fidelity_table(made, [*every, *floors]))
    config = findings.configured("cities", size)
    sections.append(_sensitivity(made, encoders, atlas, config, keys[4], mesh))
    sections.append(_surgery(made, encoders[0], atlas, config, keys[5], mesh))
    if not claims:
        views = drawn | {name: findings.photograph_set(images) for name, images in photos.items()}
        claims = _measured_claims(inverted, views, encoders, known["streets"])
        files.write_csv(made / "claims.csv", claims)
    sections.append(closing_sections.claims_section(claims))
    record = provenance.run_record(
        flags.FLAGS.flag_values_dict(),
        {
            "weights": {
                one.name: one.fingerprint
                for one in [*encoders, judge, *(encoder for encoder, _ in beside)]
            },
            "command": shlex.join(["python", "-m", "experiments.report", *sys.argv[1:]]),
            "photographs_left_out": failures,
        },
    )
    sections.append(closing_sections.record_section(record, record["command"]))
    html = report_page.page("What pose descriptors keep", _INTRODUCTION, sections)
    missing = _write(out, made, html, record)
    print(f"wrote {out.path}/report.html, figures as PNG, tables as CSV, and run.json{missing}")
    return 1 if failures or out.failures else 0


if __name__ == "__main__":
    runtime.run(main)
