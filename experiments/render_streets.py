"""Renders pairs of views of streets, cars or rooms, to look at or to try an encoder on.

    python -m experiments.render_streets --scenes=16 --out=runs/streets
    python -m experiments.render_streets --kind=rooms --interventions --scenes=4 --out=runs/rooms

Writes images/NNNN_{0,1}.png, grid.png (each pair side by side, labelled with the angle between the
cameras in degrees) and run.json. With --interventions, images/NNNN_NAME.png and a grid of what one
change alone does to each scene: of noise, photograph, colour, texture, light, clutter or geometry,
or of the camera's pose (`posenet_jax.scenes.interventions` says how much).
Results of an earlier run in the same folder are replaced. The same seed on the same machine gives
the same bytes. Exit code: 0; 1 if some facades could not be read or pictures not be written (they
are named); 2 if nothing could be rendered.
"""

from absl import flags

from experiments.common import options, runtime

_OUT = options.out()
_KIND = options.rendered_kind()
_INTERVENTIONS = flags.DEFINE_bool(
    "interventions", False, "Change one thing at a time instead of moving the camera."
)
_SCENES = flags.DEFINE_integer("scenes", 16, "Scenes to render, two views of each.", lower_bound=1)
_SEED = options.seed()
_SIZE = options.size()
_RAYS = flags.DEFINE_enum("rays", "2", ["1", "2", "4"], "Rays a pixel, for antialiasing.")
_FACADES = options.facades()

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse(renamed={"num": "scenes"})

import jax
import numpy as np
from jax.sharding import Mesh

from experiments.common import images
from posenet_jax import geometry, metrics, scenes
from posenet_jax.data import training_pairs
from posenet_jax.images.contact_sheet import image_grid
from posenet_jax.io.files import write_png
from posenet_jax.io.output_folder import OutputFolder
from posenet_jax.io.provenance import run_record
from posenet_jax.scenes import interventions

_BATCH = 16


def _picture(number: int, suffix: str) -> str:
    return f"images/{number:04d}_{suffix}.png"


def _write(out: OutputFolder, columns: dict[str, np.ndarray], suffixes: list[str], **labels) -> str:
    """The pictures [N, H, W, 3] of every column and the page of all; what `out.finish` returns."""
    out.begin()
    out.write_record(run_record(flags.FLAGS.flag_values_dict()))
    for suffix, pictures in zip(suffixes, columns.values(), strict=True):
        for number, image in enumerate(pictures):
            with out.spared():
                write_png(out.path / _picture(number, suffix), image)
    with out.spared():
        image_grid(out.path / "grid.png", columns, **labels)
    return out.finish(runtime.tell)


def _write_pairs(out: OutputFolder, key: jax.Array, source: training_pairs.RenderedPairs) -> str:
    draws = range(-(-_SCENES.value // _BATCH))
    made = [jax.device_get(source(jax.random.fold_in(key, i))) for i in draws]
    views = jax.tree.map(lambda *xs: np.concatenate(xs)[: _SCENES.value], *made)
    truth = geometry.relative_poses(views.rotation, views.centre)
    angles = metrics.rotation_errors(np.zeros_like(truth), truth)
    columns = {"view 1": views.image[:, 0], "view 2": views.image[:, 1]}
    labels = {"view 2": [f"{angle:.0f}°" for angle in angles]}
    title = f"Rendered {_KIND.value}: two views of one target"
    return _write(out, columns, ["0", "1"], cell_labels=labels, title=title)


def _write_interventions(
    out: OutputFolder, key: jax.Array, atlas: scenes.Atlas, config: scenes.ViewConfig
) -> str:
    keys = interventions.numbered_keys(key, 0, _SCENES.value)
    columns = {
        name: np.asarray(scenes.render_scenes(scene, atlas, config).image[:, 0])
        for name, scene in interventions.draw(keys, config).items()
    }
    title = f"Rendered {_KIND.value}: one change at a time"
    return _write(out, columns, list(columns), title=title)


def main() -> int:
    """Renders and writes."""
    kind, size = scenes.kind_named(_KIND.value).config, _SIZE.value or 100
    config = kind(height=size, width=size, rays=int(_RAYS.value))
    changes = ["original", *interventions.available(config)]
    suffixes = changes if _INTERVENTIONS.value else ["0", "1"]
    files = [_picture(number, suffix) for number in range(_SCENES.value) for suffix in suffixes]
    out = OutputFolder(_OUT.value, "render_streets", ["grid.png", *files])
    mesh = Mesh(np.asarray(jax.devices()), ("pairs",))
    atlas_key, scene_key = jax.random.split(jax.random.key(_SEED.value))
    atlas, _, skipped = images.facade_atlases(_FACADES.value, atlas_key, mesh, _OUT.value)
    if _INTERVENTIONS.value:
        missing = _write_interventions(out, scene_key, atlas, config)
    else:
        source = training_pairs.RenderedPairs(atlas, config, _BATCH, mesh)
        missing = _write_pairs(out, scene_key, source)
    print(f"wrote {out.path}/grid.png, run.json and images/{missing}")
    return 1 if skipped or out.failures else 0


if __name__ == "__main__":
    runtime.run(main)
