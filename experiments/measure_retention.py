"""Measures the report's claims: what do reconstructions keep, and what can be read off the layer?

    python -m experiments.measure_retention --out=runs/retention

Streets, cars and rooms are rendered, encoded and inverted with a trained and an untrained network
(the control), and compared with the originals: colour, texture, edges toward the main vanishing
point, verticals, the skyline (`posenet_jax.retention` says how). Linear probes, fitted on other
scenes than they are scored on, say what can be read off the layer.

Writes claims.csv (a row a claim: value, interval of 95 % over images, the same for a wrong image
and for the untrained network, verdict), images.csv (every image's measures), claims.png, a grid of
pictures for each kind of scene, and run.json.
"""

import dataclasses
import sys

import jax
import numpy as np
from absl import flags
from jax.sharding import Mesh
from tqdm import tqdm

from experiments import runtime
from posenet_jax import analysis_figures, findings, pairs, recipes, reporting, scenes, weights
from posenet_jax.errors import InputError

_OUT = flags.DEFINE_string("out", None, "Folder for the results.", required=True)
_ENCODER = flags.DEFINE_string("encoder", "streetnet", "A bundled encoder or a .safetensors file.")
_CONTROL = flags.DEFINE_string(
    "control", "streetnet-random-0", "Encoder to compare with: the same with random weights."
)
_LAYER = flags.DEFINE_string("layer", "fc5", "Layer to invert and to probe.")
_KINDS = flags.DEFINE_list("kinds", list(scenes.CONFIGS), "Kinds of scenes to invert.")
_IMAGES = flags.DEFINE_integer("images", 48, "Scenes of each kind to invert.", lower_bound=2)
_PROBE = flags.DEFINE_integer(
    "probe_scenes", 1024, "Streets to fit probes on; half as many others test them.", lower_bound=8
)
_STEPS = flags.DEFINE_integer(
    "steps", recipes.CALIBRATED.steps, "Steps of recipe calibrated.", lower_bound=1
)
_SEED = flags.DEFINE_integer("seed", 1_000_003, "Decides the scenes: not one of training's.")
_FACADES = flags.DEFINE_string(
    "facades",
    None,
    "Folder of facade photographs, of which the last tenth by name, which training leaves out, is "
    "used; invented ones if not given.",
)
_SHOWN = 12


def main() -> int:
    """Measures, writes and prints."""
    encoders = [weights.load_encoder(name) for name in (_ENCODER.value, _CONTROL.value)]
    if encoders[0].name == encoders[1].name:
        raise InputError(f"--control must be another encoder than {encoders[0].name!r}")
    for kind in _KINDS.value:
        if kind not in scenes.CONFIGS:
            choice = ", ".join(scenes.CONFIGS)
            raise InputError(f"no kind of scene {kind!r}; there are {choice}")
    for encoder in encoders:
        encoder.tap(_LAYER.value)
    mesh = Mesh(np.asarray(jax.devices()), ("scenes",))
    out = reporting.prepare_output(_OUT.value)
    atlas_key, scene_key, probe_key, start_key = jax.random.split(jax.random.key(_SEED.value), 4)
    _, atlas, skipped = pairs.facade_atlases(_FACADES.value, atlas_key, mesh)
    for name in skipped:
        print(f"left out: {name}", file=sys.stderr)
    size = encoders[0].preprocessing.size
    recipe = dataclasses.replace(recipes.CALIBRATED, steps=_STEPS.value)
    rows, images = [], []
    work = len(_KINDS.value) * len(encoders) * _IMAGES.value * _STEPS.value
    with tqdm(total=work, unit="image·step", mininterval=1.0, dynamic_ncols=True) as bar:
        for kind in _KINDS.value:
            config = findings.configured(kind, size)
            views = findings.scene_set(scene_key, atlas, config, mesh, _IMAGES.value)
            pictures = {
                encoder.name: findings.invert(
                    encoder,
                    _LAYER.value,
                    views,
                    key=start_key,
                    recipe=recipe,
                    progress=bar.update,
                )
                for encoder in encoders
            }
            kept = findings.reconstruction_claims(kind, _LAYER.value, views, pictures)
            rows += kept.rows
            images += kept.images
            shown = {"original": views.images} | pictures
            columns = {name: made[:_SHOWN] for name, made in shown.items()}
            title = f"Rendered {kind}, inverted from {_LAYER.value}"
            reporting.image_grid(out / f"{kind}.png", columns, title=title)
    config = findings.configured("cities", size)
    count = _PROBE.value + _PROBE.value // 2
    known = findings.scene_set(probe_key, atlas, config, mesh, count)
    rows += findings.probe_claims("cities", encoders, _LAYER.value, known)
    reporting.write_csv(out / "claims.csv", rows)
    reporting.write_csv(out / "images.csv", images)
    analysis_figures.claims_figure(out / "claims.png", rows)
    fingerprints = {encoder.name: encoder.fingerprint for encoder in encoders}
    record = {"weights": fingerprints, "facades_left_out": len(skipped)}
    flag_values = flags.FLAGS.flag_values_dict()
    reporting.write_json(out / "run.json", reporting.run_record(flag_values, record))
    _print(rows)
    print(f"wrote {out}/claims.csv, claims.png, images.csv, run.json and a grid a kind")
    return 1 if skipped else 0


def _print(rows: list[dict]) -> None:
    for row in rows:
        value, wrong, untrained = (
            f"{row[f'{of}value']:.2f} [{row[f'{of}low']:.2f}, {row[f'{of}high']:.2f}]"
            for of in ("", "wrong_image_", "untrained_")
        )
        print(f"{row['images']}: {row['claim']} ({row['measure']}): {row['verdict']}")
        print(f"    {value}; a wrong image {wrong}; untrained {untrained}")


if __name__ == "__main__":
    runtime.run(main)
