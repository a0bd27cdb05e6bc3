"""Scenes and photographs to test the paper's claims on, and the claims measured on them.

Of rendered scenes everything is known; of photographs only the image itself, and an estimate of the
vanishing points.

A scene's first view counts alone, so that no scene is in two sets or twice in one. N scenes of H×W
pixels. The last of two encoders is the control, the same architecture untrained.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from posenet_jax import metrics, scenes
from posenet_jax.analysis import claims, probes, structure, texture, vanishing
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.encoders.imagenet import adaptive_mean_pool
from posenet_jax.inversion import engine
from posenet_jax.inversion.recipes import Recipe
from posenet_jax.scenes import Semantic, interventions
from posenet_jax.sharding import over_devices

Array = jax.Array

TWINS = 3
"""Twins of each scene, where its texture is to be told from others."""

_FARTHEST = 100.0  # metres, where the sky and what lies beyond are taken to be
_GRID = 10  # cells a side that depth and normals are read in
_WINDOWS = 6  # a side that probes read of a layer's maps


class SceneSet(NamedTuple):
    """Views with their geometry; host arrays."""

    images: np.ndarray  # [N, H, W, 3] uint8 RGB
    vanishing: np.ndarray  # [N, 2, 3] homogeneous pixels: the main point, the vertical one
    sky: np.ndarray  # [N, H, W] bool; of photographs nowhere
    depth: np.ndarray | None = None  # [N, H, W] metres, at most 100
    normals: np.ndarray | None = None  # [N, H, W, 3] unit, camera frame; zero for the sky
    twins: np.ndarray | None = None  # [N, T, H, W, 3] the same scenes, textures drawn anew
    relit: np.ndarray | None = None  # [N, H, W, 3] the same scenes, light drawn anew

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: slice) -> "SceneSet":
        """Returns the scenes of these rows."""
        return jax.tree.map(lambda column: column[rows], self)


def photograph_set(images: np.ndarray) -> SceneSet:
    """Returns photographs [N, H, W, 3] uint8 RGB with vanishing points estimated from edges."""
    points = structure.main_vanishing(vanishing.estimates(images), images.shape[1])
    return SceneSet(images, points, np.zeros(images.shape[:3], bool))


def scene_set(
    key: Array,
    atlas: scenes.Atlas,
    config: scenes.ViewConfig,
    mesh: Mesh,
    count: int,
    *,
    batch: int = 32,
    twins: int = 0,
) -> SceneSet:
    """Returns `count` scenes. batch: rendered together, a multiple of the mesh's devices.

    twins: number of each scene's twins; with some it is also rendered under another light.
    """
    parts: list[SceneSet] = []
    for start in range(0, count, batch):
        keys = jax.device_put(interventions.numbered_keys(key, start, batch), over_devices(mesh))
        scene = scenes.first_view(scenes.sample_scenes(keys, config=config))
        views = jax.device_get(scenes.render_scenes(scene, atlas, config, geometry=True))
        assert views.geometry is not None
        known = jax.tree.map(lambda x: x[:, 0], views.geometry)
        others = _others(keys, atlas, config, twins) if twins else (None, None)
        parts.append(
            SceneSet(
                views.image[:, 0],
                structure.main_vanishing(known.vanishing, config.width),
                known.semantic == Semantic.SKY,
                np.minimum(known.depth, _FARTHEST),
                known.normals,
                *others,
            )
        )
    return jax.tree.map(lambda *column: np.concatenate(column)[:count], *parts)


def _others(
    keys: Array, atlas: scenes.Atlas, config: scenes.ViewConfig, twins: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns images of the scenes' twins [B, T, H, W, 3], and of the scenes in another light."""

    def rendered(part: str, number: int) -> np.ndarray:
        scene = interventions.redrawn(keys, part, number, config)
        return np.asarray(scenes.render_scenes(scene, atlas, config).image[:, 0])

    textures = [rendered("texture", number) for number in range(1, twins + 1)]
    return np.stack(textures, axis=1), rendered("light", 1)


def scene_sets(
    key: Array,
    kinds: Sequence[str],
    *,
    atlas: scenes.Atlas,
    size: int,
    mesh: Mesh,
    count: int,
    batch: int = 32,
    twins: int = 0,
) -> dict[str, SceneSet]:
    """Returns `count` scenes of each kind, at an encoder's size. The rest: as in `scene_set`."""
    return {
        kind: scene_set(key, atlas, configured(kind, size), mesh, count, batch=batch, twins=twins)
        for kind in kinds
    }


def main_rays(vanishing_points: np.ndarray, size: int) -> np.ndarray:
    """[N, 3] unit rays ahead to the main points of [N, 2, 3], focal length one image wide."""
    main = vanishing_points[:, 0].astype(np.float64)
    ahead = main * np.sign(np.where(main[:, 2:] == 0, 1.0, main[:, 2:]))
    offset = ahead[:, :2] - 0.5 * size * ahead[:, 2:]
    ray = np.concatenate([offset / size, ahead[:, 2:]], axis=1)
    return ray / np.linalg.norm(ray, axis=1, keepdims=True)


def vanishing_errors(views: SceneSet) -> dict[str, np.ndarray]:
    """Returns degrees [N] from the scenes' main points: of the estimate, and of the centre."""
    size = views.images.shape[1]
    truth = main_rays(views.vanishing, size)
    estimated = main_rays(photograph_set(views.images).vanishing, size)
    return {
        name: np.degrees(np.arccos(np.clip(np.abs(np.sum(truth * rays, axis=1)), 0.0, 1.0)))
        for name, rays in (("estimated", estimated), ("centre", np.array([[0.0, 0.0, 1.0]])))
    }


def vanishing_quartiles(views: SceneSet) -> dict[str, np.ndarray]:
    """Returns the quartiles [3] of `vanishing_errors`, in degrees to one decimal."""
    return {
        name: np.percentile(angles, (25, 50, 75)).round(1)
        for name, angles in vanishing_errors(views).items()
    }


def quantities(views: SceneSet) -> dict[str, np.ndarray]:
    """Returns the targets [N, K] of linear probes, by name.

    mean colour: both chroma means. texture energy: log mean squared gradient of the grey values.
    vanishing point: the unit ray [3] to the main one, of a camera one image wide in focal length.
    skyline: the fraction of sky in each tenth of the columns. depth (log metres) and normals: means
    of a grid of 10×10 cells.
    """
    size = views.images.shape[1]
    chroma = views.images.mean(axis=(1, 2)) @ np.asarray(structure.CHROMA).T
    energy = np.log(1.0 + np.asarray(metrics.gradient_energies(views.images)))[:, None]
    found = {
        "mean colour": chroma,
        "texture energy": energy,
        "vanishing point": main_rays(views.vanishing, size),
    }
    if views.depth is not None and views.normals is not None:
        found["depth"] = _cells(np.log(views.depth)[..., None])
        found["normals"] = _cells(views.normals)
    if views.sky.any():
        columns = views.sky.mean(axis=1).reshape((len(views), _GRID, -1))
        found["skyline"] = columns.mean(axis=2)
    return found


def _cells(values: np.ndarray) -> np.ndarray:
    """[N, 100·C] means over a grid of [N, H, W, C]."""
    count, side = len(values), values.shape[1] // _GRID
    cells = values.reshape((count, _GRID, side, _GRID, side, values.shape[-1]))
    return cells.mean(axis=(2, 4)).reshape((count, -1))


class Kept(NamedTuple):
    """Rows of claims, and measures [N] of single images by name, of pictures and their controls."""

    rows: list[dict[str, Any]]
    trained: Mapping[str, np.ndarray]
    wrong: Mapping[str, np.ndarray]
    untrained: Mapping[str, np.ndarray]


def invert(
    encoder: Encoder,
    layer: str,
    views: SceneSet,
    *,
    key: Array,
    recipe: Recipe,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Returns pictures [N, H, W, 3] uint8 RGB, inverted from the scenes' descriptors at a layer."""
    tap, space = encoder.tap(layer), encoder.preprocessing
    targets = tap.describe(views.images)
    done = engine.invert(tap, targets, key=key, recipe=recipe, progress=progress)
    return np.asarray(space.to_image(done.image))


def measures(pictures: np.ndarray, views: SceneSet) -> Mapping[str, np.ndarray]:
    """Returns all measures [N] of pictures [N, H, W, 3], uint8 RGB, beside their originals."""
    return {
        **structure.measures(pictures, views.images, views.vanishing, views.sky),
        **texture.measures(pictures, views.images, views.twins),
    }


def reconstruction_claims(
    group: str, layer: str, views: SceneSet, pictures: Mapping[str, np.ndarray]
) -> Kept:
    """Measures pictures [N, H, W, 3], uint8 RGB, inverted from a layer of two encoders, by name."""
    (name, made), (_, control) = pictures.items()
    trained, wrong, untrained = (
        measures(images, views) for images in (made, np.roll(made, 1, axis=0), control)
    )
    rows = claims.table(group, trained, wrong, untrained)
    rows = [row | {"encoder": name, "layer": layer} for row in rows]
    return Kept(rows, trained, wrong, untrained)


def probe_claims(
    group: str, encoders: Sequence[Encoder], layer: str, views: SceneSet
) -> list[dict[str, Any]]:
    """Returns rows of linear probes of an encoder and its control at a layer.

    Fitted on two thirds of the scenes, scored on the rest.
    """
    scores = [probe_scores(encoder, layer, views) for encoder in encoders]
    rows = claims.probe_table(group, len(views) - _split(views), *scores)
    return [row | {"encoder": encoders[0].name, "layer": layer} for row in rows]


def probe_scores(encoder: Encoder, layer: str, views: SceneSet) -> dict[str, probes.Score]:
    """Returns the scores of linear probes of one layer, by what they read.

    Fitted on two thirds of the scenes, scored on the rest. Of maps larger than 6×6 they read the
    means over 6×6 windows, so that early layers have not many times as many numbers as late ones.
    """
    read = encoder.tap(layer).describe(views.images)
    if read.ndim == 4 and max(read.shape[1:3]) > _WINDOWS:
        read = np.asarray(adaptive_mean_pool(jnp.asarray(read), _WINDOWS))
    split = _split(views)
    train, test = (views.take(part) for part in (slice(None, split), slice(split, None)))
    wanted, truth = quantities(train), quantities(test)
    return {
        name: probes.score(read[:split], wanted[name], read[split:], truth[name]) for name in wanted
    }


def _split(views: SceneSet) -> int:
    """Number of scenes that probes are fitted on."""
    return 2 * len(views) // 3


def configured(kind: str, size: int) -> scenes.ViewConfig:
    """Returns the configuration of a kind of scenes, at an encoder's size."""
    return dataclasses.replace(scenes.kind_named(kind).config(), height=size, width=size)
