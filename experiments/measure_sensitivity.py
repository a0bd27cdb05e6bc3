"""Measures how far each layer moves when one thing in a rendered scene is changed.

    python -m experiments.measure_sensitivity --out=runs/sensitivity

Changes, each alone: sensor noise, the photograph's settings, colour, texture, light, clutter (cars,
trees and posts taken away; not in rooms), geometry, yaw, pitch and roll by 10°, and a step to the
right by 0.15 of the target's distance. The camera's moves are of that size; all else is drawn anew,
as different as training's scenes are from each other. The last row, another scene, is all at once.

Writes sensitivity.csv (a row an encoder, layer and change: ‖φ(x') - φ(x)‖ / ‖φ(x)‖, its ratio to
that of 10° of yaw and to that of another scene, both over the control's, each with its interval of
95 % over scenes; `pixels` is the image itself), sensitivity.png (1 = 10° of yaw),
sensitivity_other.png (1 = another scene), rotations.csv (where an encoder has pose heads: the
rotation that they see between a scene and itself changed, degrees, beside the true one), grid.png
(a few scenes under every change) and run.json.
"""

from absl import flags

from experiments.common import options, runtime

_OUT = options.out()
_ENCODER = options.encoder()
_CONTROL = options.control()
_KIND = options.rendered_kind()
_SCENES = flags.DEFINE_integer(
    "scenes", 256, "Scenes to render, each under every change.", lower_bound=2
)
_SEED = options.seed(options.MEASURING_SEED)
_FACADES = options.facades()
_BATCH = options.render_batch()
_SHOWN = options.shown(8)

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse(renamed={"batch": "render_batch"})

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from experiments.common import images, rendered
from posenet_jax import scenes
from posenet_jax.analysis import sensitivity
from posenet_jax.encoders import weights
from posenet_jax.errors import InputError
from posenet_jax.images.contact_sheet import image_grid
from posenet_jax.io.files import write_csv
from posenet_jax.io.output_folder import OutputFolder
from posenet_jax.io.provenance import run_record
from posenet_jax.report import analysis_plots


def main() -> int:
    """Measures, writes and prints."""
    encoders = [weights.load_encoder(name) for name in (_ENCODER.value, _CONTROL.value)]
    if encoders[0].name == encoders[1].name:
        raise InputError(f"--control must be another encoder than {encoders[0].name!r}")
    mesh = Mesh(np.asarray(jax.devices()), ("scenes",))
    batch = rendered.batch(mesh, _BATCH.value)
    files = ["sensitivity.csv", "sensitivity.png", "sensitivity_other.png", "grid.png"]
    out = OutputFolder(_OUT.value, "measure_sensitivity", [*files, "rotations.csv"])
    atlas_key, scene_key = jax.random.split(jax.random.key(_SEED.value))
    _, atlas, skipped = images.facade_atlases(_FACADES.value, atlas_key, mesh, _OUT.value)
    size = encoders[0].preprocessing.size
    with tqdm(total=_SCENES.value, unit="scene", dynamic_ncols=True) as bar:
        found = sensitivity.measure(
            encoders,
            atlas,
            scenes.kind_named(_KIND.value).config(height=size, width=size),
            key=scene_key,
            mesh=mesh,
            count=_SCENES.value,
            batch=batch,
            shown=_SHOWN.value,
            progress=bar.update,
        )
    rows = sensitivity.table(found.displacements)
    out.begin()
    write_csv(out.held("sensitivity.csv"), rows)
    seen = sensitivity.rotation_table(found.displacements)
    if seen:
        write_csv(out.held("rotations.csv"), seen)
    record = {
        "weights": {encoder.name: encoder.fingerprint for encoder in encoders},
        "scenes_left_out": found.left_out,
        "facades_left_out": len(skipped),
    }
    flag_values = flags.FLAGS.flag_values_dict()
    out.write_record(run_record(flag_values, record))
    with out.spared():
        analysis_plots.sensitivity_figure(out.path / "sensitivity.png", rows)
    with out.spared():
        other = out.path / "sensitivity_other.png"
        analysis_plots.sensitivity_figure(other, rows, unit="other")
    title = f"Rendered {_KIND.value}: one change at a time"
    with out.spared():
        image_grid(out.path / "grid.png", found.pictures, title=title)
    missing = out.finish(runtime.tell)
    _print(rows, seen, encoders[0].name)
    print(f"wrote {out.path}/{', '.join(files)} and run.json{missing}")
    return 1 if skipped or out.failures else 0


def _print(rows: list[dict], seen: list[dict], encoder: str) -> None:
    shown = [row for row in rows if (row["encoder"], row["layer"]) == (encoder, "fc5")]
    print(f"{encoder} fc5, {shown[0]['scenes']} scenes: over 10° of yaw (the same over control's)")
    angles = {row["intervention"]: row["mean"] for row in seen if row["encoder"] == encoder}
    for row in shown:
        ratio, control = (
            f"{row[name]:.2f} [{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]"
            for name in ("ratio_to_yaw", "yaw_over_control")
        )
        name = row["intervention"]
        angle = f"; the heads see {angles[name]:.1f}°" if name in angles else ""
        print(f"  {name:14} {ratio:20} ({control}){angle}")


if __name__ == "__main__":
    runtime.run(main)
