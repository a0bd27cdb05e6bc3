"""Batches of pairs of views. B pairs, 2 views each, images uint8 [B, 2, H, W, 3] RGB.

Each stage is a jitted function of its own: in one program, XLA's CPU fusion repeats the loop over
boxes for every use of its result, and an optimisation barrier does not stop it. Batching happens
here and nowhere else. Computation follows the sharding of the keys: spread them over a mesh's
batch axis and every stage and every result is spread alike.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from posenet_jax import geometry
from posenet_jax.numerics import own_dtypes
from posenet_jax.scenes import kinds, photometry, raycast, shading, views
from posenet_jax.scenes.atlas import Atlas
from posenet_jax.scenes.config import ViewConfig
from posenet_jax.scenes.keys import SceneKeys, scene_keys
from posenet_jax.scenes.kind import SceneFunctions
from posenet_jax.scenes.photometry import Development
from posenet_jax.scenes.raycast import Camera, World

Array = jax.Array

# Imported here, not when first used: within a trace, a module's own arrays would become tracers.
for _kind in kinds.KINDS.values():
    _kind.functions()


class Scene(NamedTuple):
    """Everything about a pair of views but the picture. Unbatched shapes; batches lead."""

    world: World  # what the kind of scene builds
    target: Array  # [3] metres, world
    normal: Array  # [3] of the target's surface, unit, world
    cameras: Camera  # leading axis 2
    visible: Array  # [2] bool
    developments: Development  # leading axis 2


class Geometry(NamedTuple):
    """Exact geometry of a view, at the pixels' centres."""

    depth: Array  # float32 [B, 2, H, W] metres along the optical axis; inf for the sky
    semantic: Array  # uint8 [B, 2, H, W], `Semantic`
    normals: Array  # [B, 2, H, W, 3] unit, camera frame; zero for the sky
    vanishing: Array  # [B, 2, 3, 3] rows: homogeneous pixel (x, y, w) of the scene's axes


class Views(NamedTuple):
    """A batch of pairs of views. B pairs."""

    image: Array  # uint8 [B, 2, H, W, 3] RGB
    rotation: Array  # [B, 2, 3, 3] camera to world
    centre: Array  # [B, 2, 3] metres, world
    field_of_view: Array  # [B, 2] radians, horizontal
    target: Array  # [B, 3] metres, world
    normal: Array  # [B, 3] unit, world
    camera_normal: Array  # [B, 2, 3] unit, camera frame
    visible: Array  # [B, 2] bool: nothing stands between camera and target
    geometry: Geometry | None = None


def _pairwise(function: Callable[..., Any]) -> Callable[..., Any]:
    """Map over B, then over the two views; the first argument (a world) is one per pair."""

    def mapped(world: World, *rest: Any) -> Any:
        return jax.vmap(jax.vmap(function, (None,) + (0,) * len(rest)))(world, *rest)

    return mapped


def _functions(config: ViewConfig) -> SceneFunctions:
    return kinds.kind_of(config).functions()


def _stage(function: Callable[..., Any]) -> Callable[..., Any]:
    """A program of its own; `config` is static."""
    return functools.partial(jax.jit, static_argnames=("config",))(function)


def _of_scenes(config: ViewConfig) -> ViewConfig:
    """Returns `config` without the images' size and rays, which scenes do not depend on.

    So a program that draws scenes serves images of all sizes.
    """
    plain = ViewConfig()
    return dataclasses.replace(config, height=plain.height, width=plain.width, rays=plain.rays)


def _of_pictures(config: ViewConfig) -> ViewConfig:
    """Returns what pictures of given scenes depend on: kind, the images' size and their rays."""
    return type(config)(height=config.height, width=config.width, rays=config.rays)


@own_dtypes
def scene_from_keys(
    keys: SceneKeys, view_key: Array, photo_key: Array, config: ViewConfig
) -> Scene:
    """Unbatched scene of explicit keys: exchange one to change one thing alone."""
    functions = _functions(config)
    world = functions.build(keys, config)
    target, normal, cameras, visible = views.sample_pair(
        view_key, world, config, functions.targets, functions.places
    )
    developments = photometry.sample_developments(photo_key, config.development)
    return Scene(world, target, normal, cameras, visible, developments)


def _scene_keys(key: Array) -> tuple[SceneKeys, Array, Array]:
    """Keys of the world, the views and the photographs."""
    world_key, view_key, photo_key = jax.random.split(key, 3)
    return scene_keys(world_key), view_key, photo_key


sample_keys = jax.jit(jax.vmap(_scene_keys))
"""Keys [B] -> the keys of the worlds' parts, the views and the photographs of `sample_scenes`."""


@own_dtypes
def sample_scene(key: Array, config: ViewConfig) -> Scene:
    """A random scene, unbatched."""
    return scene_from_keys(*_scene_keys(key), config)


@_stage
def _scenes(keys: SceneKeys, view_keys: Array, photo_keys: Array, config: ViewConfig) -> Scene:
    one = functools.partial(scene_from_keys, config=config)
    return jax.vmap(one)(keys, view_keys, photo_keys)


@own_dtypes
def scenes_from_keys(
    keys: SceneKeys, view_keys: Array, photo_keys: Array, *, config: ViewConfig
) -> Scene:
    """`scene_from_keys` for keys with leading axis B."""
    return _scenes(keys, view_keys, photo_keys, config=_of_scenes(config))


@own_dtypes
def sample_scenes(keys: Array, config: ViewConfig) -> Scene:
    """Keys [B] -> scenes with leading axis B, each that of `sample_scene`."""
    return scenes_from_keys(*sample_keys(keys), config=config)


@own_dtypes
@jax.jit
def first_view(scene: Scene) -> Scene:
    """The scenes with one view each, the first of the two; leading axis B."""

    def first(tree: Any) -> Any:
        return jax.tree.map(lambda x: x[:, :1], tree)

    return scene._replace(
        cameras=first(scene.cameras),
        visible=first(scene.visible),
        developments=first(scene.developments),
    )


def _directions(camera: Camera, config: ViewConfig) -> raycast.Vector:
    rays = raycast.image_rays(config, camera.field_of_view)
    return raycast.to_world(camera.rotation, rays)


@_stage
def _trace(world: World, cameras: Camera, config: ViewConfig) -> Array:
    def one(world: World, camera: Camera) -> Array:
        return raycast.nearest_hit(world, camera.centre, _directions(camera, config))

    return _pairwise(one)(world, cameras)


@_stage
def _light(world: World, cameras: Camera, packed: Array, config: ViewConfig) -> Array:
    """bool: does the main light reach what the rays met, facing aside?"""

    def one(world: World, camera: Camera, packed: Array) -> Array:
        hit = raycast.unpack_hit(packed, world)
        # A little toward the camera: off the surface, and so not in its own shadow.
        depth = jnp.where(shading.is_sky(hit), 0.0, hit.depth * 0.999 - 0.005)
        point = shading.hit_point(camera, _directions(camera, config), depth)
        return _functions(config).lit(world, point)

    return _pairwise(one)(world, cameras, packed)


@_stage
def _look_up(
    world: World, cameras: Camera, packed: Array, atlas: Atlas, config: ViewConfig
) -> shading.Sample:
    def one(world: World, camera: Camera, packed: Array) -> shading.Sample:
        hit, direction = raycast.unpack_hit(packed, world), _directions(camera, config)
        point = shading.hit_point(camera, direction, hit.depth)
        texture = _functions(config).texture(world, direction, hit, point, atlas.num_facades)
        return shading.sample(texture, shading.pixel_size(hit, camera, config), atlas.size)

    return _pairwise(one)(world, cameras, packed)


_fetch = jax.jit(shading.fetch)


def _seen(world: World, camera: Camera, packed: Array, config: ViewConfig) -> shading.Seen:
    hit, direction = raycast.unpack_hit(packed, world), _directions(camera, config)
    point = shading.hit_point(camera, direction, hit.depth)
    normal = shading.normals(world, direction, point, hit)
    return shading.Seen(direction, hit, point, normal, shading.pixel_size(hit, camera, config))


@_stage
def _shade(
    world: World, cameras: Camera, packed: Array, texture: Array, lit: Array, config: ViewConfig
) -> Array:
    def one(world: World, camera: Camera, packed: Array, texture: Array, lit: Array) -> Array:
        seen, texel = _seen(world, camera, packed, config), shading.unpack_colour(texture)
        return shading.pack_colour(_functions(config).colour(world, seen, texel, lit))

    return _pairwise(one)(world, cameras, packed, texture, lit)


@_stage
def _resolve(colour: Array, config: ViewConfig) -> Array:
    def one(colour: Array) -> Array:
        return photometry.resolve(shading.unpack_colour(colour), config)

    return jax.vmap(jax.vmap(one))(colour)


@jax.jit
def _blur(image: Array, weight: Array) -> Array:
    return jax.vmap(jax.vmap(photometry.blur))(image, weight)


@jax.jit
def _develop(image: Array, developments: Development) -> Array:
    return jax.vmap(jax.vmap(photometry.develop))(image, developments)


@jax.jit
def _interleave(image: Array) -> Array:
    """[B, 2, 3, H, W] -> [B, 2, H, W, 3], apart because it would keep planes from vectorising."""
    return jnp.moveaxis(image, 2, -1)


def _images(scene: Scene, atlas: Atlas, config: ViewConfig) -> Array:
    """uint8 [B, 2, H, W, 3], stage after stage."""
    world, cameras, config = scene.world, scene.cameras, _of_pictures(config)
    hit = _trace(world, cameras, config=config)
    lit = _light(world, cameras, hit, config=config)
    texture = _fetch(atlas, _look_up(world, cameras, hit, atlas, config=config))
    colour = _shade(world, cameras, hit, texture, lit, config=config)
    image = _blur(_resolve(colour, config=config), scene.developments.blur)
    return _interleave(_develop(image, scene.developments))


@own_dtypes
def vanishing_points(camera: Camera, height: int, width: int) -> Array:
    """[3, 3] homogeneous pixel coordinates of the world's x, y and z: a street's direction, across
    it and up; a car's; a room's.

    K R^T for K = [[f, 0, W/2], [0, f, H/2], [0, 0, 1]]; the columns of R^T are the world's axes.
    """
    focal = geometry.focal_length(width, camera.field_of_view)
    x, y, z = camera.rotation.T
    return jnp.stack([focal * x + 0.5 * width * z, focal * y + 0.5 * height * z, z], axis=-1)


def _view_geometry(world: World, camera: Camera, packed: Array, config: ViewConfig) -> Geometry:
    shape = (config.height, config.width)
    seen = _seen(world, camera, packed, config)
    sky = shading.is_sky(seen.hit)
    normal = jnp.where(sky[:, None], 0.0, jnp.stack(seen.normal, axis=-1) @ camera.rotation)
    return Geometry(
        jnp.where(sky, jnp.inf, seen.hit.depth).reshape(shape),
        _functions(config).semantic(world, seen).reshape(shape),
        normal.reshape(*shape, 3),
        vanishing_points(camera, *shape),
    )


@_stage
def _measure(world: World, cameras: Camera, packed: Array, config: ViewConfig) -> Geometry:
    one = functools.partial(_view_geometry, config=config)
    return _pairwise(one)(world, cameras, packed)


def _geometry(scene: Scene, config: ViewConfig) -> Geometry:
    config = dataclasses.replace(_of_pictures(config), rays=1)  # the pixels' centres alone
    hit = _trace(scene.world, scene.cameras, config=config)
    return _measure(scene.world, scene.cameras, hit, config=config)


@jax.jit
def _to_cameras(rotation: Array, normal: Array) -> Array:
    return jnp.einsum("bvij,bi->bvj", rotation, normal)


@own_dtypes
def render_scenes(
    scene: Scene, atlas: Atlas, config: ViewConfig, *, geometry: bool = False
) -> Views:
    """Pictures of scenes with leading axis B; with `geometry`, also what they show."""
    cameras = scene.cameras
    return Views(
        image=_images(scene, atlas, config),
        rotation=cameras.rotation,
        centre=cameras.centre,
        field_of_view=cameras.field_of_view,
        target=scene.target,
        normal=scene.normal,
        camera_normal=_to_cameras(cameras.rotation, scene.normal),
        visible=scene.visible,
        geometry=_geometry(scene, config) if geometry else None,
    )


@own_dtypes
def render_pairs(keys: Array, atlas: Atlas, config: ViewConfig, *, geometry: bool = False) -> Views:
    """Keys [B] -> B random scenes, each seen twice. Results are sharded as the keys are."""
    return render_scenes(sample_scenes(keys, config=config), atlas, config, geometry=geometry)


@own_dtypes
def render(world: World, camera: Camera, atlas: Atlas, config: ViewConfig) -> Array:
    """uint8 [H, W, 3]: one view of one world, both unbatched, developed plainly."""
    twice = jax.tree.map(lambda x: jnp.stack([x, x])[None], camera)
    developments = jax.tree.map(lambda x: jnp.stack([x, x])[None], photometry.plain_development())
    worlds = jax.tree.map(lambda x: x[None], world)
    scene = Scene(worlds, camera.centre, camera.centre, twice, camera.centre, developments)
    return _images(scene, atlas, config)[0, 0]
