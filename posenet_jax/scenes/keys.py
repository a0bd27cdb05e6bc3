"""Keys of the parts of a scene, apart so that one of them can be changed."""

from typing import NamedTuple

import jax

from posenet_jax.numerics import own_dtypes

Array = jax.Array


class SceneKeys(NamedTuple):
    """Replace one to change that alone: `scene_keys(key)._replace(light=other)`."""

    geometry: Array
    texture: Array
    colour: Array
    light: Array


@own_dtypes
def scene_keys(key: Array) -> SceneKeys:
    """The keys of the independent parts of a scene of any kind."""
    return SceneKeys(*jax.random.split(key, len(SceneKeys._fields)))
