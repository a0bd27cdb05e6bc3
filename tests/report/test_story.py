"""What the report's story shows: a descent as the engine makes it, and figures in words."""

import dataclasses

import jax
import numpy as np
import pytest

from posenet_jax.encoders import weights
from posenet_jax.inversion import engine, recipes
from posenet_jax.report import page, story_material, story_sections, why_sections
from posenet_jax.report.story_material import Descent, Pair

ENDS = ("", "_low", "_high")


@pytest.fixture(scope="module")
def compact():
    return weights.load_encoder("compact")


def test_a_descent_ends_where_the_engine_s_does(compact):
    """The same noise and the same steps; the pictures shown are of the steps that they say."""
    images = story_material.demo_images(compact.preprocessing).pixels[:2]
    recipe = dataclasses.replace(recipes.CALIBRATED, steps=5)
    key, tap = jax.random.key(3), compact.tap("fc5")
    done = story_material.descended(
        compact, *images, key=jax.random.fold_in(key, 0), recipe=recipe, progress=None
    )
    wanted = engine.invert(tap, tap.describe(images[:1]), key=key, recipe=recipe, slots=2)
    np.testing.assert_allclose(done.losses[-1], wanted.relative_loss[0], rtol=1e-4)
    picture = compact.preprocessing.to_image(wanted.image)[0].astype(float)
    assert np.abs(done.pictures[5] - picture).max() <= 1
    assert list(done.pictures) == [1, 5] and len(done.losses) == 5
    assert done.losses[0] > done.losses[-1] and np.all(np.diff(done.losses) <= 0)
    assert 0 < done.another < 1


def test_a_network_without_bundled_decoders_has_descents_alone(compact):
    assert not story_material.has_decoders(compact)
    assert story_material.essence_work(compact, 8, 300) == 8 * 300
    assert story_material.of_depth(compact)[-1] == "fc5"


def test_what_training_rewards_is_told_with_the_bundled_table_s_numbers():
    (_, cards) = why_sections.trainings().parts
    pose, match, normal, every = cards.cards
    assert [mark.label for mark in pose.marks] == [
        *("shared (0)", "shared (1)", "developed apart (0)"),
        *("recoloured (0)", "recoloured (1)", "untrained", "another street"),
    ]
    shared, apart, recoloured = pose.marks[0], pose.marks[2], pose.marks[3]
    assert shared.low > recoloured.high and shared.low < shared.value < shared.high
    assert apart.low > recoloured.high
    assert "shared 12.3° and 12.3°; developed apart 12.6°; recoloured 11.9°" in pose.text
    assert "shared 36 % and 40 %; developed apart 50 %" in match.text
    assert "shared 7.8°" in normal.text and len(normal.marks) == 5
    assert [mark.label for mark in every.marks][-3:-2] == ["shared, robust (0)"]
    for card in cards.cards:  # alike on all cards
        assert {mark.kind for mark in card.marks if mark.label.startswith("recoloured")} == {2}
        assert len({mark.kind for mark in card.marks}) <= 6  # as many as are seen on dark pages


def test_the_method_is_told_of_networks_with_heads_and_without(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    shapes = {"conv1": (4, 4, 8), "fc5": (40,)}
    pair = Pair(images, rng.uniform(0, 1, (2, 40)), 30.0, 29.0, 2.5, shapes)
    descent = Descent(images[0], {1: images[1], 2: images[0]}, np.array([0.5, 0.25]), 0.4)
    section = story_sections.method(tmp_path, pair, descent)
    assert {path.name for path in tmp_path.iterdir()} == set(story_sections.METHOD_FILES)
    network, tiles, _ = section.parts
    assert "30° apart" in network.caption and "2.5° from the true one" in network.caption
    assert network.png != network.narrow and "conv1 4×4×8" in network.alt
    (example,) = tiles.examples
    assert [tile.label for tile in example.tiles] == ["original", "after 1 step", "after 2 steps"]
    assert [tile.value for tile in example.tiles[1:]] == ["loss 0.500", "loss 0.250"]
    silent = story_sections.method(tmp_path, pair._replace(seen=None, error=None), descent)
    assert "apart" not in silent.parts[0].caption


def test_why_sets_displacements_beside_the_control_s_and_what_the_heads_see():
    rows = [
        {"encoder": encoder, "layer": layer, "intervention": name, "scenes": 9}
        | {f"ratio_to_other{end}": value for end in ENDS}
        for encoder, value in (("mine", 0.25), ("control", 0.75))
        for layer in ("conv1", "fc5")
        for name in ("yaw", "geometry", "colour", "another scene")
    ]
    seen = [
        {"encoder": "mine", "intervention": name, "mean": 2.0, "low": 1.0, "high": 3.0}
        | {"true_degrees": true}
        for name, true in (("yaw", 10.0), ("geometry", None), ("colour", 0.0))
    ]
    turned, geometry, colour = _cards(why_sections.why(rows, seen))
    assert [(mark.label, mark.value) for mark in colour.marks] == [
        ("trained", 0.25),
        ("untrained", 0.75),
    ]
    assert "2.0° [1.0, 3.0]; there is one of 10°" in turned.text
    assert geometry.text.endswith("2.0° [1.0, 3.0].") and "one of 0°" in colour.text
    assert not any("heads" in card.text for card in _cards(why_sections.why(rows, [])))


def _cards(section):
    (cards,) = (part for part in section.parts if isinstance(part, page.Cards))
    return cards.cards
