"""How far each layer moves when one thing in a scene changes: the sensitivity profile.

The displacement of layer φ by a change x → x' of scene i is ‖φ(x') - φ(x)‖ / ‖φ(x)‖, the `pixels`
being a layer of their own: the image in network space, its mean subtracted. A change that moves the
pixels little moves every layer little, and the first layers follow the pixels: read a layer beside
them, and beside the same layer with random weights. Layers differ in scale, so displacements are
divided by the mean one under 10° of yaw at the same layer, and by that of another scene: the first
says what moves a layer more than a turn does, the second how much of what tells scenes apart.

Encoders with pose heads are also asked what they make of a change: the rotation that they see
between the scene and itself changed. It should be 10° under the three turns and none elsewhere,
however far the layers moved: heads read a few directions of fc5, a displacement has them all.

Intervals are percentiles of the bootstrap over scenes (Efron 1979), of 95 %: means of a resampling
use the same scenes everywhere, so that ratios keep what their parts have in common. N scenes.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from posenet_jax import metrics, scenes
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.errors import InputError
from posenet_jax.scenes import interventions
from posenet_jax.sharding import on_every_device, over_devices

Array = jax.Array

PIXELS = "pixels"  # the image in network space
YAW = "yaw"
OTHER = "another scene"  # all is changed: the most that there is to be moved by
_HEADS = "heads"
AMOUNTS = interventions.AMOUNTS | {OTHER: "the next scene, with a photograph of its own"}


@dataclasses.dataclass(frozen=True, eq=False)
class Displacements:
    """Displacements of one encoder, host arrays."""

    encoder: str
    values: dict[str, dict[str, np.ndarray]]  # layer -> intervention -> [N]
    # Intervention -> [N] degrees that the heads see, of encoders that have some.
    rotations: dict[str, np.ndarray] | None = None

    @property
    def interventions(self) -> list[str]:
        """In the order of figures."""
        return list(next(iter(self.values.values())))


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """Displacements of all encoders, on the same images."""

    displacements: list[Displacements]
    pictures: dict[str, np.ndarray]  # intervention -> uint8 [n, H, W, 3] of the first scenes
    left_out: int  # scenes whose target is hidden, before or after another geometry


def measure(
    encoders: Sequence[Encoder],
    atlas: scenes.Atlas,
    config: scenes.ViewConfig,
    *,
    key: Array,
    mesh: Mesh,
    count: int = 256,
    batch: int = 32,
    shown: int = 6,
    progress: Callable[[int], object] | None = None,
) -> Measured:
    """Displacements at the pixels and at every tap of `count` scenes under every intervention.

    batch: scenes rendered together, a multiple of the mesh's devices. progress: called with the
    number of scenes done. Raises InputError for encoders that read another size of image, or that
    have not the same taps.
    """
    _check(encoders, config)
    # Without names, encoders of one architecture and image space share their programs.
    nameless = [dataclasses.replace(encoder, name="") for encoder in encoders]
    placed = jax.device_put((nameless, atlas), on_every_device(mesh))
    parts: list[tuple[dict[str, Any], ...]] = []
    pictures: dict[str, np.ndarray] = {}
    visible = []
    for start in range(0, count, batch):
        keys = interventions.numbered_keys(key, start, batch)
        scene = interventions.draw(jax.device_put(keys, over_devices(mesh)), config)
        images = {
            name: scenes.render_scenes(one, placed[1], config).image[:, 0]
            for name, one in scene.items()
        }
        parts.append(tuple(_of_batch(encoder, images) for encoder in placed[0]))
        visible.append(np.asarray(scene["original"].visible & scene["geometry"].visible)[:, 0])
        pictures = pictures or {name: np.asarray(made[:shown]) for name, made in images.items()}
        if progress:
            progress(min(batch, count - start))
    kept = np.concatenate(visible)[:count]
    found = []
    for i, encoder in enumerate(encoders):
        values = _joined([part[i] for part in parts], kept, count)
        rotations = values.pop(_HEADS, None)
        found.append(Displacements(encoder.name, values, rotations))
    return Measured(found, pictures, int(np.sum(~kept)))


def _check(encoders: Sequence[Encoder], config: scenes.ViewConfig) -> None:
    for encoder in encoders:
        if encoder.taps != encoders[-1].taps:
            raise InputError(
                f"encoders {encoder.name!r} and {encoders[-1].name!r} have not the same layers; "
                "give a control of the same architecture"
            )
        size = encoder.preprocessing.side
        if (config.height, config.width) != (size, size):
            raise InputError(
                f"encoder {encoder.name!r} reads {size}×{size} pixels; the scenes are rendered at "
                f"{config.width}×{config.height}"
            )


def _of_batch(encoder: Encoder, images: dict[str, Array]) -> dict[str, dict[str, np.ndarray]]:
    """Layer -> intervention -> [B]; the heads' rotations are the last layer."""
    before = _activations(encoder, images["original"])
    moved = {}
    for name in AMOUNTS:
        if name not in images and name != OTHER:
            continue
        after = _next_scene(before) if name == OTHER else _activations(encoder, images[name])
        moved[name] = jax.device_get(_displacements(before, after))
        if encoder.predicts_poses:
            poses = np.asarray(encoder.poses(before["fc5"], after["fc5"]))
            moved[name][_HEADS] = metrics.rotation_errors(np.zeros_like(poses), poses)
    # Compiled functions give their layers in alphabetical order.
    layers = [PIXELS, *encoder.taps, *([_HEADS] if encoder.predicts_poses else [])]
    return {layer: {name: by[layer] for name, by in moved.items()} for layer in layers}


@jax.jit
def _activations(encoder: Encoder, images: Array) -> dict[str, Array]:
    """Layer -> [B, ...] of uint8 RGB images [B, H, W, 3]."""
    pixels = encoder.preprocessing.to_network(images)
    return {PIXELS: pixels} | {layer: encoder.tap(layer)(pixels) for layer in encoder.taps}


@jax.jit
def _displacements(before: dict[str, Array], after: dict[str, Array]) -> dict[str, Array]:
    return {
        layer: jax.vmap(metrics.descriptor_error)(after[layer], before[layer]) for layer in before
    }


@jax.jit
def _next_scene(activations: dict[str, Array]) -> dict[str, Array]:
    return jax.tree.map(lambda x: jnp.roll(x, 1, axis=0), activations)


def _joined(
    parts: Sequence[dict[str, dict[str, np.ndarray]]], kept: np.ndarray, count: int
) -> dict[str, dict[str, np.ndarray]]:
    return {
        layer: {
            name: np.concatenate([part[layer][name] for part in parts])[:count][kept]
            for name in parts[0][layer]
        }
        for layer in parts[0]
    }


def table(
    displacements: Sequence[Displacements], *, resamplings: int = 1000, seed: int = 0
) -> list[dict[str, Any]]:
    """One row an encoder, layer and intervention; the last of the encoders is the control.

    mean (low, high): of the displacement. ratio_to_yaw: this mean over that of 10° of yaw.
    ratio_to_other: over that of another scene. yaw_over_control, other_over_control: these two over
    the control's; below 1, training made the layer look away. Of each the interval, _low and _high.
    """
    count = len(displacements[0].values[PIXELS][YAW])
    resampled = np.random.default_rng(seed).integers(0, count, (resamplings, count))
    # First the scenes as they are: [1 + resamplings, N].
    samples = np.concatenate([np.arange(count)[None], resampled])
    return [
        {
            "encoder": one.encoder,
            "layer": layer,
            "intervention": name,
            "amount": AMOUNTS[name],
            "scenes": count,
        }
        | _measures(one, displacements[-1], layer, name, samples)
        for one in displacements
        for layer in one.values
        for name in one.interventions
    ]


def rotation_table(displacements: Sequence[Displacements]) -> list[dict[str, Any]]:
    """One row an encoder with heads and intervention: the rotation they see, degrees.

    mean and median over scenes, low and high: the mean's interval. true_degrees: what there is to
    be seen; None where the scenes have nothing in common that could be turned.
    """
    rows = []
    for one in displacements:
        for name, values in (one.rotations or {}).items():
            turned = sum(interventions.TURNS.get(name, (0.0,)))
            row = {
                "encoder": one.encoder,
                "intervention": name,
                "amount": AMOUNTS[name],
                "scenes": len(values),
                "true_degrees": None if name in ("geometry", OTHER) else turned,
            }
            rows.append(row | metrics.bootstrap_summary(values))
    return rows


def sentences(
    rows: Sequence[Mapping[str, Any]],
    rotations: Sequence[Mapping[str, Any]],
    encoder: str,
    layer: str = "fc5",
) -> list[str]:
    """Returns lines for a person on one layer, from rows of `table` and of `rotation_table`."""
    shown = [row for row in rows if (row["encoder"], row["layer"]) == (encoder, layer)]
    angles = {row["intervention"]: row["mean"] for row in rotations if row["encoder"] == encoder}
    count = shown[0]["scenes"]
    lines = [f"{encoder} {layer}, {count} scenes: over 10° of yaw (the same over control's)"]
    for row in shown:
        ratio, control = (
            f"{row[name]:.2f} [{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]"
            for name in ("ratio_to_yaw", "yaw_over_control")
        )
        name = row["intervention"]
        angle = f"; the heads see {angles[name]:.1f}°" if name in angles else ""
        lines.append(f"  {name:14} {ratio:20} ({control}){angle}")
    return lines


def _measures(
    one: Displacements, control: Displacements, layer: str, name: str, samples: np.ndarray
) -> dict[str, float]:
    def mean(of: Displacements, changed: str) -> np.ndarray:
        return of.values[layer][changed].astype(np.float64)[samples].mean(axis=1)

    def ratio(of: Displacements, unit: str) -> np.ndarray:
        return _over(mean(of, name), mean(of, unit))

    found = _interval("mean", mean(one, name), prefix="")
    for unit, short in ((YAW, "yaw"), (OTHER, "other")):
        own = ratio(one, unit)
        found |= _interval(f"ratio_to_{short}", own)
        found |= _interval(f"{short}_over_control", _over(own, ratio(control, unit)))
    return found


def _over(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The quotient; NaN where nothing moved: few scenes may have no clutter among them."""
    return np.divide(one, other, out=np.full_like(one, np.nan), where=other > 0)


def _interval(name: str, values: np.ndarray, prefix: str | None = None) -> dict[str, float]:
    """The first of the values, and the middle 95 % of the others."""
    low, high = np.percentile(values[1:], (2.5, 97.5))
    start = f"{name}_" if prefix is None else prefix
    return {name: float(values[0]), f"{start}low": float(low), f"{start}high": float(high)}
