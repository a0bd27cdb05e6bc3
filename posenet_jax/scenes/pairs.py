"""Batches of pairs of views. B pairs, 2 views each, images uint8 [B, 2, H, W, 3] RGB.

Each stage is a jitted function of its own: in one program, XLA's CPU fusion repeats the loop over
boxes for every use of its result, and an optimisation barrier does not stop it. Batching happens
here and nowhere else. Computation follows the sharding of the keys: spread them over a mesh's
batch axis and every stage and every result is spread alike.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from posenet_jax import geometry
from posenet_jax.scenes import photometry, raycast, shading, views
from posenet_jax.scenes.atlas import Atlas
from posenet_jax.scenes.city import SKY, City, CityKeys, build_city, city_keys
from posenet_jax.scenes.config import SceneConfig
from posenet_jax.scenes.photometry import Development
from posenet_jax.scenes.raycast import Camera

Array = jax.Array


class Scene(NamedTuple):
    """Everything about a pair of views but the picture. Unbatched shapes; batches lead."""

    city: City
    target: Array  # [3] metres, world
    normal: Array  # [3] the target's facade, unit, world
    cameras: Camera  # leading axis 2
    visible: Array  # [2] bool
    developments: Development  # leading axis 2


class Geometry(NamedTuple):
    """What a camera sees, exactly, at the pixels' centres."""

    depth: Array  # float32 [B, 2, H, W] metres along the optical axis; inf for the sky
    semantic: Array  # uint8 [B, 2, H, W], `Semantic`
    normals: Array  # [B, 2, H, W, 3] unit, camera frame; zero for the sky
    vanishing: Array  # [B, 2, 3, 3] rows: homogeneous pixel (x, y, w) of street, across, up


class Views(NamedTuple):
    """A batch of pairs of views. B pairs."""

    image: Array  # uint8 [B, 2, H, W, 3] RGB
    rotation: Array  # [B, 2, 3, 3] camera to world
    centre: Array  # [B, 2, 3] metres, world
    field_of_view: Array  # [B] radians, horizontal
    target: Array  # [B, 3] metres, world
    normal: Array  # [B, 3] unit, world
    camera_normal: Array  # [B, 2, 3] unit, camera frame
    visible: Array  # [B, 2] bool: nothing stands between camera and target
    geometry: Geometry | None = None


def _pairwise(function):
    """Map over B, then over the two views; the first argument (a city) is one per pair."""

    def mapped(city, *rest):
        return jax.vmap(jax.vmap(function, (None,) + (0,) * len(rest)))(city, *rest)

    return mapped


def _stage(function):
    """A program of its own; `config` is static."""
    return functools.partial(jax.jit, static_argnames=("config",))(function)


def scene_from_keys(
    keys: CityKeys, view_key: Array, photo_key: Array, config: SceneConfig
) -> Scene:
    """Unbatched scene of explicit keys: exchange one to change one thing alone."""
    city = build_city(keys, config)
    target, normal, cameras, visible = views.sample_pair(view_key, city, config)
    develop = jax.vmap(lambda key: photometry.sample_development(key, config))
    developments = develop(jax.random.split(photo_key))
    return Scene(city, target, normal, cameras, visible, developments)


def _scene_keys(key: Array) -> tuple[CityKeys, Array, Array]:
    """Of the city, the views and the photographs."""
    city_key, view_key, photo_key = jax.random.split(key, 3)
    return city_keys(city_key), view_key, photo_key


_split = jax.jit(jax.vmap(_scene_keys))


def sample_scene(key: Array, config: SceneConfig) -> Scene:
    """A random scene, unbatched."""
    return scene_from_keys(*_scene_keys(key), config)


@_stage
def scenes_from_keys(
    keys: CityKeys, view_keys: Array, photo_keys: Array, config: SceneConfig
) -> Scene:
    """`scene_from_keys` for keys with leading axis B."""
    one = functools.partial(scene_from_keys, config=config)
    return jax.vmap(one)(keys, view_keys, photo_keys)


def sample_scenes(keys: Array, config: SceneConfig) -> Scene:
    """Keys [B] -> scenes with leading axis B, each that of `sample_scene`."""
    return scenes_from_keys(*_split(keys), config=config)


def _directions(camera: Camera, config: SceneConfig) -> raycast.Vector:
    rays = raycast.image_rays(config, camera.field_of_view)
    return raycast.to_world(camera.rotation, rays)


@_stage
def _trace(city: City, cameras: Camera, config: SceneConfig) -> Array:
    def one(city, camera):
        return raycast.nearest_hit(city, camera.centre, _directions(camera, config))

    return _pairwise(one)(city, cameras)


@_stage
def _shadow(city: City, cameras: Camera, hit: Array, config: SceneConfig) -> Array:
    def one(city, camera, hit):
        return shading.sun_reaches(city, camera, _directions(camera, config), hit)

    return _pairwise(one)(city, cameras, hit)


@_stage
def _look_up(city, cameras, hit, atlas, config) -> shading.Sample:
    def one(city, camera, hit):
        direction = _directions(camera, config)
        return shading.look_up(city, camera, direction, hit, atlas, config)

    return _pairwise(one)(city, cameras, hit)


_fetch = jax.jit(shading.fetch)


@_stage
def _shade(city, cameras, hit, texture, lit, config) -> Array:
    def one(city, camera, hit, texture, lit):
        direction = _directions(camera, config)
        return shading.shade(city, camera, direction, hit, texture, lit, config)

    return _pairwise(one)(city, cameras, hit, texture, lit)


@_stage
def _resolve(colour: Array, config: SceneConfig) -> Array:
    def one(colour):
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


def _images(scene: Scene, atlas: Atlas, config: SceneConfig) -> Array:
    """uint8 [B, 2, H, W, 3], stage after stage."""
    city, cameras = scene.city, scene.cameras
    hit = _trace(city, cameras, config=config)
    lit = _shadow(city, cameras, hit, config=config)
    texture = _fetch(atlas, _look_up(city, cameras, hit, atlas, config=config))
    colour = _shade(city, cameras, hit, texture, lit, config=config)
    image = _blur(_resolve(colour, config=config), scene.developments.blur)
    return _interleave(_develop(image, scene.developments))


def vanishing_points(camera: Camera, height: int, width: int) -> Array:
    """[3, 3] homogeneous pixel coordinates of the street's direction, across it and up.

    K R^T for K = [[f, 0, W/2], [0, f, H/2], [0, 0, 1]]; the columns of R^T are the world's axes.
    """
    focal = geometry.focal_length(width, camera.field_of_view)
    x, y, z = camera.rotation.T
    return jnp.stack([focal * x + 0.5 * width * z, focal * y + 0.5 * height * z, z], axis=-1)


def _view_geometry(city: City, camera: Camera, packed: Array, config: SceneConfig) -> Geometry:
    shape = (config.height, config.width)
    hit = raycast.unpack_hit(packed)
    direction = _directions(camera, config)
    point = shading.hit_point(camera, direction, hit.depth)
    normal = jnp.stack(shading.normals(city, direction, point, hit), axis=-1)
    sky = hit.identity == SKY
    normal = jnp.where(sky[:, None], 0.0, normal @ camera.rotation)
    return Geometry(
        jnp.where(sky, jnp.inf, hit.depth).reshape(shape),
        shading.semantic(hit.identity).reshape(shape),
        normal.reshape(*shape, 3),
        vanishing_points(camera, *shape),
    )


@_stage
def _measure(city, cameras, hit, config) -> Geometry:
    one = functools.partial(_view_geometry, config=config)
    return _pairwise(one)(city, cameras, hit)


def _geometry(scene: Scene, config: SceneConfig) -> Geometry:
    config = dataclasses.replace(config, rays=1)  # the pixels' centres alone
    hit = _trace(scene.city, scene.cameras, config=config)
    return _measure(scene.city, scene.cameras, hit, config=config)


@jax.jit
def _to_cameras(rotation: Array, normal: Array) -> Array:
    return jnp.einsum("bvij,bi->bvj", rotation, normal)


def render_scenes(
    scene: Scene, atlas: Atlas, config: SceneConfig, *, geometry: bool = False
) -> Views:
    """Pictures of scenes with leading axis B; with `geometry`, also what they show."""
    cameras = scene.cameras
    return Views(
        image=_images(scene, atlas, config),
        rotation=cameras.rotation,
        centre=cameras.centre,
        field_of_view=cameras.field_of_view[:, 0],
        target=scene.target,
        normal=scene.normal,
        camera_normal=_to_cameras(cameras.rotation, scene.normal),
        visible=scene.visible,
        geometry=_geometry(scene, config) if geometry else None,
    )


def render_pairs(
    keys: Array, atlas: Atlas, config: SceneConfig, *, geometry: bool = False
) -> Views:
    """Keys [B] -> B random scenes, each seen twice. Results are sharded as the keys are."""
    return render_scenes(sample_scenes(keys, config=config), atlas, config, geometry=geometry)


def render(city: City, camera: Camera, atlas: Atlas, config: SceneConfig) -> Array:
    """uint8 [H, W, 3]: one view of one city, both unbatched, developed plainly."""
    twice = jax.tree.map(lambda x: jnp.stack([x, x])[None], camera)
    developments = jax.tree.map(lambda x: jnp.stack([x, x])[None], photometry.plain_development())
    cities = jax.tree.map(lambda x: x[None], city)
    scene = Scene(cities, camera.centre, camera.centre, twice, camera.centre, developments)
    return _images(scene, atlas, config)[0, 0]
