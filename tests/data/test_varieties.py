"""Varieties of training pairs: what they change, and where."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from posenet_jax import scenes
from posenet_jax.data import varieties
from posenet_jax.data.photo_rooms import RoomViews, sample_room_pair
from posenet_jax.data.virtual_rotation import VirtualRotation, sample_photo_pair
from posenet_jax.errors import InputError

CONFIGS = [scenes.SceneConfig(), VirtualRotation(), RoomViews()]


def _changes(config, names):
    """Names of the fields that varieties change, `of.field` where they are a field's."""
    other = varieties.varied(config, names)
    assert type(other) is type(config)
    flat = {}
    for one, tree in (("before", config), ("after", other)):
        flat[one] = {
            f"{name}.{inner}" if isinstance(value, dict) else name: part
            for name, value in dataclasses.asdict(tree).items()
            for inner, part in (value.items() if isinstance(value, dict) else [("", value)])
        }
    return {name for name, value in flat["after"].items() if value != flat["before"][name]}


@pytest.mark.parametrize("name", varieties.VARIETIES)
def test_each_changes_some_pairs_and_all_that_it_names(name):
    changed = set().union(*(_changes(config, [name]) for config in CONFIGS))
    named = {
        f"{field}.{inner}" if isinstance(value, dict) else field
        for field, value in varieties.VARIETIES[name].changes.items()
        for inner in (value if isinstance(value, dict) else [""])
    }
    assert changed == named


def test_photographs_have_no_courts_and_streets_every_variety():
    assert _changes(VirtualRotation(), ["courts", "traffic", "weather", "aside"]) == set()
    streets = _changes(scenes.SceneConfig(), list(varieties.VARIETIES))
    assert {"chance_of_court", "chance_aside", "development.lowest_quality"} <= streets
    assert _changes(scenes.SceneConfig(), []) == set()


def test_pairs_of_all_varieties_together_are_pairs_like_any():
    """Traced, and not compiled, which takes ten times as long."""
    streets, photographs, rooms = (varieties.varied(c, list(varieties.VARIETIES)) for c in CONFIGS)
    key, photo = jax.random.key(0), jnp.zeros((120, 160, 3), jnp.uint8)
    pairs = [
        jax.eval_shape(lambda: sample_photo_pair(key, photo, photographs)),
        jax.eval_shape(lambda: sample_room_pair(key, photo, jnp.eye(3), jnp.float32(1.0), rooms)),
    ]
    for pair in pairs:
        assert pair.image.shape == (2, 100, 100, 3) and pair.image.dtype == jnp.uint8
        assert pair.rotation.shape == (2, 3, 3)
    scene = jax.eval_shape(lambda: scenes.sample_scene(key, streets))
    assert scene.cameras.rotation.shape == (2, 3, 3) and scene.visible.shape == (2,)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(scene.developments)} == {2}


def test_an_unknown_variety_is_named():
    with pytest.raises(
        InputError, match="no variety 'fog' of pairs; there are views, aside, along, dev"
    ):
        varieties.varied(VirtualRotation(), ["views", "fog"])
