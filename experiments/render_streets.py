"""Renders pairs of views of streets, cars or rooms, to look at or to try an encoder on.

    posenet-jax render_streets --scenes=16 --out=runs/streets
    posenet-jax render_streets --kind=rooms --interventions --scenes=4 --out=runs/rooms

Writes images/NNNN_{0,1}.png, grid.png (each pair side by side, labelled with the angle between the
cameras in degrees) and run.json. With --interventions, images/NNNN_NAME.png and a grid of what one
change alone does to each scene: of noise, photograph, colour, texture, light, clutter or geometry,
or of the camera's pose (`posenet_jax.scenes.interventions` says how much).
Results of an earlier run in the same folder are replaced. The same seed on the same machine gives
the same bytes. Exit code: 0; 1 if some facades could not be read or pictures not be written (they
are named); 2 if nothing could be rendered.
"""

from absl import flags

from .common import options, runtime

_OUT = options.out()
_KIND = options.rendered_kind()
_INTERVENTIONS = flags.DEFINE_bool(
    "interventions", False, "Change one thing at a time instead of moving the camera."
)
_SCENES = flags.DEFINE_integer("scenes", 16, "Scenes to render, two views of each.", lower_bound=1)
_SEED = options.seed()
_SIZE = options.size()
_RAYS = flags.DEFINE_enum("rays", "2", ["1", "2", "4"], "Rays cast per pixel, for antialiasing.")
_FACADES = options.facades()

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse(renamed={"num": "scenes"})

from functools import partial
from typing import Any

import jax
import numpy as np

from posenet_jax import geometry, metrics, numerics, scenes, sharding
from posenet_jax.data import training_pairs
from posenet_jax.data.training_pairs import RenderedPairs
from posenet_jax.images.contact_sheet import image_grid
from posenet_jax.io.output_folder import OutputFolder
from posenet_jax.scenes import interventions

from .common import images, results

_BATCH = 16


def _picture(number: int, suffix: str) -> str:
    return f"images/{number:04d}_{suffix}.png"


def _pairs(key: jax.Array, source: RenderedPairs) -> dict[str, Any]:
    """Arguments of `image_grid`: both views of each scene, with the angle between them."""
    views = training_pairs.drawn(source, key, _SCENES.value)
    views = jax.tree.map(lambda column: column[: _SCENES.value], views)
    truth = geometry.relative_poses(views.rotation, views.centre)
    angles = metrics.rotation_errors(np.zeros_like(truth), truth)
    return {
        "columns": {"view 1": views.image[:, 0], "view 2": views.image[:, 1]},
        "cell_labels": {"view 2": [f"{angle:.0f}°" for angle in angles]},
        "title": f"Rendered {_KIND.value}: two views of one target",
    }


def _changed(key: jax.Array, atlas: scenes.Atlas, config: scenes.ViewConfig) -> dict[str, Any]:
    """Arguments of `image_grid`: each scene before and after every change."""
    keys = interventions.numbered_keys(key, 0, _SCENES.value)
    columns = {
        name: np.asarray(scenes.render_scenes(scene, atlas, config).image[:, 0])
        for name, scene in interventions.draw(keys, config).items()
    }
    return {"columns": columns, "title": f"Rendered {_KIND.value}: one change at a time"}


def main() -> int:
    """Renders and writes; returns the exit code."""
    kind, size = scenes.kind_named(_KIND.value).config, _SIZE.value or 100
    config = kind(height=size, width=size, rays=int(_RAYS.value))
    changes = ["original", *interventions.available(config)]
    suffixes = changes if _INTERVENTIONS.value else ["0", "1"]
    files = [_picture(number, suffix) for number in range(_SCENES.value) for suffix in suffixes]
    out = OutputFolder(_OUT.value, "render_streets", ["grid.png", *files])
    mesh = sharding.device_mesh("pairs")
    atlas_key, scene_key = jax.random.split(numerics.seed_key(_SEED.value))
    atlas, _, skipped = images.facade_atlases(_FACADES.value, atlas_key, mesh, _OUT.value)
    if _INTERVENTIONS.value:
        grid = _changed(scene_key, atlas, config)
    else:
        grid = _pairs(scene_key, RenderedPairs(atlas, config, _BATCH, mesh))
    pictures = {
        _picture(number, suffix): picture
        for suffix, column in zip(suffixes, grid["columns"].values(), strict=True)
        for number, picture in enumerate(column)
    }
    pages: dict[str, results.Draw] = {"grid.png": partial(image_grid, **grid)}
    missing = results.write(out, {}, tables={}, pages=pages, pictures=pictures)
    print(f"wrote {out.path}/grid.png, run.json and images/{missing}")
    return 1 if skipped or out.failures else 0


if __name__ == "__main__":
    runtime.run(main)
