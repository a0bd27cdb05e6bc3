"""Data sets of scenes that are drawn from their numbers instead of rendered, built in no time."""

from pathlib import Path

import jax
import numpy as np
import tensorflow_datasets as tfds
from jax.sharding import Mesh

from posenet_jax.data import dataset_writing, tfds_builder
from posenet_jax.data.rendered_examples import RenderedExamples

tfds.disable_progress_bar()


class Drawn(RenderedExamples):
    """Examples whose features are a function of their numbers, without rendering."""

    def render(self, numbers):
        padded = np.pad(numbers, (0, self.batch - len(numbers)), mode="edge")
        rows = [drawn_features(number, self.size) for number in padded]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def drawn_features(number: int, size: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(int(number))

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    return {
        "image": rng.integers(0, 256, (2, size, size, 3)).astype(np.uint8),
        "rotation": normal(2, 3, 3),
        "centre": normal(2, 3),
        "field_of_view": np.float32(1.2),
        "target": normal(3),
        "normal": normal(3),
        "camera_normal": normal(2, 3),
        "visible": np.array([True, number % 2 == 0]),
        "vanishing": normal(2, 3, 3),
    }


def drawn_examples(count=60, **changes) -> Drawn:
    mesh = Mesh(np.asarray(jax.devices()), ("scenes",))
    options = {"kind": "cities", "seed": 3, "size": 12, "batch": 8} | changes
    return Drawn(count=count, atlas=None, mesh=mesh, **options)


def build_set(out, builder=tfds_builder.RenderedScenes, **options):
    made = builder(data_dir=out, **options)
    return made, dataset_writing.build(made)


def content_of(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
