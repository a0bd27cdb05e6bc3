"""Displacements against NumPy on the pictures themselves; intervals against known distributions."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from PIL import Image
from scipy.spatial.transform import Rotation

from posenet_jax import scenes
from posenet_jax.analysis import sensitivity
from posenet_jax.encoders.encoder import init_params
from posenet_jax.encoders.heads import PoseScale
from posenet_jax.encoders.streetnet import Compact
from posenet_jax.encoders.weights import random_encoder
from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.report import analysis_plots
from posenet_jax.scenes import interventions
from posenet_jax.sharding import on_every_device, over_devices

SIZE, COUNT, BATCH = 64, 5, 4
SPACE = Preprocessing(means=(104.0, 117.0, 123.0), size=SIZE)
# Without a sensor's noise, drawing it anew changes nothing at all.
QUIET = scenes.SceneConfig(
    height=SIZE, width=SIZE, rays=1, development=scenes.DevelopmentConfig(noise=0.0)
)


# As one program: operation by operation, a network is some hundred.
compiled = jax.jit(lambda tap, images: tap(images))


@pytest.fixture(scope="module")
def encoders():
    """The first with heads, untrained as all else, the second without."""
    made = []
    for seed in (0, 1):
        params, heads = init_params(Compact(), jax.random.key(seed), SIZE)
        base = random_encoder("compact", seed=seed, preprocessing=SPACE)
        made.append(dataclasses.replace(base, params=params))
    scale = PoseScale(mean=jnp.full(6, 0.1), std=jnp.full(6, 0.01))
    made[0] = dataclasses.replace(made[0], head_params=heads, pose_scale=scale)
    return made


def measure(encoders, atlas, **options):
    mesh = Mesh(np.asarray(jax.devices()), ("scenes",))
    defaults = {"key": jax.random.key(3), "count": COUNT, "batch": BATCH, "shown": BATCH}
    return sensitivity.measure(encoders, atlas, QUIET, mesh=mesh, **defaults | options)


@pytest.fixture(scope="module")
def measured(encoders, small_atlas):
    done = []
    found = measure(encoders, small_atlas, progress=done.append)
    assert done == [BATCH, COUNT - BATCH]
    return found


def test_displacements_are_those_of_the_pictures(encoders, measured):
    assert measured.left_out == 0
    for encoder, found in zip(encoders, measured.displacements, strict=True):
        assert found.encoder == encoder.name
        inside = {
            name: np.asarray(SPACE.to_network(pictures))
            for name, pictures in measured.pictures.items()
        }
        inside[sensitivity.OTHER] = np.roll(inside["original"], 1, axis=0)
        for layer in ("pixels", "conv3", "fc5"):
            phi = np.asarray if layer == "pixels" else partial(compiled, encoder.tap(layer))
            before = np.asarray(phi(inside["original"]), np.float64).reshape(BATCH, -1)
            assert list(found.values[layer]) == list(sensitivity.AMOUNTS)
            for name, values in found.values[layer].items():
                assert values.shape == (COUNT,)
                after = np.asarray(phi(inside[name]), np.float64).reshape(BATCH, -1)
                moved = np.linalg.norm(after - before, axis=1) / np.linalg.norm(before, axis=1)
                np.testing.assert_allclose(values[:BATCH], moved, rtol=2e-4, atol=1e-6)


def test_the_same_picture_moves_nothing(measured):
    for found in measured.displacements:
        for layer in (sensitivity.PIXELS, *Compact.taps):
            np.testing.assert_array_equal(found.values[layer]["noise"], 0.0)
            assert (found.values[layer]["yaw"] > 0).all()


def test_heads_are_asked_for_the_rotation(encoders, measured):
    encoder, found = encoders[0], measured.displacements[0]
    tap = partial(compiled, encoder.tap("fc5"))
    seen = {name: tap(SPACE.to_network(made)) for name, made in measured.pictures.items()}
    for name in ("colour", "yaw", "noise"):
        said = np.asarray(encoder.heads(seen["original"], seen[name]).pose, np.float64)
        turn = Rotation.from_euler("YXZ", said[:, :3] * 0.01 + 0.1)
        degrees = np.degrees(turn.magnitude())
        np.testing.assert_allclose(found.rotations[name][:BATCH], degrees, rtol=1e-3)
    assert measured.displacements[1].rotations is None
    rows = {r["intervention"]: r for r in sensitivity.rotation_table(measured.displacements)}
    assert list(rows) == list(sensitivity.AMOUNTS)
    truth = {name: row["true_degrees"] for name, row in rows.items() if row["true_degrees"]}
    assert truth == {"yaw": 10.0, "pitch": 10.0, "roll": 10.0}
    assert rows["geometry"]["true_degrees"] is None and rows["colour"]["true_degrees"] == 0.0
    assert rows["yaw"]["mean"] == pytest.approx(found.rotations["yaw"].mean())
    assert rows["yaw"]["low"] <= rows["yaw"]["mean"] <= rows["yaw"]["high"]


def test_a_scene_does_not_depend_on_its_batch(encoders, measured, small_atlas):
    """Scenes 3 and 4, of two batches, are the same in one that begins with the third."""
    mesh = Mesh(np.asarray(jax.devices()), ("scenes",))
    everywhere = on_every_device(mesh)
    encoder, placed = jax.device_put((encoders[0], small_atlas), everywhere)
    keys = interventions.numbered_keys(jax.random.key(3), 3, BATCH)
    drawn = interventions.draw(jax.device_put(keys, over_devices(mesh)), QUIET)
    images = {
        name: scenes.render_scenes(one, placed, QUIET).image[:, 0] for name, one in drawn.items()
    }
    other = sensitivity._of_batch(encoder, images)
    for layer in (sensitivity.PIXELS, *Compact.taps):
        for name in interventions.AMOUNTS:
            one, two = measured.displacements[0].values[layer][name], other[layer][name]
            np.testing.assert_allclose(one[3:5], two[:2], rtol=1e-3, atol=1e-6)


def test_encoders_of_another_size_are_refused(encoders, small_atlas):
    other = random_encoder("compact", preprocessing=Preprocessing(means=SPACE.means, size=70))
    with pytest.raises(InputError, match="'compact-random-0' reads 70×70 pixels.* 64×64"):
        measure([*encoders, other], small_atlas)


def displacements(name, values):
    """The same values [N] by intervention at all layers."""
    layers = (sensitivity.PIXELS, *Compact.taps)
    return sensitivity.Displacements(name, dict.fromkeys(layers, values))


def row(rows, encoder, intervention):
    (found,) = (
        r
        for r in rows
        if (r["encoder"], r["layer"], r["intervention"]) == (encoder, "fc5", intervention)
    )
    return found


def test_intervals_are_the_known_ones():
    """Standard error of the mean, s / √N; of a ratio of independent means by the delta method."""
    rng = np.random.default_rng(0)
    count = 400
    yaw, roll = rng.gamma(4.0, 0.1, (2, count))
    values = {"roll": roll, "colour": 3.0 * yaw, "yaw": yaw, "another scene": np.ones(count)}
    rows = sensitivity.table([displacements("one", values)], resamplings=4000)
    found = row(rows, "one", "roll")
    error = roll.std() / np.sqrt(count)
    assert found["mean"] == pytest.approx(roll.mean())
    ends = np.array([found["low"], found["high"]]) - roll.mean()
    np.testing.assert_allclose(ends, [-1.96 * error, 1.96 * error], rtol=0.08)
    variation = sum((x.std() / x.mean()) ** 2 / count for x in (roll, yaw))
    ratio = roll.mean() / yaw.mean()
    width = found["ratio_to_yaw_high"] - found["ratio_to_yaw_low"]
    assert width == pytest.approx(2 * 1.96 * ratio * np.sqrt(variation), rel=0.08)
    assert found["ratio_to_other"] == pytest.approx(found["mean"])
    # What is proportional scene by scene has a ratio without error.
    proportional = row(rows, "one", "colour")
    for end in ("", "_low", "_high"):
        assert proportional[f"ratio_to_yaw{end}"] == pytest.approx(3.0)
        assert proportional[f"yaw_over_control{end}"] == pytest.approx(1.0)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    inside = []
    for seed in range(200):
        drawn = np.random.default_rng(seed).gamma(4.0, 0.25, (60, 2)).T
        values = {"roll": drawn[0], "yaw": drawn[1], "another scene": np.ones(60)}
        rows = sensitivity.table([displacements("one", values)], resamplings=200, seed=seed)
        found = row(rows, "one", "roll")
        inside.append(found["ratio_to_yaw_low"] < 1.0 < found["ratio_to_yaw_high"])
    assert 0.9 < np.mean(inside) < 0.99


def test_the_last_encoder_is_the_control():
    rng = np.random.default_rng(1)
    yaw, roll, other = rng.uniform(0.5, 1.5, (3, 30))
    plain = {"roll": roll, "yaw": yaw, "another scene": other}
    blind = {"roll": 0.25 * roll, "yaw": yaw, "another scene": 0.5 * other}
    rows = sensitivity.table([displacements("one", blind), displacements("two", plain)])
    found = row(rows, "one", "roll")
    for name, expected in (("yaw_over_control", 0.25), ("other_over_control", 0.5)):
        for end in ("", "_low", "_high"):
            assert found[name + end] == pytest.approx(expected)
    assert row(rows, "two", "roll")["yaw_over_control"] == 1.0


@pytest.mark.parametrize("unit", ["yaw", "other"])
def test_the_figure_is_written_whole(tmp_path, measured, unit):
    rows = sensitivity.table(measured.displacements)
    path = tmp_path / "sensitivity.png"
    analysis_plots.sensitivity_figure(path, rows, unit=unit)
    picture = np.asarray(Image.open(path).convert("L"))
    assert min(picture.shape) > 400 and 20 < picture.std() and (picture > 250).mean() > 0.5
    assert [p.name for p in tmp_path.iterdir()] == ["sensitivity.png"]


def test_a_layers_profile_is_said_in_lines(measured):
    rows = sensitivity.table(measured.displacements)
    rotations = sensitivity.rotation_table(measured.displacements)
    name = measured.displacements[0].encoder
    head, *lines = sensitivity.sentences(rows, rotations, name, "conv1")
    assert head.startswith(f"{name} conv1, {rows[0]['scenes']} scenes")
    assert len(lines) == len(measured.displacements[0].interventions)
    yaw = next(line for line in lines if line.split()[0] == "yaw")
    assert "1.00 [1.00, 1.00]" in yaw and "the heads see" in yaw
    last = measured.displacements[-1].encoder
    assert not any("heads" in line for line in sensitivity.sentences(rows, rotations, last))
