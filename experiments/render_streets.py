"""Renders pairs of views of streets, to look at or to try an encoder on.

    python -m experiments.render_streets --num=16 --out=runs/streets

Writes images/NNNN_{0,1}.png, grid.png (each pair side by side, labelled with the angle between the
cameras in degrees) and run.json. The same seed on the same machine gives the same bytes.
"""

import jax
import numpy as np
from absl import flags
from jax.sharding import Mesh

from experiments import runtime
from posenet_jax import evaluation, pairs, reporting, scenes, training

_OUT = flags.DEFINE_string("out", None, "Folder for the results.", required=True)
_NUM = flags.DEFINE_integer("num", 16, "Pairs, rounded up to whole batches.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Decides every street.")
_SIZE = flags.DEFINE_integer("size", 100, "Pixels, width and height.", lower_bound=2)
_RAYS = flags.DEFINE_enum("rays", "2", ["1", "2", "4"], "Rays a pixel, for antialiasing.")
_FACADES = flags.DEFINE_string(
    "facades",
    None,
    "Folder of facade photographs to texture buildings with; invented if not given.",
)
_BATCH = 16


def main() -> int:
    """Renders and writes."""
    out = reporting.prepare_output(_OUT.value)
    mesh = Mesh(np.asarray(jax.devices()), ("pairs",))
    atlas_key, street_key = jax.random.split(jax.random.key(_SEED.value))
    atlas, _, skipped = pairs.facade_atlases(_FACADES.value, atlas_key, mesh)
    for name in skipped:
        print(f"left out: {name}")
    config = scenes.SceneConfig(height=_SIZE.value, width=_SIZE.value, rays=int(_RAYS.value))
    source = pairs.RenderedPairs(atlas, config, _BATCH, mesh)
    draws = range(-(-_NUM.value // _BATCH))
    made = [jax.device_get(source(jax.random.fold_in(street_key, i))) for i in draws]
    views = jax.tree.map(lambda *xs: np.concatenate(xs)[: _NUM.value], *made)
    truth = training.relative_poses(views.rotation, views.centre)
    angles = evaluation.rotation_errors(np.zeros_like(truth), truth)
    (out / "images").mkdir(exist_ok=True)
    for i, pair in enumerate(views.image):
        for view, image in enumerate(pair):
            reporting.write_png(out / "images" / f"{i:04d}_{view}.png", image)
    columns = {"view 1": views.image[:, 0], "view 2": views.image[:, 1]}
    labels = {"view 2": [f"{angle:.0f}°" for angle in angles]}
    title = "Rendered streets: two views of one target"
    reporting.image_grid(out / "grid.png", columns, cell_labels=labels, title=title)
    reporting.write_json(out / "run.json", reporting.run_record(flags.FLAGS.flag_values_dict()))
    print(f"wrote {out}/grid.png, run.json and images/")
    return 0


if __name__ == "__main__":
    runtime.run(main)
