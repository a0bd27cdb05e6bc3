"""Rendered scenes, each with one thing changed: what an encoder's layers are to be moved by.

B scenes, one view each: the first of the pair that the renderer draws. Whatever is not changed is
the same bit for bit, the photograph's settings and its sensor's noise included, or else noise alone
would move a descriptor.

How much changes. The camera's moves are of a fixed size: 10° each of yaw (to the right), pitch (up)
and roll (clockwise), and a step to the right of 0.15 of the distance to the target. Everything else
is drawn anew: how far another colour is from the first is what the training distribution makes of
it, and so for texture, light, geometry and the photograph's settings. Geometry is another street,
and the camera that its own targets and obstacles allow: no other change moves the camera too.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from posenet_jax import scenes
from posenet_jax.numerics import own_dtypes
from posenet_jax.scenes import photometry
from posenet_jax.scenes.keys import SceneKeys, scene_keys
from posenet_jax.scenes.rendering import sample_keys

Array = jax.Array

STEP = 0.15  # to the right, as a fraction of the distance to the target
# Yaw, pitch and roll, degrees.
TURNS = {"yaw": (10.0, 0.0, 0.0), "pitch": (0.0, 10.0, 0.0), "roll": (0.0, 0.0, 10.0)}
_SWAPS = ("colour", "texture", "light", "geometry")
# What is done, and how much of it, in the order in which figures show it.
AMOUNTS = {
    "noise": "sensor noise drawn anew",
    "photograph": "exposure, white balance, tone, lens and noise drawn anew",
    "colour": "colours of surfaces drawn anew",
    "texture": "textures drawn anew",
    "light": "sun, sky and haze, or lamps, drawn anew",
    "clutter": "cars, trees and posts taken away",
    "geometry": "another street or room, with a camera of its own",
    "yaw": "10° to the right",
    "pitch": "10° up",
    "roll": "10° clockwise",
    "translation": f"{STEP} of the target's distance to the right",
}


def available(config: scenes.ViewConfig) -> tuple[str, ...]:
    """The interventions on a kind of scene: all, but that of clutter where it has none."""
    has_clutter = scenes.kind_of(config).functions().clutter is not None
    return tuple(name for name in AMOUNTS if has_clutter or name != "clutter")


@own_dtypes
def numbered_keys(key: Array, start: int, count: int) -> Array:
    """[count] keys of the scenes from number `start`: a scene depends on `key` and its number."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(start, start + count))


@own_dtypes
def redrawn(keys: Array, part: str, number: int, config: scenes.ViewConfig) -> scenes.Scene:
    """Keys [B] -> the scenes of `scenes.sample_scenes`, one part drawn anew; the first view each.

    part: a field of `SceneKeys`. number: which of the further draws, from 1 on.
    """
    parts, view_key, photo_key = sample_keys(keys)
    other = jax.vmap(jax.random.fold_in, (0, None))(getattr(parts, part), number)
    changed = parts._replace(**{part: other})
    return scenes.first_view(scenes.scenes_from_keys(changed, view_key, photo_key, config=config))


@jax.jit
def _split(keys: Array) -> tuple[SceneKeys, SceneKeys, Array, Array, Array]:
    """Keys of the world's parts, of their replacements, of views, of photographs and of others."""

    def one(key: Array) -> tuple[Any, ...]:
        world_key, fresh_key, view_key, photo_key, other_key = jax.random.split(key, 5)
        return scene_keys(world_key), scene_keys(fresh_key), view_key, photo_key, other_key

    return jax.vmap(one)(keys)


@own_dtypes
def draw(keys: Array, config: scenes.ViewConfig) -> dict[str, scenes.Scene]:
    """Keys [B] -> "original" and the same B scenes under every intervention, one view each."""
    parts, fresh, view_key, photo_key, other_key = _split(keys)

    def build(world_keys: SceneKeys) -> scenes.Scene:
        return scenes.first_view(
            scenes.scenes_from_keys(world_keys, view_key, photo_key, config=config)
        )

    original = build(parts)
    made = {name: build(parts._replace(**{name: getattr(fresh, name)})) for name in _SWAPS}
    made["noise"] = original._replace(developments=_other_noise(original.developments))
    others = _other_developments(other_key, config=config.development)
    made["photograph"] = original._replace(developments=others)
    for name, degrees in TURNS.items():
        cameras = _turned(original.cameras, jnp.radians(jnp.array(degrees)))
        made[name] = original._replace(cameras=cameras)
    made["translation"] = original._replace(cameras=_stepped(original))
    if "clutter" in available(config):
        made["clutter"] = original._replace(world=_uncluttered(original.world, config))
    return {"original": original} | {name: made[name] for name in available(config)}


@jax.jit
def _other_noise(developments: photometry.Development) -> photometry.Development:
    other = functools.partial(jax.random.fold_in, data=1)
    return developments._replace(noise_key=jax.vmap(jax.vmap(other))(developments.noise_key))


@functools.partial(jax.jit, static_argnames=("config",))
def _other_developments(keys: Array, config: scenes.DevelopmentConfig) -> photometry.Development:
    def one(key: Array) -> photometry.Development:
        both = photometry.sample_developments(key, config)
        return jax.tree.map(lambda x: x[:1], both)

    return jax.vmap(one)(keys)


@jax.jit
def _turned(cameras: scenes.Camera, angles: Array) -> scenes.Camera:
    """Cameras with two leading axes, each turned by yaw, pitch and roll [3], radians."""

    def one(camera: scenes.Camera) -> scenes.Camera:
        yaw, pitch, roll = angles
        return scenes.moved(camera, yaw=yaw, pitch=pitch, roll=roll)

    return jax.vmap(jax.vmap(one))(cameras)


@jax.jit
def _stepped(scene: scenes.Scene) -> scenes.Camera:
    def one(camera: scenes.Camera, target: Array) -> scenes.Camera:
        step = STEP * jnp.linalg.norm(target - camera.centre)
        return scenes.moved(camera, translation=step * jnp.array([1.0, 0.0, 0.0]))

    return jax.vmap(jax.vmap(one, (0, None)))(scene.cameras, scene.target)


@functools.partial(jax.jit, static_argnames=("config",))
def _uncluttered(worlds: Any, config: scenes.ViewConfig) -> Any:
    without_clutter = scenes.kind_of(config).functions().clutter
    assert without_clutter is not None
    return jax.vmap(without_clutter)(worlds)
