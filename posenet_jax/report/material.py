"""The material of the report's sections; each part is made once, when a section first asks for it.

Images are uint8 RGB [N, H, W, 3]. A group is a set of images that are shown together: a kind of
rendered scenes, or photographs under a name.
"""

import contextlib
import dataclasses
import functools
import math
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jax.sharding import Mesh

from posenet_jax import numerics, scenes, sharding
from posenet_jax.analysis import findings, sensitivity
from posenet_jax.data import training_pairs
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.errors import InputError
from posenet_jax.evaluation.feature_networks import FeatureNetworks
from posenet_jax.inversion import recipes
from posenet_jax.inversion.recipes import Recipe
from posenet_jax.io import files
from posenet_jax.report import inversion_sections, story_material
from posenet_jax.report.inversion_sections import LAYERS, SAMPLES, Inverted

Array = jax.Array
# (description, total, unit) → context that gives a function to call with the number of units done.
Progress: TypeAlias = Callable[
    [str, int, str], contextlib.AbstractContextManager[Callable[[int], None]]
]

_LAYERED = 16  # streets that are inverted layer by layer, of those on the page

# Numbers of keys that were drawn before keys went by name; the page's pictures rest on them.
_NUMBERS = {
    name: number
    for number, name in enumerate(
        ("atlas", "scenes", "inversions", "decoders", "sensitivity", "surgery", "known scenes")
    )
}


class SceneGroup(NamedTuple):
    """A kind of rendered scenes as the page shows it."""

    kind: str  # its name among the kinds of scenes
    file: str  # name of the picture of its inversions, without ending
    title: str
    description: str
    number: int  # folded into the keys of its scenes


# Folded into the keys of scenes before kinds had a registry; the page's pictures rest on them.
_KIND_NUMBERS = {"streets": 0, "rooms": 1, "cars": 2}
SCENE_GROUPS = {
    name: SceneGroup(
        kind.written,
        *kind.figure_titles,
        _KIND_NUMBERS.get(name, zlib.crc32(name.encode())),
    )
    for name, kind in sorted(scenes.KINDS.items(), key=lambda item: item[1].figure or math.inf)
}
"""Groups of rendered scenes by name, in the page's order."""
NAMES_TAKEN = (*SCENE_GROUPS, *(group.kind for group in SCENE_GROUPS.values()))
"""Names that no set of photographs may have."""


def groups_of(kinds: Collection[str]) -> tuple[str, ...]:
    """Groups besides streets, which the page always has, of kinds of scenes by any of their names.

    Raises InputError for an unknown kind.
    """
    given = {scenes.kind_named(kind).name for kind in kinds}
    return tuple(group for group in SCENE_GROUPS if group in given and group != "streets")


class Photographs(NamedTuple):
    """Photographs of one group."""

    images: np.ndarray  # [N, H, W, 3] uint8 RGB
    names: Sequence[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Sizes of the page's measurements.

    kinds: groups of rendered scenes besides streets. scenes: streets; half as many of other kinds.
    pairs: scenes of the sensitivity, pairs of the surgery. probe_scenes: streets of linear probes,
    an eighth of it the other kinds' known scenes. steps: of each inversion. decoder_steps: of the
    decoder that learns by heart. batch: scenes that a device renders together.

    Raises InputError for an odd batch, since two pairs share a street, and for unknown kinds.
    """

    kinds: tuple[str, ...] = ("rooms", "cars")
    scenes: int = 24
    pairs: int = 128
    probe_scenes: int = 768
    steps: int = recipes.CALIBRATED.steps
    decoder_steps: int = 400
    batch: int = 32
    seed: int = 1_000_003

    def __post_init__(self) -> None:
        if self.batch % 2:
            raise InputError(f"batch must be even, as two pairs share a street, not {self.batch}")
        for group in self.kinds:
            if group not in SCENE_GROUPS:
                raise InputError(f"no kind {group!r}; there are {', '.join(SCENE_GROUPS)}")


@contextlib.contextmanager
def silent(description: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Progress that nobody is told of."""
    yield lambda count: None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Material:
    """The inputs of a page and, as properties computed once, what several sections share.

    out: folder of the sections' files. encoders: the trained one and its untrained control.
    networks: of ImageNet, in whose features pictures are compared with originals.
    beside: further (encoder, layer) to invert. photographs: group → photographs, and `claims`:
    rows of claims; where there are none they are measured. record: of `provenance.run_record`,
    with `weights` and `command`.
    """

    options: ReportOptions
    out: Path
    encoders: Sequence[Encoder]
    judge: Encoder
    networks: FeatureNetworks = dataclasses.field(default_factory=FeatureNetworks)
    beside: Sequence[tuple[Encoder, str]] = ()
    photographs: Mapping[str, Photographs] = dataclasses.field(default_factory=dict)
    claims_given: Sequence[Mapping[str, Any]] = ()
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    progress: Progress = silent

    def key_of(self, name: str) -> Array:
        """Returns the random key of a section or a part of the material, by its name alone."""
        key = numerics.seed_key(self.options.seed)
        if name in _NUMBERS:
            return jax.random.split(key, len(_NUMBERS))[_NUMBERS[name]]
        return jax.random.fold_in(key, zlib.crc32(name.encode()))

    @functools.cached_property
    def groups(self) -> tuple[str, ...]:
        """Groups of rendered scenes, streets first."""
        return tuple(dict.fromkeys(("streets", *self.options.kinds)))

    @functools.cached_property
    def mesh(self) -> Mesh:
        """Mesh of all devices."""
        return sharding.device_mesh("scenes")

    @property
    def batch(self) -> int:
        """Number of scenes rendered together, on all devices."""
        return self.options.batch * self.mesh.size

    @functools.cached_property
    def atlas(self) -> scenes.Atlas:
        """Facades that no encoder was trained on."""
        _, atlas, _ = training_pairs.facade_atlases(None, self.key_of("atlas"), self.mesh)
        return atlas

    def config(self, group: str) -> scenes.ViewConfig:
        """Configuration of a group's scenes, at the encoder's size."""
        size = self.encoders[0].preprocessing.side
        return findings.configured(SCENE_GROUPS[group].kind, size)

    @property
    def recipe(self) -> Recipe:
        """Recipe of all inversions."""
        return dataclasses.replace(recipes.CALIBRATED, steps=self.options.steps)

    @functools.cached_property
    def _streets(self) -> findings.SceneSet:
        count = max(self.options.scenes, SAMPLES)
        with self.progress("rendering streets", count, "scene") as done:
            streets = self._render("streets", "scenes", count)
            done(count)
        return streets

    @property
    def samples(self) -> np.ndarray:
        """Streets, as many as the page has samples at least."""
        return self._streets.images

    @functools.cached_property
    def rendered(self) -> dict[str, findings.SceneSet]:
        """{group: rendered scenes}, those that are inverted."""
        found = {"streets": self._streets.take(slice(self.options.scenes))}
        count = max(2, self.options.scenes // 2)
        for group in self.groups[1:]:
            with self.progress(f"rendering {group}", count, "scene") as done:
                found[group] = self._render(group, "scenes", count)
                done(count)
        return found

    @functools.cached_property
    def known(self) -> dict[str, findings.SceneSet]:
        """{group: further scenes}, the knowledge of baselines; probes are fitted on the streets."""
        fewer = max(2, self.options.probe_scenes // 8)
        return {
            group: self._render(
                group, "known scenes", self.options.probe_scenes if group == "streets" else fewer
            )
            for group in self.groups
        }

    def _render(self, group: str, key: str, count: int) -> findings.SceneSet:
        own = jax.random.fold_in(self.key_of(key), SCENE_GROUPS[group].number)
        config = self.config(group)
        return findings.scene_set(own, self.atlas, config, self.mesh, count, batch=self.batch)

    @functools.cached_property
    def originals(self) -> dict[str, np.ndarray]:
        """{group: images} of all groups, photographs last."""
        rendered = {group: views.images for group, views in self.rendered.items()}
        return rendered | {group: photos.images for group, photos in self.photographs.items()}

    @functools.cached_property
    def inverted(self) -> dict[str, list[Inverted]]:
        """{group: its images inverted from every encoder and layer}."""
        runs = [(encoder, layer) for encoder in self.encoders for layer in LAYERS]
        runs += self.beside
        recipe, key = self.recipe, self.key_of("inversions")
        work = sum(len(images) for images in self.originals.values()) * len(runs) * recipe.steps
        with self.progress("inverting", work, "image·step") as done:
            return {
                group: [
                    inversion_sections.invert(
                        group, encoder, layer, images,
                        key=key, recipe=recipe, judge=self.judge, lpips=self.networks.lpips,
                        progress=done,
                    )
                    for encoder, layer in runs
                ]
                for group, images in self.originals.items()
            }  # fmt: skip

    @functools.cached_property
    def baselines(self) -> list[Inverted]:
        """Scores without inversion; photographs are compared with the known streets."""
        known = self.known
        return [
            baseline
            for group, images in self.originals.items()
            for layer in LAYERS
            for baseline in inversion_sections.baselines(
                group, self.encoders[0], layer, images,
                known.get(group, known["streets"]).images, judge=self.judge,
                lpips=self.networks.lpips,
            )
        ]  # fmt: skip

    @functools.cached_property
    def claims(self) -> Sequence[Mapping[str, Any]]:
        """Rows of claims: those given, or measured and written to claims.csv.

        Measured are the images inverted from fc5, and probes of fc5 on the known streets.
        """
        if self.claims_given:
            return self.claims_given
        photographs = {
            group: findings.photograph_set(photos.images)
            for group, photos in self.photographs.items()
        }
        rows: list[Mapping[str, Any]] = []
        for group, views in (self.rendered | photographs).items():
            by_name = {one.encoder: one.pictures for one in self.inverted[group] if _of_fc5(one)}
            pictures = {encoder.name: by_name[encoder.name] for encoder in self.encoders}
            kind = SCENE_GROUPS[group].kind if group in SCENE_GROUPS else group
            rows += findings.reconstruction_claims(kind, "fc5", views, pictures).rows
        kind, streets = SCENE_GROUPS["streets"].kind, self.known["streets"]
        rows += findings.probe_claims(kind, self.encoders, "fc5", streets)
        files.write_csv(self.out / "claims.csv", rows)
        return rows

    @functools.cached_property
    def sensitivity(self) -> sensitivity.Measured:
        """Displacements of every layer under single changes of streets."""
        count = self.options.pairs
        with self.progress("sensitivity", count, "scene") as done:
            return sensitivity.measure(
                self.encoders, self.atlas, self.config("streets"),
                key=self.key_of("sensitivity"), mesh=self.mesh, count=count, batch=self.batch,
                progress=done,
            )  # fmt: skip

    @functools.cached_property
    def pairs(self) -> training_pairs.RenderedPairs:
        """Pairs of views of streets."""
        return training_pairs.RenderedPairs(
            self.atlas, self.config("streets"), self.batch, self.mesh
        )

    @functools.cached_property
    def essence(self) -> story_material.Essence:
        """The bundled images, and pictures made of their descriptors."""
        encoder, steps = self.encoders[0], self.options.steps
        images = story_material.demo_images(encoder.preprocessing)
        work = story_material.essence_work(encoder, len(images.pixels), steps)
        with self.progress("bundled images", work, "image·step") as done:
            return story_material.essence_of(
                encoder, images, key=self.key_of("essence"), steps=steps, progress=done
            )

    @functools.cached_property
    def layers(self) -> story_material.Layers:
        """Some of the streets, inverted in few steps from every layer of both encoders."""
        views = self.rendered["streets"].take(slice(_LAYERED))
        recipe = dataclasses.replace(self.recipe, steps=max(1, self.options.steps // 3))
        count = len(story_material.of_depth(self.encoders[0])) * len(self.encoders) * len(views)
        with self.progress("layer by layer", count * int(recipe.steps), "image·step") as done:
            return story_material.layer_by_layer(
                self.encoders, SCENE_GROUPS["streets"].kind, views, self.known["streets"],
                key=self.key_of("layers"), recipe=recipe, progress=done,
            )  # fmt: skip


def _of_fc5(inverted: Inverted) -> bool:
    return inverted.layer == "fc5"
