"""Retention layer by layer: what is left of an image after each, by every measure of inversions.

A series is one encoder, trained and untrained, at several layers; series of the same number of
layers stand side by side, an ImageNet network's at layers of about the same depth. Inversions of
one layer of one encoder, of one set of images, are a part. Parts are kept in a folder, each under
a name that says what it depends on: a run goes on where it was stopped, and one with other sets,
layers or networks measures nothing twice.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy import ndimage

from posenet_jax.analysis import claims, findings, texture
from posenet_jax.analysis.findings import SceneSet
from posenet_jax.analysis.probes import PROBE_METHOD, Score
from posenet_jax.analysis.retention import Network
from posenet_jax.encoders import weights
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.errors import InputError
from posenet_jax.images.image_files import read_image
from posenet_jax.inversion import recipes
from posenet_jax.inversion.recipes import Recipe
from posenet_jax.io import files, run_files, storage

Array = jax.Array
Series = Sequence[Network]
Measures = Mapping[str, np.ndarray]  # measure -> [N]

CHANCES = {"sky": 0.5, "own_texture": texture.CHANCE}
"""Measures whose chance level is not 0."""

_WRONG = "wrong_"  # how columns of a part begin that compare with another image
_REMEDY = "remove it, and it is measured again"


def series(
    name: str, layers: Sequence[str], control: Encoder | str | None, *, size: int | None = None
) -> Series:
    """Returns the series of an encoder at layers. control: None: the same, untrained.

    An encoder as control stands in where it is of the same architecture. size: of the images that
    it must read. Raises InputError as `retention.network` does.
    """
    trained, _ = weights.encoder_and_layer(f"{name}/{layers[0]}", size=size)
    for layer in layers:
        trained.tap(layer)
    if isinstance(control, str):
        untrained = weights.load_encoder(control)
    elif control and type(control.module) is type(trained.module):
        untrained = control
    else:
        untrained = weights.control_of(trained)
    return [Network(trained, untrained, layer) for layer in layers]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Parts:
    """Parts that are measured, or kept in a folder by an earlier run.

    key: of the inversions' initial noise, the same for all parts.
    """

    folder: Path
    recipe: Recipe
    key: Array

    def path(self, encoder: Encoder, layer: str, group: str, views: SceneSet) -> Path:
        """Returns the file of one layer of an encoder, of one set of images."""
        facts = [digest(views), recipes.record(self.recipe), _seeds(self.key)]
        return self._path(encoder, layer, group, facts)

    def measured(
        self,
        encoder: Encoder,
        layer: str,
        group: str,
        views: SceneSet,
        progress: Callable[[int], None] | None = None,
    ) -> tuple[Measures, Measures]:
        """Returns the measures of the inversions, and of the same beside another original."""
        path = self.path(encoder, layer, group, views)
        if not storage.exists(path):
            pictures = findings.invert(
                encoder, layer, views, key=self.key, recipe=self.recipe, progress=progress
            )
            own = findings.measures(pictures, views)
            wrong = findings.measures(np.roll(pictures, 1, axis=0), views)
            columns = {**own, **{f"{_WRONG}{name}": values for name, values in wrong.items()}}
            rows = (
                dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
            )
            files.write_csv(path, [{"number": number} | row for number, row in enumerate(rows)])
        table = list(run_files.read_csv(path, ["number"], remedy=_REMEDY))
        read = {
            name: np.array([row.number(name) for row in table])
            for name in table[0].cells
            if name != "number"
        }
        parts: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = ({}, {})
        for name, values in read.items():
            parts[name.startswith(_WRONG)][name.removeprefix(_WRONG)] = values
        return parts

    def pictures_path(self, encoder: Encoder, layer: str, group: str, views: SceneSet) -> Path:
        """Returns the file of `pictures`, one below the other."""
        return self.path(encoder, layer, f"{group}-pictures", views).with_suffix(".png")

    def pictures(
        self,
        encoder: Encoder,
        layer: str,
        group: str,
        views: SceneSet,
        progress: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """Returns the inversions, uint8 RGB [N, H, W, 3], which `measured` does not keep.

        Each is that of the same place in a larger set: an image's result depends on no other.
        """
        path = self.pictures_path(encoder, layer, group, views)
        if not storage.exists(path):
            made = findings.invert(
                encoder, layer, views, key=self.key, recipe=self.recipe, progress=progress
            )
            files.write_png(path, made.reshape((-1, *made.shape[2:])))
        return read_image(path).reshape(views.images.shape)

    def probed(
        self, encoder: Encoder, layer: str, group: str, scenes: Callable[[], SceneSet], facts: Any
    ) -> Mapping[str, Score]:
        """Returns the scores of linear probes.

        scenes: called where they are not kept. facts: what tells these scenes from others.
        """
        path = self._path(encoder, layer, f"probes-{group}", [facts, PROBE_METHOD])
        if not storage.exists(path):
            scores = findings.probe_scores(encoder, layer, scenes())
            rows = [{"measure": name} | score._asdict() for name, score in scores.items()]
            files.write_csv(path, rows)
        return {
            row.cells["measure"]: Score(*(row.number(name) for name in Score._fields))
            for row in run_files.read_csv(path, ["measure", *Score._fields], remedy=_REMEDY)
        }

    def _path(self, encoder: Encoder, layer: str, group: str, facts: Any) -> Path:
        text = json.dumps(facts, sort_keys=True)
        short = hashlib.sha256(text.encode()).hexdigest()[:12]
        return self.folder / f"{encoder.fingerprint}-{layer}-{group}-{short}.csv"


def digest(arrays: Any) -> str:
    """SHA-256 of a pytree of arrays, such as all that is known of a set of images."""
    found = hashlib.sha256()
    for array in jax.tree.leaves(arrays):
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _seeds(key: Array) -> list[int]:
    return [int(number) for number in np.asarray(jax.random.key_data(key)).ravel()]


class Probes(NamedTuple):
    """Scenes for linear probes."""

    group: str
    scenes: Callable[[], SceneSet]  # renders them
    tested: int  # number that probes are scored on
    facts: Any  # what tells these scenes from others, as JSON


class Layers(NamedTuple):
    """Measurements of all series."""

    table: list[dict[str, Any]]  # a row an encoder, layer, set and measure
    claims: list[dict[str, Any]]  # rows of `claims.corrected`
    validation: list[dict[str, Any]]  # rows of `validation`

    @property
    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Rows by the name of their file."""
        validated = {"validation.csv": self.validation} if self.validation else {}
        return {"layers.csv": self.table, "claims.csv": self.claims, **validated}


def work(
    every: Sequence[Series], groups: Mapping[str, SceneSet], parts: Parts
) -> Iterator[tuple[Path, int]]:
    """Yields each part's file and the image·steps that it takes, those that are shared once."""
    seen = set()
    for one in every:
        for network in one:
            for group, views in groups.items():
                for encoder in network.both:
                    path = parts.path(encoder, network.layer, group, views)
                    if path not in seen:
                        seen.add(path)
                        yield path, len(views) * parts.recipe.steps


def measure(
    every: Sequence[Series],
    groups: Mapping[str, SceneSet],
    probes: Probes | None,
    *,
    parts: Parts,
    progress: Callable[[int], None] | None = None,
) -> Layers:
    """Measures every series on all groups of images, and by linear probes.

    progress: called with numbers of image·steps done, of those of `work` that no file has.
    Raises InputError where series have not the same number of layers.
    """
    if len({len(one) for one in every}) > 1:
        numbers = ", ".join(f"{one[0].trained.name} {len(one)}" for one in every)
        raise InputError(f"networks stand side by side at as many layers each, not {numbers}")
    found = Layers([], [], [])
    for group, views in groups.items():
        if views.twins is not None:
            found.validation.extend(validation(group, views))
    for one in every:
        for depth, network in enumerate(one, start=1):
            of = {"encoder": network.trained.name, "layer": network.layer, "depth": depth}
            for group, views in groups.items():
                (own, wrong), (random, _) = (
                    parts.measured(encoder, network.layer, group, views, progress)
                    for encoder in network.both
                )
                found.table.extend(of | row for row in measure_rows(group, own, wrong, random))
                rows = claims.table(group, own, wrong, random)
                found.claims.extend(of | row for row in rows)
            if probes:
                both = [
                    parts.probed(encoder, network.layer, probes.group, probes.scenes, probes.facts)
                    for encoder in network.both
                ]
                found.table.extend(
                    of | row for row in probe_rows(probes.group, probes.tested, *both)
                )
                rows = claims.probe_table(probes.group, probes.tested, *both)
                found.claims.extend(of | row for row in rows)
    return found._replace(claims=claims.corrected(found.claims))


def measure_rows(
    group: str, own: Measures, wrong: Measures, random: Measures
) -> list[dict[str, Any]]:
    """A row a measure: its mean and interval, of a wrong image and of the untrained network too."""
    rows = []
    for name, values in own.items():
        if not np.isfinite(values).any():
            continue
        row: dict[str, Any] = {"images": group, "count": int(np.isfinite(values).sum())}
        row |= {"measure": name, "chance": CHANCES.get(name, 0.0)}
        row |= claims.columns({"": values, "wrong_image_": wrong[name], "untrained_": random[name]})
        rows.append(row)
    return rows


def probe_rows(
    group: str, tested: int, own: Mapping[str, Score], random: Mapping[str, Score]
) -> list[dict[str, Any]]:
    """A row a probe, as in `measure_rows`; tested: number of scenes that it is scored on."""
    rows = []
    for name, score in own.items():
        row: dict[str, Any] = {"images": group, "count": tested}
        row |= {"measure": f"R² of {name}", "chance": 0.0}
        chance = Score(0.0, 0.0, 0.0)
        for of, one in (("", score), ("wrong_image_", chance), ("untrained_", random[name])):
            row |= {f"{of}{part}": value for part, value in one._asdict().items()}
        rows.append(row)
    return rows


def validation(group: str, views: SceneSet) -> list[dict[str, Any]]:
    """Rows of scores of scenes with twins that are changed in a known way: a row a change.

    Ceilings of the measures of texture: the scene itself, and with what an inversion loses lost.
    """
    images = views.images.astype(np.float64)
    noise = np.random.default_rng(0).normal(0.0, 20.0, images.shape)
    blurred = {
        f"blurred by {sigma} pixels": ndimage.gaussian_filter(images, (0, sigma, sigma, 0))
        for sigma in (1, 2, 4)
    }
    changed = {
        "the scene itself": images,
        **blurred,
        "a quarter of the contrast": 127.0 + (images - 127.0) / 4,
        "noise of 20 grey levels": images + noise,
        "moved by 3 pixels": np.roll(images, 3, axis=2),
        "in another light": views.relit,
        "a twin, of another texture": None if views.twins is None else views.twins[:, 0],
        "another scene": np.roll(images, 1, axis=0),
    }
    rows = []
    for name, made in changed.items():
        if made is not None:
            pictures = np.clip(np.rint(made), 0, 255).astype(np.uint8)
            found = texture.measures(pictures, views.images, views.twins)
            count = int(np.isfinite(found["own_texture"]).sum())
            row: dict[str, Any] = {"images": group, "count": count, "picture": name}
            rows.append(row | claims.columns({f"{of}_": values for of, values in found.items()}))
    return rows


def sentences(found: Layers) -> list[str]:
    """Returns a line for a person on each series and measure of texture, and on each ceiling."""
    lines = [
        f"{row['images']}, {row['picture']}: nearer to its own texture than to another"
        f" {row['own_texture_value']:.2f}"
        for row in found.validation
    ]
    for row in found.claims:
        value = f"{row['value']:.2f}; untrained {row['untrained_value']:.2f}"
        lines.append(
            f"{row['encoder']} {row['layer']}, {row['images']}: {row['claim']}:"
            f" {row['verdict_corrected']} ({row['measure']} {value})"
        )
    return lines
