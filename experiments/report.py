# ruff: noqa: E402
"""Remakes the report's figures and tables as one HTML page, with nothing but what is bundled.

    python -m experiments.report --out=report
    python -m experiments.report --out=report --photographs=mine=FOLDER --beside=squeezenet/features

Streets, cars and rooms are rendered, encoded, inverted with the trained and an untrained network,
decoded, and measured; no data is needed.

Writes report.html (pictures embedded, nothing is fetched), the figures as PNG, the tables as CSV,
and run.json; those of an earlier run in the same folder are replaced. Exit code: 0; 1 if some
photographs could not be read or figures not be written (they are named, the others are done); 2 if
the page could not be made.
"""

import shlex
import sys
import tempfile
from pathlib import Path

from absl import flags

from experiments.common import options, runtime

_OUT = options.out()
_PHOTOGRAPHS = options.photographs()
_CLAIMS = flags.DEFINE_string(
    "claims",
    None,
    "File claims.csv of measure_retention, on more scenes, to show instead of this run's own.",
)
_BESIDE = flags.DEFINE_list(
    "beside", [], "ENCODER/LAYER, several after commas, inverted besides: squeezenet/features."
)
_SCENES = flags.DEFINE_integer(
    "scenes",
    24,
    "Streets to render, and photographs of each folder at most; half as many cars and rooms.",
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
    "Training steps of the decoder that learns eight streets by heart.",
    lower_bound=1,
)
_BATCH = options.render_batch()
_SEED = options.seed(options.MEASURING_SEED)

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse(renamed={"photos": "photographs", "batch": "render_batch"})

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from experiments.common import photo_sets, rendered
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

_ENCODERS = ("streetnet", "streetnet-random-0")
_TITLES = {
    "streets": ("figure_5_streets", "Fig. 5: streets inverted", "Rendered streets"),
    "rooms": ("figure_9_rooms", "Fig. 9: rooms inverted", "Rendered rooms"),
    "cars": ("figure_10_cars", "Fig. 10: cars inverted", "Rendered cars"),
}
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
_SCENE_KINDS = {"streets": "cities", "rooms": "indoor", "cars": "cars"}
_INTRODUCTION = (
    "What does the descriptor of a network trained for camera pose keep of a street image? This "
    "page remakes the figures and tables of “The Essence of Pose” (Thatte, Sitzmann, Ruban), with "
    "networks trained anew, as the report's were never published, mostly on rendered scenes.",
    "Beside every value stands a control: the same from an untrained network, or of another image.",
)


def _titles(group: str) -> tuple[str, str, str]:
    """File, heading and words of a group's inversions."""
    photographs = f"photographs_{group}", f"Photographs inverted: {group}", f"Photographs ({group})"
    return _TITLES.get(group, photographs)


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
    """Group -> kind of scene, streets first."""
    given = ["streets", *(group for group, kind in _SCENE_KINDS.items() if kind in _KINDS.value)]
    return {group: _SCENE_KINDS[group] for group in given}


def _batch(mesh: Mesh) -> int:
    """Scenes rendered together; two pairs share a street, so that a device takes an even number."""
    return rendered.batch(mesh, _BATCH.value, unit=2)


def _rendered(
    kinds: dict[str, str], key: jax.Array, atlas: scenes.Atlas, mesh: Mesh, size: int
) -> dict[str, findings.SceneSet]:
    """Scenes of each kind; of streets ten at least, for the samples."""
    views = {}
    for number, (group, kind) in enumerate(tqdm(kinds.items(), desc="rendering", unit="kind")):
        count = _SCENES.value if group == "streets" else max(2, _SCENES.value // 2)
        least = max(count, parts.SAMPLES) if group == "streets" else count
        config, own = findings.configured(kind, size), jax.random.fold_in(key, number)
        batch = _batch(mesh)
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
            batch=_batch(mesh),
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
        pictures, kind = {name: of_fc5[name] for name in names}, _SCENE_KINDS.get(group, group)
        rows += findings.reconstruction_claims(kind, "fc5", views_of, pictures).rows
    return rows + findings.probe_claims("cities", encoders, "fc5", known)


def _inverted(sets, encoders, beside, key, judge) -> dict[str, list[parts.Inverted]]:
    """Group -> of every encoder and layer."""
    recipe = recipes.with_steps(recipes.CALIBRATED, _STEPS.value)
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
            count=_PAIRS.value, batch=_batch(mesh), progress=bar.update,
        )  # fmt: skip
    return parts.sensitivity(out, found)


def _surgery(out, encoder, atlas, config, key, mesh) -> report_page.Section:
    own, other, noise = jax.random.split(key, 3)
    source = training_pairs.RenderedPairs(atlas, config, _batch(mesh), mesh)
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
    kinds = _kinds()
    beside = [weights.encoder_and_layer(named) for named in _BESIDE.value]
    taken = [*_SCENE_KINDS, *_SCENE_KINDS.values()]
    photo_set = photo_sets.read(
        _PHOTOGRAPHS.value, encoders[0].preprocessing, _SCENES.value, taken, _OUT.value
    )
    photos = {name: found.images for name, found in photo_set.items()}
    failures = sum(found.left_out for found in photo_set.values())
    out = OutputFolder(_OUT.value, "report", _files([*kinds, *photos]))
    mesh = Mesh(np.asarray(jax.devices()), ("scenes",))
    _batch(mesh)
    keys = jax.random.split(jax.random.key(_SEED.value), 7)
    _, atlas, _ = training_pairs.facade_atlases(None, keys[0], mesh)
    size = encoders[0].preprocessing.size
    drawn = _rendered(kinds, keys[1], atlas, mesh, size)
    sections = [
        parts.samples(made, drawn["streets"].images),
        parts.hyperparameters(made, recipes.with_steps(recipes.CALIBRATED, _STEPS.value)),
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
