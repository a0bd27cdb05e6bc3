"""`experiments.render_streets` without rendering: grey views, at once.

python -m streets_child ARGUMENTS
"""

import runpy

import numpy as np

from posenet_jax.data import training_pairs
from posenet_jax.data.training_pairs import Pairs


def _views(source, key) -> Pairs:
    noise = np.random.default_rng(0).integers(0, 256, (source.count, 2, 64, 64, 3))
    rotation = np.broadcast_to(np.eye(3, dtype=np.float32), (source.count, 2, 3, 3))
    centre = np.zeros((source.count, 2, 3), np.float32)
    weight = np.ones(source.count, np.float32)
    return Pairs(noise.astype(np.uint8), rotation, centre, centre[:, 0], weight, weight, weight)


if __name__ == "__main__":
    training_pairs.facade_atlases = lambda *arguments, **options: (None, None, [])
    training_pairs.RenderedPairs.__call__ = _views
    runpy.run_module("experiments.render_streets", run_name="__main__")
