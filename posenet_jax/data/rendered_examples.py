"""Rendered scenes as examples of a data set: each scene a target, seen twice."""

import dataclasses
import functools
import hashlib
import io
import itertools
import json
import operator
import threading
from collections.abc import Iterator
from typing import Any, SupportsIndex

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posenet_jax import numerics, scenes
from posenet_jax.data.sources import NamedImage
from posenet_jax.data.splits import Split, split_of
from posenet_jax.io.files import png
from posenet_jax.threads import map_in_threads

Array = jax.Array


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class RenderedExamples:
    """`count` scenes of a kind. A scene depends on seed, number and configuration alone.

    kind: any name that `scenes.kind_named` takes; kept is the one written in data sets.
    textures: what the atlas was made of, for the record. facades: digest of the contents of those
    files, None where there are none.
    batch: scenes rendered together, a multiple of the mesh's devices.
    """

    kind: str
    count: int
    seed: int
    atlas: scenes.Atlas
    mesh: Mesh
    textures: str = "procedural"
    facades: str | None = None
    size: int = 100
    batch: int = 32

    def __post_init__(self) -> None:
        # Data sets and fingerprints of before know this name.
        object.__setattr__(self, "kind", scenes.kind_named(self.kind).written)

    @property
    def recipe(self) -> dict[str, Any]:
        """Facts that the data set is made from."""
        recipe = {
            "kind": self.kind,
            "count": self.count,
            "seed": self.seed,
            "size": self.size,
            "textures": self.textures,
        }
        return recipe | ({"facades": self.facades} if self.facades else {})

    def name(self, number: int) -> str:
        """Name of a scene and its target, by which examples are split."""
        return f"{self.kind}/{self.seed}/{number}"

    def of_split(self, split: Split) -> Iterator[tuple[int, dict[str, Any]]]:
        """(number, example) of the scenes of a split."""
        numbers = (i for i in range(self.count) if split_of(self.name(i)) == split)
        while batch := list(itertools.islice(numbers, self.batch)):
            rows = range(len(batch))
            encode = functools.partial(self._example, batch, self.render(batch))
            yield from zip(batch, map_in_threads(encode, rows), strict=True)

    def render(self, numbers: list[int]) -> dict[str, np.ndarray]:
        """Features [batch, ...]; beyond the numbers the last scene is repeated."""
        config = dataclasses.replace(
            scenes.kind_named(self.kind).config(), height=self.size, width=self.size
        )
        padded = np.pad(numbers, (0, self.batch - len(numbers)), mode="edge")
        keys = jax.vmap(jax.random.fold_in, (None, 0))(numerics.seed_key(self.seed), padded)
        keys = jax.device_put(keys, NamedSharding(self.mesh, PartitionSpec(self.mesh.axis_names)))
        views = scenes.render_pairs(keys, self.atlas, config)
        fields = views._asdict() | {"vanishing": _vanishing(views, self.size)}
        del fields["geometry"]
        fields["field_of_view"] = fields["field_of_view"][:, 0]  # both views have the same
        return {name: np.asarray(value) for name, value in fields.items()}

    def _example(
        self, numbers: list[int], features: dict[str, np.ndarray], row: int
    ) -> dict[str, Any]:
        example: dict[str, Any] = {name: values[row] for name, values in features.items()}
        example["image"] = [io.BytesIO(png(view)) for view in example["image"]]
        return example | {"name": self.name(numbers[row])}


@functools.partial(jax.jit, static_argnames=("size",))
def _vanishing(views: scenes.Views, size: int) -> Array:
    """[B, 2, 3, 3] homogeneous pixels of the scene's axes."""
    cameras = scenes.Camera(views.rotation, views.centre, views.field_of_view)
    one = functools.partial(scenes.vanishing_points, height=size, width=size)
    return jax.vmap(jax.vmap(one))(cameras)


class RenderedImages:
    """Both views of every scene as images of their own, the first `limit`: an `ImageSource`.

    Scenes are rendered a batch at a time, when one of them is asked for, and the last few are kept.
    """

    def __init__(self, examples: RenderedExamples, limit: int | None = None) -> None:
        self._examples = examples
        self._length = min(2 * examples.count, limit or 2 * examples.count)
        self._lock = threading.Lock()
        self._batch = functools.lru_cache(maxsize=8)(self._render)
        self.facades = examples.facades
        # Not of the facades' contents: fingerprints of before are to be recognised.
        recipe = {name: value for name, value in examples.recipe.items() if name != "facades"}
        if len(self) < 2 * examples.count:
            recipe["limit"] = len(self)
        text = json.dumps(recipe, sort_keys=True)
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return self._length

    def name(self, position: int) -> str:
        """Name of the scene, and the view's number."""
        return f"{self._examples.name(position // 2)}/{position % 2}"

    def __getitem__(self, position: SupportsIndex) -> NamedImage:
        index = operator.index(position)
        if not 0 <= index < len(self):
            raise IndexError(f"position {index} of {len(self)} rendered images")
        number, row = divmod(index // 2, self._examples.batch)
        with self._lock:  # threads that want the same batch wait for it instead of making it twice
            images = self._batch(number)
        return NamedImage(self.name(index), images[row, index % 2])

    def _render(self, number: int) -> np.ndarray:
        start = number * self._examples.batch
        stop = min(start + self._examples.batch, self._examples.count)
        return self._examples.render(list(range(start, stop)))["image"]
