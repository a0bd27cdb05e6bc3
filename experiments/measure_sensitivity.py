"""Measures how far each layer moves when one thing in a rendered scene is changed.

    posenet-jax measure_sensitivity --out=runs/sensitivity

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

from .common import options, runtime

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

from functools import partial

import jax

from posenet_jax import numerics, scenes, sharding
from posenet_jax.analysis import sensitivity
from posenet_jax.encoders import weights
from posenet_jax.errors import InputError
from posenet_jax.images.contact_sheet import image_grid
from posenet_jax.io.output_folder import OutputFolder
from posenet_jax.report.analysis_plots import sensitivity_figure

from .common import images, progress, rendered, results

_FILES = ["sensitivity.csv", "sensitivity.png", "sensitivity_other.png", "grid.png"]


def main() -> int:
    """Measures, writes and prints; returns the exit code."""
    encoders = [weights.load_encoder(name) for name in (_ENCODER.value, _CONTROL.value)]
    if encoders[0].name == encoders[1].name:
        raise InputError(f"--control must be another encoder than {encoders[0].name!r}")
    mesh = sharding.device_mesh("scenes")
    batch = rendered.batch(mesh, _BATCH.value)
    out = OutputFolder(_OUT.value, "measure_sensitivity", [*_FILES, "rotations.csv"])
    atlas_key, scene_key = jax.random.split(numerics.seed_key(_SEED.value))
    _, atlas, skipped = images.facade_atlases(_FACADES.value, atlas_key, mesh, _OUT.value)
    size = encoders[0].preprocessing.side
    with progress.bar(_SCENES.value, "scene") as bar:
        measured = sensitivity.measure(
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
    rows = sensitivity.table(measured.displacements)
    rotations = sensitivity.rotation_table(measured.displacements)
    facts = {
        "weights": {encoder.name: encoder.fingerprint for encoder in encoders},
        "scenes_left_out": measured.left_out,
        "facades_left_out": len(skipped),
    }
    title = f"Rendered {_KIND.value}: one change at a time"
    missing = results.write(
        out,
        facts,
        tables={"sensitivity.csv": rows, **({"rotations.csv": rotations} if rotations else {})},
        pages={
            "sensitivity.png": partial(sensitivity_figure, rows=rows),
            "sensitivity_other.png": partial(sensitivity_figure, rows=rows, unit="other"),
            "grid.png": partial(image_grid, columns=measured.pictures, title=title),
        },
    )
    print(*sensitivity.sentences(rows, rotations, encoders[0].name), sep="\n")
    print(f"wrote {out.path}/{', '.join(_FILES)} and run.json{missing}")
    return 1 if skipped or out.failures else 0


if __name__ == "__main__":
    runtime.run(main)
