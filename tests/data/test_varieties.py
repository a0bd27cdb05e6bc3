"""Varieties of training pairs: what they change, and where."""

import dataclasses

import pytest

from posenet_jax import scenes
from posenet_jax.data import varieties
from posenet_jax.data.photo_rooms import RoomViews
from posenet_jax.data.virtual_rotation import VirtualRotation
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


def test_an_unknown_variety_is_named():
    with pytest.raises(InputError, match="no variety 'fog' of pairs; there are views, aside, dev"):
        varieties.varied(VirtualRotation(), ["views", "fog"])
