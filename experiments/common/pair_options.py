"""Flags of the pairs that an encoder trains on, and their sources.

The imports stand in the functions, after flags are parsed: `--help` is to answer at once.
"""

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from posenet_jax.data.varieties import VARIETIES
from posenet_jax.io import storage

from . import buckets, options

if TYPE_CHECKING:
    import jax
    from jax.sharding import Mesh

    from posenet_jax.data.training_pairs import PairSource, PhotoPairs, RenderedPairs, RoomPairs
    from posenet_jax.training.pose_training import TrainConfig

PHOTOS = options.photos()
HELD_OUT_PHOTOS = buckets.string(
    "held_out_photos",
    None,
    "Folder, glob or file of other photographs, to evaluate rotations on: views cut from them with"
    " different fields of view, and rooms made of them.",
)
FACADES = options.facades()
_MAX_ANGLE = flags.DEFINE_float(
    "max_angle", 100.0, "Largest angle at the target between the two views, degrees."
)
VARY = flags.DEFINE_list(
    "vary",
    [],
    "Varieties that make training pairs more like two cameras' pictures, separated by commas: "
    + "; ".join(f"{name} ({variety.sentence})" for name, variety in VARIETIES.items())
    + ". Held-out streets have none.",
)
_NOISE = flags.DEFINE_float(
    "noise",
    0.02,
    "Largest standard deviation of the noise in training images, 1 = white; held-out ones keep"
    " 0.02.",
)
_CENTRE_JITTER = flags.DEFINE_float(
    "centre_jitter",
    0.05,
    "Largest offset of the target from the centre of training views, as a fraction of the field of"
    " view; held-out views keep the default.",
)


def ranges() -> dict[str, object]:
    """Returns what decides the pairs besides their images, for a run's record."""
    flagged = (_MAX_ANGLE, VARY, _NOISE, _CENTRE_JITTER)
    return {flag.name: flag.value for flag in flagged}


def noted(output: str) -> dict[str, dict[str, object]]:
    """Returns facts about the images that pairs are made of, by the flags that name them."""
    from . import run_sources

    named = {"photos": PHOTOS, "facades": FACADES, "held_out_photos": HELD_OUT_PHOTOS}
    given = {name: flag.value for name, flag in named.items() if flag.value}
    return {name: run_sources.files(folder, output) for name, folder in given.items()}


def sources(
    config: "TrainConfig", key: "jax.Array", mesh: "Mesh", output: str, *, posed: bool = False
) -> tuple["dict[str, PairSource]", "RenderedPairs"]:
    """Returns the sources of pairs to train on by the names of `config.sources`, and one of streets
    with other facades to evaluate on.

    key: of facades, where they are invented. posed: whether photographs' poses count.
    """
    from posenet_jax import scenes
    from posenet_jax.data.training_pairs import RenderedPairs

    from . import images

    atlas, other_atlas, _ = images.facade_atlases(FACADES.value, key, mesh, output)
    scene = scenes.SceneConfig(angle_between=(0.0, math.radians(_MAX_ANGLE.value)))
    varied, plain = (
        dataclasses.replace(_noisy(scene, names), centre_jitter=_CENTRE_JITTER.value)
        for names in (VARY.value, ())
    )
    found = {
        "rendered": RenderedPairs(atlas, varied, config.rendered_pairs, mesh),
        "plain": RenderedPairs(atlas, plain, config.plain_pairs, mesh),
        **_photographs(config, mesh, output, posed),
    }
    wanted = {name: found[name] for name in config.sources}
    return wanted, RenderedPairs(other_atlas, scene, config.rendered_pairs, mesh)


def _noisy(config, names):
    """Returns a configuration of pairs with the flags' noise and the varieties of these names."""
    from posenet_jax.data import varieties

    varied = varieties.varied(config, names)
    development = dataclasses.replace(varied.development, noise=_NOISE.value)
    return dataclasses.replace(varied, development=development)


def _photographs(
    config: "TrainConfig", mesh: "Mesh", output: str, posed: bool
) -> "dict[str, PhotoPairs | RoomPairs]":
    """Returns sources of views cut from photographs and of rooms made of them, as wanted."""
    from posenet_jax.data.photo_rooms import RoomViews
    from posenet_jax.data.training_pairs import PhotoPairs, RoomPairs
    from posenet_jax.data.virtual_rotation import VirtualRotation

    from . import images

    if not PHOTOS.value:
        return {}
    photos = images.photographs(PHOTOS.value, mesh, output)[0]
    found: dict[str, PhotoPairs | RoomPairs] = {}
    if config.photo_pairs:
        rotation = _noisy(VirtualRotation(), VARY.value)
        found["photo"] = PhotoPairs(photos, config.photo_pairs, mesh, rotation, posed)
    if config.room_pairs:
        cameras = _cameras(photos, mesh, storage.path(output) / "photo_cameras.safetensors")
        views = _noisy(RoomViews(), VARY.value)
        found["room"] = RoomPairs(photos, cameras, config.room_pairs, mesh, views)
    return found


def held_out_photographs(mesh: "Mesh", output: str) -> dict[str, "PhotoPairs | RoomPairs"]:
    """Returns sources of pairs to evaluate on, by the beginning of their metrics' names."""
    from posenet_jax.data.training_pairs import PhotoPairs, RoomPairs
    from posenet_jax.data.virtual_rotation import VirtualRotation

    from . import images

    if not HELD_OUT_PHOTOS.value:
        return {}
    photos, _ = images.photographs(HELD_OUT_PHOTOS.value, mesh, output)
    count = 4 * mesh.devices.size
    apart = VirtualRotation(view_difference=1.0)
    cameras = _cameras(photos, mesh, storage.path(output) / "held_out_cameras.safetensors")
    return {
        "turned": PhotoPairs(photos, count, mesh, apart),
        "rooms": RoomPairs(photos, cameras, count, mesh),
    }


def _cameras(photos: "jax.Array", mesh: "Mesh", path: Path) -> "tuple[jax.Array, jax.Array]":
    """Returns the photographs' cameras, found from their vanishing points and kept in a file."""
    import jax
    import numpy as np

    from posenet_jax.analysis import vanishing
    from posenet_jax.sharding import on_every_device

    return jax.device_put(vanishing.cameras_of(np.asarray(photos), path), on_every_device(mesh))
