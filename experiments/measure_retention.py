"""Measures the report's claims: what do reconstructions keep, and what can be read off the layer?

    python -m experiments.measure_retention --out=runs/retention
    python -m experiments.measure_retention --beside=squeezenet/features \\
        --photographs=photographs=FOLDER --out=runs/retention

Streets, cars and rooms are rendered, encoded and inverted with a trained and an untrained network
(the control), and compared with the originals: colour, texture, edges toward the main vanishing
point, verticals, the skyline (`posenet_jax.analysis.structure` says how). Photographs likewise, but
for the skyline; their vanishing points are estimated from their edges. Linear probes, fitted on
other scenes than they are scored on, say what can be read off the layer.

Writes claims.csv (a row a claim: value, interval of 95 % over images, the same for a wrong image
and for the untrained network, verdict), images.csv (every image's measures), claims.png, a grid of
pictures for each kind of image, and run.json: with --photographs also how far estimated vanishing
points are off in rendered scenes, where they are known (quartiles, degrees). With --beside, all of
it for another network too, and comparison.csv: what the first keeps more of than the second.

Results of an earlier run in the same folder are replaced. Exit code: 0; 1 if some images could not
be read or written (they are named, the others are done); 2 if nothing could be done.
"""

from absl import flags

from experiments.common import options, runtime

_OUT = options.out()
_ENCODER = options.encoder()
_CONTROL = options.control()
_LAYER = options.layer()
_BESIDE = flags.DEFINE_string(
    "beside", None, "ENCODER/LAYER of another network to measure and compare."
)
_BESIDE_CONTROL = flags.DEFINE_string(
    "beside_control",
    "squeezenet-random-0",
    "Encoder to compare --beside with: the same architecture with random weights.",
)
_KINDS = options.kinds()
_PHOTOGRAPHS = options.photographs()
_SCENES = flags.DEFINE_integer(
    "scenes",
    48,
    "Scenes of each kind to render, and photographs of each folder at most.",
    lower_bound=2,
)
_PROBE = options.probe_scenes(1536)
_STEPS = options.inversion_steps()
_BATCH = options.render_batch()
_SEED = options.seed(options.MEASURING_SEED)
_FACADES = options.facades()

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse(renamed={"images": "scenes", "photos": "photographs", "batch": "render_batch"})

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from experiments.common import images, photo_sets, rendered
from posenet_jax.analysis import claims, findings
from posenet_jax.analysis.findings import Network
from posenet_jax.encoders import weights
from posenet_jax.errors import InputError
from posenet_jax.images import contact_sheet
from posenet_jax.inversion import recipes
from posenet_jax.io import files, provenance
from posenet_jax.io.output_folder import OutputFolder
from posenet_jax.report import analysis_plots

_SHOWN = 12


def _networks() -> list[Network]:
    """The one, and the other where one is given."""
    named = [(f"{_ENCODER.value}/{_LAYER.value}", _CONTROL.value)]
    if _BESIDE.value:
        named.append((_BESIDE.value, _BESIDE_CONTROL.value))
    found = []
    for of, control in named:
        trained, layer = weights.encoder_and_layer(of)
        untrained = weights.load_encoder(control)
        if trained.name == untrained.name:
            raise InputError(f"the control must be another encoder than {trained.name!r}")
        if type(trained.module) is not type(untrained.module):
            raise InputError(f"{control!r} is of another architecture than {trained.name!r}")
        found.append(Network(trained, untrained, layer))
    return found


def main() -> int:
    """Measures, writes and prints."""
    networks = _networks()
    space = networks[0].trained.preprocessing
    taken = [*_KINDS.value, "claims"]
    photographs = photo_sets.read(_PHOTOGRAPHS.value, space, _SCENES.value, taken, _OUT.value)
    mesh = Mesh(np.asarray(jax.devices()), ("scenes",))
    tables = ["claims.csv", "images.csv", *(["comparison.csv"] if len(networks) > 1 else [])]
    sheets = [f"{group}.png" for group in [*_KINDS.value, *photographs]]
    out = OutputFolder(_OUT.value, "measure_retention", [*tables, "claims.png", *sheets])
    atlas_key, scene_key, probe_key, start_key = jax.random.split(jax.random.key(_SEED.value), 4)
    _, atlas, skipped = images.facade_atlases(_FACADES.value, atlas_key, mesh, _OUT.value)
    batch = rendered.batch(mesh, _BATCH.value)
    drawn = {
        kind: findings.scene_set(
            scene_key,
            atlas,
            findings.configured(kind, space.size),
            mesh,
            _SCENES.value,
            batch=batch,
        )
        for kind in _KINDS.value
    }
    groups = drawn | {
        name: findings.photograph_set(photos.images) for name, photos in photographs.items()
    }
    left_out = sum(photos.left_out for photos in photographs.values())
    recipe = recipes.with_steps(recipes.CALIBRATED, _STEPS.value)
    rows, measures, compared, grids = [], [], [], {}
    work = 2 * len(networks) * sum(map(len, groups.values())) * recipe.steps
    with tqdm(total=work, unit="image·step", mininterval=1.0, dynamic_ncols=True) as bar:
        for group, views in groups.items():
            columns, kept = {"original": views.images}, []
            for network in networks:
                pictures = {
                    encoder.name: findings.invert(
                        encoder, network.layer, views,
                        key=start_key, recipe=recipe, progress=bar.update,
                    )
                    for encoder in (network.trained, network.untrained)
                }  # fmt: skip
                found = findings.reconstruction_claims(group, network.layer, views, pictures)
                name, control = pictures
                for picture, measured in (
                    (name, found.trained),
                    (f"{name}, wrong image", found.wrong),
                    (control, found.untrained),
                ):
                    measures += findings.image_rows(group, network.layer, picture, measured)
                rows += found.rows
                kept.append((found.trained, found.untrained))
                columns |= {f"{n}, {network.layer}": made for n, made in pictures.items()}
            if len(kept) == 2:
                compared += claims.comparison(group, *kept)
            grids[group] = {name: made[:_SHOWN] for name, made in columns.items()}
    config = findings.configured("cities", space.size)
    known = findings.scene_set(probe_key, atlas, config, mesh, _PROBE.value, batch=batch)
    for network in networks:
        both = (network.trained, network.untrained)
        rows += findings.probe_claims("cities", both, network.layer, known)
    out.begin()
    files.write_csv(out.held("claims.csv"), rows)
    files.write_csv(out.held("images.csv"), measures)
    if compared:
        files.write_csv(out.held("comparison.csv"), compared)
    encoders = [encoder for one in networks for encoder in (one.trained, one.untrained)]
    record = {
        "weights": {encoder.name: encoder.fingerprint for encoder in encoders},
        "facades_left_out": len(skipped),
        "photographs_left_out": left_out,
    }
    if photographs:  # how well are their vanishing points known?
        record["vanishing_point_degrees"] = {
            kind: {
                name: np.percentile(angles, (25, 50, 75)).round(1) for name, angles in of.items()
            }
            for kind, views in drawn.items()
            for of in [findings.vanishing_errors(views)]
        }
    flag_values = flags.FLAGS.flag_values_dict()
    out.write_record(provenance.run_record(flag_values, record))
    one = networks[0]
    first = [r for r in rows if (r["encoder"], r["layer"]) == (one.trained.name, one.layer)]
    with out.spared():
        analysis_plots.claims_figure(out.path / "claims.png", first)
    layers = " and ".join(network.layer for network in networks)
    for group, columns in grids.items():
        what = "Rendered" if group in drawn else "Photographs:"
        title = f"{what} {group}, inverted from {layers}"
        with out.spared():
            contact_sheet.image_grid(out.path / f"{group}.png", columns, title=title)
    missing = out.finish(runtime.tell)
    _print(rows)
    for row in compared:
        print(f"{row['images']}, {row['measure']}: {row['verdict']}, beside {_BESIDE.value}")
    print(f"wrote {out.path}/claims.csv, claims.png, images.csv, run.json, a grid a kind{missing}")
    return 1 if skipped or left_out or out.failures else 0


def _print(rows: list[dict]) -> None:
    for row in rows:
        value, wrong, untrained = (
            f"{row[f'{part}value']:.2f} [{row[f'{part}low']:.2f}, {row[f'{part}high']:.2f}]"
            for part in ("", "wrong_image_", "untrained_")
        )
        of = f"{row['encoder']} {row['layer']}, {row['images']}"
        print(f"{of}: {row['claim']} ({row['measure']}): {row['verdict']}")
        print(f"    {value}; a wrong image {wrong}; untrained {untrained}")


if __name__ == "__main__":
    runtime.run(main)
