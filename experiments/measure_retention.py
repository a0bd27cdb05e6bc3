"""Tests the paper's claims: what do reconstructions keep, and what can be read off the layer?

    posenet-jax measure_retention --out=runs/retention
    posenet-jax measure_retention --beside=squeezenet/features \\
        --photographs=photographs=FOLDER --out=runs/retention

Streets, cars and rooms are rendered, encoded and inverted with a trained and an untrained network
(the control), and compared with the originals: colour, texture, edges toward the main vanishing
point, verticals, the skyline (`posenet_jax.analysis.structure` says how), and texture by amount and
kind (`texture`): is a picture nearer to its scene than to the scene with its textures drawn anew?
Photographs likewise, but for the skyline and that choice; their vanishing points are estimated from
their edges. Linear probes, fitted on other scenes than they are scored on, say what can be read off
the layer.

Writes claims.csv (a row a claim: value, interval of 95 % over images, the same for a wrong image
and for the untrained network, verdict, p-value, both corrected for the number of claims by Holm's
method), images.csv (every image's measures), claims.png, a grid of
pictures for each kind of image, and run.json: with --photographs also how far estimated vanishing
points are off in rendered scenes, where they are known (quartiles, degrees). With --beside, all of
it for another network too, and comparison.csv: what the first keeps more of than the second.

Results of an earlier run in the same folder are replaced. Exit code: 0; 1 if some images could not
be read or written (they are named, the others are done); 2 if nothing could be done.
"""

from .common import buckets, options, runtime

_OUT = options.out()
_ENCODER = options.encoder()
_CONTROL = options.control()
_LAYER = options.layer()
_BESIDE = buckets.string(
    "beside", None, "Another network to measure and compare, as ENCODER/LAYER."
)
_BESIDE_CONTROL = buckets.string(
    "beside_control",
    None,
    "Encoder to compare --beside with; the same network with random weights if not given.",
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
    runtime.parse(renamed={"images": "scenes", "photos": "photographs", "batch": "render_batch"})

from functools import partial

import jax

from posenet_jax import numerics, sharding
from posenet_jax.analysis import claims, findings, retention
from posenet_jax.analysis.findings import SceneSet
from posenet_jax.analysis.retention import Network
from posenet_jax.inversion import recipes
from posenet_jax.io.output_folder import OutputFolder
from posenet_jax.report import analysis_plots

from .common import images, photo_sets, progress, rendered, results


def _networks() -> list[Network]:
    """The network of --encoder and, where it is given, that of --beside."""
    networks = [retention.network(f"{_ENCODER.value}/{_LAYER.value}", _CONTROL.value)]
    if _BESIDE.value:
        size = networks[0].trained.preprocessing.side
        networks.append(retention.network(_BESIDE.value, _BESIDE_CONTROL.value, size=size))
    return networks


def _rendered(keys: list[jax.Array], size: int) -> tuple[dict[str, SceneSet], SceneSet, int]:
    """Scenes of each kind, streets for the probes, and the number of facades left out."""
    atlas_key, scene_key, probe_key = keys
    mesh = sharding.device_mesh("scenes")
    batch = rendered.batch(mesh, _BATCH.value)
    _, atlas, skipped = images.facade_atlases(_FACADES.value, atlas_key, mesh, _OUT.value)
    draw = partial(findings.scene_sets, atlas=atlas, size=size, mesh=mesh, batch=batch)
    drawn = draw(scene_key, _KINDS.value, count=_SCENES.value, twins=findings.TWINS)
    probed = draw(probe_key, ["cities"], count=_PROBE.value)
    return drawn, probed["cities"], len(skipped)


def main() -> int:
    """Measures, writes and prints; returns the exit code."""
    networks = _networks()
    space = networks[0].trained.preprocessing
    names_taken = [*_KINDS.value, "claims"]
    photographs, unreadable = photo_sets.read(
        _PHOTOGRAPHS.value, space, _SCENES.value, names_taken, _OUT.value
    )
    tables = ["claims.csv", "images.csv", *(["comparison.csv"] if len(networks) > 1 else [])]
    grids = [f"{group}.png" for group in [*_KINDS.value, *photographs]]
    out = OutputFolder(_OUT.value, "measure_retention", [*tables, "claims.png", *grids])
    *keys, start_key = jax.random.split(numerics.seed_key(_SEED.value), 4)
    drawn, probed, skipped = _rendered(keys, space.side)
    groups = drawn | {
        name: findings.photograph_set(photos.images) for name, photos in photographs.items()
    }
    recipe = recipes.with_steps(recipes.CALIBRATED, _STEPS.value)
    with progress.bar(retention.work(networks, groups, recipe), "image·step") as bar:
        found = retention.measure(
            networks, groups, probed, key=start_key, recipe=recipe, progress=bar.update
        )
    facts = {
        "weights": retention.fingerprints(networks),
        "facades_left_out": skipped,
        "photographs_left_out": unreadable,
    }
    if photographs:  # how well are their vanishing points known?
        facts["vanishing_point_degrees"] = {
            kind: findings.vanishing_quartiles(views) for kind, views in drawn.items()
        }
    pages = analysis_plots.retention_pages(networks, found, drawn)
    missing = results.write(out, facts, tables=found.tables, pages=pages)
    compared = claims.comparison_sentences(found.comparison, _BESIDE.value)
    print(*claims.sentences(found.claims), *compared, sep="\n")
    print(f"wrote {out.path}/claims.csv, claims.png, images.csv, run.json, a grid a kind{missing}")
    return 1 if skipped or unreadable or out.failures else 0


if __name__ == "__main__":
    runtime.run(main)
