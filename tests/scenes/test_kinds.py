"""A kind of scene is one record: what it says of itself is all that others know of it."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from kind_child import ALLEYS, AlleyConfig

from posenet_jax import scenes
from posenet_jax.data.rendered_examples import RenderedExamples
from posenet_jax.errors import InputError
from posenet_jax.scenes import interventions, kinds

ROOT = Path(__file__).parents[2]
CONFIG = AlleyConfig(height=16, width=16, rays=1)


@pytest.fixture
def alleys(monkeypatch):
    monkeypatch.setitem(kinds.KINDS, "alleys", ALLEYS)


def test_both_names_of_a_kind_are_taken():
    for name, written, config in (
        ("streets", "cities", scenes.SceneConfig),
        ("cars", "cars", scenes.CarConfig),
        ("rooms", "indoor", scenes.RoomConfig),
    ):
        assert scenes.kind_named(name) is scenes.kind_named(written)
        assert scenes.kind_named(name).config is config
        assert scenes.kind_of(config()).written == written
    assert scenes.kind_names() == ["streets", "cars", "rooms", "cities", "indoor"]
    with pytest.raises(InputError, match=r"no kind of scene 'alleys'; there are streets, cars, ro"):
        scenes.kind_named("alleys")
    with pytest.raises(ValueError, match="no kind of scene has a AlleyConfig"):
        scenes.kind_of(AlleyConfig())


def test_figures_of_the_page_keep_their_names():
    assert {name: kind.figure_titles for name, kind in scenes.KINDS.items()} == {
        "streets": ("figure_5_streets", "Fig. 5: streets inverted", "Rendered streets"),
        "rooms": ("figure_9_rooms", "Fig. 9: rooms inverted", "Rendered rooms"),
        "cars": ("figure_10_cars", "Fig. 10: cars inverted", "Rendered cars"),
    }


@pytest.mark.parametrize("name, written", [("streets", "cities"), ("cities", "cities")])
def test_data_sets_have_the_name_of_before(name, written, small_atlas):
    mesh = Mesh(np.asarray(jax.devices()), ("scenes",))
    examples = RenderedExamples(kind=name, count=3, seed=7, atlas=small_atlas, mesh=mesh)
    assert examples.recipe["kind"] == written and examples.name(2) == f"{written}/7/2"


def test_a_kind_from_outside_is_known_everywhere(alleys):
    assert scenes.kind_names()[3:5] == ["alleys", "cities"]
    assert scenes.kind_named("alleys-1") is scenes.kind_of(CONFIG) is ALLEYS
    titles = ("scenes_alleys", "Scenes inverted: alleys", "Rendered alleys")
    assert scenes.kind_named("alleys").figure_titles == titles
    assert set(interventions.AMOUNTS) - set(interventions.available(CONFIG)) == {"clutter"}
    assert "clutter" in interventions.available(scenes.SceneConfig())


def test_a_kind_from_outside_is_rendered(alleys, small_atlas):
    mesh = Mesh(np.asarray(jax.devices()), ("scenes",))
    examples = RenderedExamples(
        kind="alleys", count=2, seed=7, atlas=small_atlas, mesh=mesh, size=16, batch=2
    )
    made = examples.render([0, 1])
    assert made["image"].shape == (2, 2, 16, 16, 3) and made["image"].std() > 1
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(7), np.arange(2))
    keys = jax.device_put(keys, NamedSharding(mesh, PartitionSpec("scenes")))  # as `render` has it
    world = scenes.sample_scenes(keys, config=dataclasses.replace(CONFIG, rays=2)).world
    line = np.asarray(world.street.line).reshape(2, 2)
    assert np.all(line.min(axis=1) <= 5.0)  # one side at least: a square may widen the other


def test_a_kind_from_outside_is_in_the_flags_before_jax_is_imported():
    """In a process of its own, of flags that other scripts have too."""
    code = (
        "import sys; sys.path.append('tests/support'); import kind_child; kind_child.register();"
        "from absl import flags; from experiments.common import options;"
        "one, many = options.rendered_kind(), options.kinds();"
        "print(flags.FLAGS.get_help());"
        "print(flags.FLAGS(['x', '--kind=alleys'])[1:], one.value, *many.value);"
        "flags.FLAGS(['x', '--kind=alleys-1', '--kinds=rooms,alleys']);"
        "print(one.value, *many.value, flags.FLAGS['kinds'].serialize());"
        "print(sorted({'jax', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    *help_text, first, second, heavy = done.stdout.splitlines()
    words = " ".join(" ".join(help_text).split())
    assert "(one of streets, cars, rooms, alleys)" in words
    assert "(a comma separated list of streets, cars, rooms, alleys)" in words
    assert first == "[] alleys-1 cities cars indoor alleys-1"
    assert second == "alleys-1 indoor alleys-1 --kinds=rooms,alleys"
    assert heavy == "[]"
