"""Pairs of views to train on, and their sources: rendered streets, photographs turned.

Each source is a function of a key, so that a run resumed draws what an undisturbed one would have.
P pairs; their batch axis is laid over the mesh's devices.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh, NamedSharding

from posenet_jax import errors, scenes
from posenet_jax.data import photo_rooms
from posenet_jax.data.photo_rooms import RoomPair, RoomViews
from posenet_jax.data.virtual_rotation import PhotoPair, VirtualRotation, sample_photo_pair
from posenet_jax.errors import ImageError, InputError
from posenet_jax.images import image_files
from posenet_jax.images.image_list import ImageList, as_list
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.scenes.keys import SceneKeys, scene_keys
from posenet_jax.sharding import on_every_device, over_devices

Array = jax.Array

# Fraction of the field of view; targets that centres aim at stay below it.
_ASIDE = 0.15
# Fraction of a view that a photograph does not show.
_BEYOND = 0.15


@struct.dataclass
class Pairs:
    """Matching pairs of views; a weight of zero leaves a pair out of that task's loss.

    Rendered pairs come two a scene, one after the other: two targets of the same street.
    """

    image: Array  # [P, 2, H, W, 3] uint8 RGB
    rotation: Array  # [P, 2, 3, 3] camera-to-world
    centre: Array  # [P, 2, 3] metres
    normal: Array  # [P, 3] unit normal at view 1's target, its camera's frame
    match_weight: Array  # [P]
    pose_weight: Array  # [P]
    normal_weight: Array  # [P]


def negatives(second: Array) -> tuple[Array, Array]:
    """Second views [P, F] that do not match, made by pairing anew: free for the encoder.

    The hard ones are the pair's neighbour's, in rendered pairs the other target of the same scene;
    the easy ones come from another scene.
    """
    return second[jnp.arange(second.shape[0]) ^ 1], jnp.roll(second, 2, axis=0)


def swapped(pairs: Pairs) -> Pairs:
    """The same pairs seen from view 2: view 1 in its frame, and the normal at its target."""
    to_second = jnp.swapaxes(pairs.rotation[:, 1], -1, -2) @ pairs.rotation[:, 0]
    return dataclasses.replace(
        pairs,
        image=pairs.image[:, ::-1],
        rotation=pairs.rotation[:, ::-1],
        centre=pairs.centre[:, ::-1],
        normal=jnp.einsum("pij,pj->pi", to_second, pairs.normal),
    )


@functools.partial(jax.jit, static_argnames=("count", "sharding"))
def _scene_keys(key: Array, count: int, sharding: NamedSharding) -> tuple[SceneKeys, Array, Array]:
    """Keys of `count` scenes, over the devices, so that each samples its own."""
    city_key, view_key, photo_key = jax.random.split(key, 3)
    cities, views, photos = jax.lax.with_sharding_constraint(
        (
            jnp.repeat(jax.random.split(city_key, count // 2), 2),
            jax.random.split(view_key, count),
            jax.random.split(photo_key, count),
        ),
        sharding,
    )
    return jax.lax.with_sharding_constraint((jax.vmap(scene_keys)(cities), views, photos), sharding)


@dataclasses.dataclass(frozen=True, eq=False)
class RenderedPairs:
    """`count` pairs a draw, two targets a street. Occluded pairs have weight zero."""

    atlas: scenes.Atlas
    config: scenes.ViewConfig
    count: int
    mesh: Mesh

    def scenes(self, key: Array) -> scenes.Scene:
        keys = _scene_keys(key, self.count, over_devices(self.mesh))
        return scenes.scenes_from_keys(*keys, config=self.config)

    def __call__(self, key: Array) -> Pairs:
        views = scenes.render_scenes(self.scenes(key), self.atlas, self.config)
        return _from_views(views)

    def poses(self, key: Array) -> tuple[Array, Array, Array]:
        """Rotations [P, 2, 3, 3], centres [P, 2, 3] and visibility [P], without any picture."""
        scene = self.scenes(key)
        return scene.cameras.rotation, scene.cameras.centre, jnp.all(scene.visible, axis=1)


def _looks_aside(views: scenes.Views) -> Array:
    """[P] bool: does the target lie far from the centre of either view?"""
    way = views.target[:, None] - views.centre
    axis = views.rotation[..., 2]
    cosine = jnp.sum(way * axis, axis=-1) / jnp.linalg.norm(way, axis=-1)
    off = jnp.arccos(jnp.clip(cosine, -1.0, 1.0)) / views.field_of_view
    return jnp.any(off > _ASIDE, axis=1)


@jax.jit
def _from_views(views: scenes.Views) -> Pairs:
    """The pairs; those that look past the target count in the pose alone.

    What two views match in, and whose normal is asked for, is what they have at their centres.
    """
    weight = jnp.all(views.visible, axis=1).astype(jnp.float32)
    at_target = weight * ~_looks_aside(views)
    return Pairs(
        image=views.image,
        rotation=views.rotation,
        centre=views.centre,
        normal=views.camera_normal[:, 0],
        match_weight=at_target,
        pose_weight=weight,
        normal_weight=at_target,
    )


def _choice(key: Array, photos: Array, count: int, sharding: NamedSharding) -> tuple[Array, Array]:
    """(numbers of `count` photographs, drawn with repetition, keys of their views)."""
    choice_key, view_key = jax.random.split(key)
    chosen = jax.random.randint(choice_key, (count,), 0, photos.shape[0])
    chosen = jax.lax.with_sharding_constraint(chosen, sharding)
    return chosen, jax.random.split(view_key, count)


def _of_photographs(
    pair: PhotoPair | RoomPair, centre: Array, match_weight: float, pose_weight: Array
) -> Pairs:
    """Pairs of views of photographs, whose normals are not known."""
    count = pair.image.shape[0]
    return Pairs(
        image=pair.image,
        rotation=pair.rotation,
        centre=centre,
        normal=jnp.zeros((count, 3)).at[:, 2].set(-1.0),
        match_weight=jnp.full((count,), match_weight),
        pose_weight=pose_weight,
        normal_weight=jnp.zeros((count,)),
    )


@functools.partial(jax.jit, static_argnames=("count", "config", "posed", "sharding"))
def _photo_pairs(
    key: Array,
    photos: Array,
    count: int,
    config: VirtualRotation,
    posed: bool,
    sharding: NamedSharding,
) -> Pairs:
    chosen, keys = _choice(key, photos, count, sharding)
    pair = jax.vmap(sample_photo_pair, (0, 0, None))(keys, photos[chosen], config)
    still = jnp.zeros((count, 2, 3))
    return _of_photographs(pair, still, 1.0, jnp.full((count,), float(posed)))


@dataclasses.dataclass(frozen=True, eq=False)
class PhotoPairs:
    """`count` pairs a draw from photographs [N, H, W, 3] uint8 held on the devices.

    Unless `posed`, they have no part in the pose loss: such pairs only ever turn a little and never
    move, and a network that learns poses from them learns that photographs mean small rotations.
    """

    photos: Array
    count: int
    mesh: Mesh
    config: VirtualRotation = VirtualRotation()
    posed: bool = False

    def __call__(self, key: Array) -> Pairs:
        return _photo_pairs(
            key, self.photos, self.count, self.config, self.posed, over_devices(self.mesh)
        )


@functools.partial(jax.jit, static_argnames=("count", "config", "sharding"))
def _room_pairs(
    key: Array,
    photos: Array,
    cameras: tuple[Array, Array],
    count: int,
    config: RoomViews,
    sharding: NamedSharding,
) -> Pairs:
    chosen, keys = _choice(key, photos, count, sharding)
    rotation, field_of_view = (x[chosen] for x in cameras)
    pair = jax.vmap(photo_rooms.sample_room_pair, (0, 0, 0, 0, None))(
        keys, photos[chosen], rotation, field_of_view, config
    )
    shown = jnp.all(pair.beyond < _BEYOND, axis=1)
    return _of_photographs(pair, pair.centre, 0.0, shown.astype(jnp.float32))


@dataclasses.dataclass(frozen=True, eq=False)
class RoomPairs:
    """`count` pairs a draw from photographs made into rooms: they count in the pose alone.

    photos: [N, H, W, 3] uint8, held on the devices. cameras: their rotations [N, 3, 3] to the
    scene's axes and fields of view [N] (`vanishing.cameras`).
    """

    photos: Array
    cameras: tuple[Array, Array]
    count: int
    mesh: Mesh
    config: RoomViews = RoomViews()

    def __call__(self, key: Array) -> Pairs:
        sharding = over_devices(self.mesh)
        return _room_pairs(key, self.photos, self.cameras, self.count, self.config, sharding)


PairSource = RenderedPairs | PhotoPairs | RoomPairs


def drawn(
    source: PairSource,
    key: Array,
    count: int,
    *,
    progress: Callable[[int], object] | None = None,
) -> Pairs:
    """Returns host arrays of `count` pairs, or of the next multiple of the source's own count.

    progress: called with the number of pairs of each draw.
    """
    parts = []
    for number in range(-(-count // source.count)):
        parts.append(jax.device_get(source(jax.random.fold_in(key, number))))
        if progress:
            progress(source.count)
    return jax.tree.map(lambda *columns: np.concatenate(columns), *parts)


def load_photos(
    images: ImageList | str | Path,
    mesh: Mesh,
    size: int = 150,
    *,
    max_pixels: int = image_files.MAX_PIXELS,
) -> tuple[Array, list[ImageError]]:
    """([N, size, size, 3] uint8 on every device, one error for each file left out).

    Raises InputError if none can be read.
    """
    square = Preprocessing(means=(0.0, 0.0, 0.0), size=size)
    files = as_list(images)
    found = image_files.read_images(files, square, max_pixels=max_pixels)
    if not found.images:
        raise InputError(
            f"none of the images in {errors.shown(files.folder)} can be read; {found.failures[0]}"
        )
    return jax.device_put(np.stack(found.images), on_every_device(mesh)), found.failures


def facade_atlases(
    images: ImageList | str | Path | None,
    key: Array,
    mesh: Mesh,
    held_out: float = 0.1,
    *,
    max_pixels: int = image_files.MAX_PIXELS,
) -> tuple[scenes.Atlas, scenes.Atlas, list[ImageError]]:
    """(training atlas, atlas of other facades for held-out scenes, errors of files left out).

    Photographs of a folder, a glob or a list, the last `held_out` of them by name kept apart;
    invented facades if there are none. Raises InputError where either part has not one facade.
    """
    if images is None:
        keys = jax.random.split(key)
        atlases = [scenes.procedural_atlas(k, num=n) for k, n in zip(keys, (256, 64), strict=True)]
        return *jax.device_put(atlases, on_every_device(mesh)), []
    listed = as_list(images)
    files = list(listed)
    split = len(files) - max(1, int(held_out * len(files)))
    if split < 1:
        folder = errors.shown(listed.folder)
        raise InputError(f"{folder} holds {len(files)} facades; training needs at least two")
    parts = [
        scenes.atlas_from_files(part, max_pixels=max_pixels)
        for part in (files[:split], files[split:])
    ]
    failures = [failure for part in parts for failure in part.failures]
    return *jax.device_put([p.atlas for p in parts], on_every_device(mesh)), failures
