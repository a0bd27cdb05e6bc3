"""Training: units, gradients, learning on a fixed batch, and a loop that resumes exactly."""

import csv
import dataclasses
import shutil
import threading
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from scipy.spatial.transform import Rotation

from posenet_jax import geometry
from posenet_jax.data.training_pairs import Pairs
from posenet_jax.encoders import heads
from posenet_jax.encoders.encoder_networks import trainable
from posenet_jax.encoders.heads import PoseCorrection
from posenet_jax.encoders.weights import load_encoder, random_encoder
from posenet_jax.errors import InputError, NotFinite
from posenet_jax.evaluation import pose_evaluation
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.training import pose_training, training_loop
from posenet_jax.training.checkpoints import Checkpoints
from posenet_jax.training.pose_training import TrainConfig
from posenet_jax.training.training_units import GAIN

SPACE = Preprocessing(means=(104.0, 117.0, 123.0))
CONFIG = TrainConfig(
    architecture="compact",
    rendered_pairs=8,
    photo_pairs=0,
    steps=28,
    warmup_steps=2,
    learning_rate=1e-3,
    ema_decay=0.5,
)


@pytest.fixture(scope="module")
def mesh():
    return Mesh(np.asarray(jax.devices()), ("pairs",))


@pytest.fixture(scope="module")
def pairs():
    """Eight pairs of coloured noise with random poses: to be learnt by heart."""
    rng = np.random.default_rng(0)
    count = CONFIG.rendered_pairs
    coarse = rng.integers(0, 256, (count, 1, 10, 10, 3)).repeat(2, 1)
    image = coarse.repeat(10, 2).repeat(10, 3).astype(np.uint8)
    angles = rng.uniform(-0.5, 0.5, (count * 2, 3)).astype(np.float32)
    rotation = jax.vmap(geometry.rotation_from_yaw_pitch_roll)(jnp.asarray(angles))
    normal = rng.normal(size=(count, 3))
    ones = np.ones(count, np.float32)
    return Pairs(
        image=image,
        rotation=np.asarray(rotation).reshape(count, 2, 3, 3),
        centre=rng.normal(size=(count, 2, 3)).astype(np.float32),
        normal=(normal / np.linalg.norm(normal, axis=1, keepdims=True)).astype(np.float32),
        match_weight=ones,
        pose_weight=ones,
        normal_weight=ones,
    )


@pytest.fixture(scope="module")
def scale(pairs):
    return pose_training.pose_scale(geometry.relative_poses(pairs.rotation, pairs.centre))


def _placed(mesh, state, pairs):
    return (
        jax.device_put(state, NamedSharding(mesh, PartitionSpec())),
        jax.device_put(pairs, NamedSharding(mesh, PartitionSpec("pairs"))),
    )


def test_learns_a_fixed_batch_by_heart(mesh, pairs, scale):
    state, batch = _placed(mesh, pose_training.init_state(CONFIG), pairs)

    def figures(state):
        encoder = pose_training.in_image_units(state.ema_params, CONFIG, SPACE, scale, "test")
        said = pose_evaluation.predict(encoder, pairs.image, mesh, batch=6)
        return pose_evaluation.summary(said, pairs)

    before = figures(state)
    losses = []
    for _ in range(CONFIG.steps):
        state, metrics = pose_training.train_step(
            state, (batch,), scale, config=CONFIG, space=SPACE, mesh=mesh
        )
        losses.append(float(metrics["loss"]))
    after = figures(state)
    assert losses[-1] < 0.5 * losses[0]
    assert after["rotation_median_deg"] < 0.6 * after["identity_median_deg"]
    assert after["normal_median_deg"] < 0.5 * before["normal_median_deg"]
    assert int(state.step) == CONFIG.steps


def test_a_pair_of_weight_zero_has_no_part_in_the_pose_loss(mesh, pairs, scale):
    def pose_loss(batch):
        state, batch = _placed(mesh, pose_training.init_state(CONFIG), batch)
        _, metrics = pose_training.train_step(
            state, (batch,), scale, config=CONFIG, space=SPACE, mesh=mesh
        )
        return float(metrics["rendered_pose"])

    weights = np.array([1, 1, 0, 1, 1, 1, 0, 1], np.float32)
    masked = pairs.replace(pose_weight=weights)
    moved = pairs.centre.copy()
    moved[[2, 6], 1] += 50.0
    assert pose_loss(masked) == pytest.approx(pose_loss(masked.replace(centre=moved)), rel=1e-6)
    assert pose_loss(pairs) != pytest.approx(pose_loss(pairs.replace(centre=moved)), rel=1e-2)


def test_a_pair_counted_both_ways_is_the_mean_of_two(mesh, pairs, scale):
    def losses(batch, **changes):
        state, batch = _placed(mesh, pose_training.init_state(CONFIG), batch)
        config = dataclasses.replace(CONFIG, **changes)
        _, metrics = pose_training.train_step(
            state, (batch,), scale, config=config, space=SPACE, mesh=mesh
        )
        return {task: float(metrics[f"rendered_{task}"]) for task in pose_training.TASKS}

    darker = np.stack([pairs.image[:, 0], pairs.image[:, 1] // 2], axis=1)
    pairs = pairs.replace(image=darker)
    rotation = np.asarray(pairs.rotation)
    turned = pairs.replace(
        image=pairs.image[:, ::-1],
        rotation=rotation[:, ::-1],
        centre=pairs.centre[:, ::-1],
        normal=np.stack(
            [
                second.T @ first @ n
                for (first, second), n in zip(rotation, pairs.normal, strict=True)
            ]
        ),
    )
    one, other, both = losses(pairs), losses(turned), losses(pairs, both_ways=True)
    for task in pose_training.TASKS:
        assert one[task] != pytest.approx(other[task], rel=1e-3)
        assert both[task] == pytest.approx(0.5 * (one[task] + other[task]), rel=1e-5)


def test_photographs_can_count_by_their_turns_alone(mesh, pairs, scale):
    """Where they moved to then makes no difference."""

    def pose_loss(batch, turns):
        config = dataclasses.replace(CONFIG, rendered_pairs=0, photo_pairs=8, photo_turns=turns)
        state, batch = _placed(mesh, pose_training.init_state(config), batch)
        _, metrics = pose_training.train_step(
            state, (batch,), scale, config=config, space=SPACE, mesh=mesh
        )
        return float(metrics["photo_pose"])

    angles = np.random.default_rng(1).uniform(-0.5, 0.5, (8, 3))
    second = Rotation.from_euler("YXZ", angles).as_matrix()
    rotation = np.stack([np.broadcast_to(np.eye(3), second.shape), second], axis=1)
    turned = pairs.replace(rotation=rotation.astype(np.float32))
    moved = turned.replace(centre=9.0 * turned.centre)
    assert pose_loss(turned, True) == pytest.approx(pose_loss(moved, True), rel=1e-5)
    assert pose_loss(turned, False) != pytest.approx(pose_loss(moved, False), rel=0.05)


def test_positions_in_photographs_stay_near_those_of_a_former_network(mesh, pairs, scale):
    """The loss grows by the squared distance of z-scored positions, seen from either view."""
    config = dataclasses.replace(
        CONFIG, rendered_pairs=0, photo_pairs=8, photo_turns=True, both_ways=True
    )
    former = pose_training.init_state(dataclasses.replace(config, seed=1)).params

    def pose_loss(former):
        state, batch = _placed(mesh, pose_training.init_state(config), pairs)
        _, metrics = pose_training.train_step(
            state, (batch,), scale, config=config, space=SPACE, mesh=mesh, former=former
        )
        return float(metrics["photo_pose"])

    def positions(params):
        encoder = pose_training.in_image_units(params, config, SPACE, scale, "test")
        views = [encoder.tap("fc5").describe(pairs.image[:, side]) for side in (0, 1)]
        said = (encoder.heads(*order).pose for order in (views, views[::-1]))
        return np.stack([np.asarray(pose)[:, 3:] for pose in said])

    apart = positions(pose_training.init_state(config).params) - positions(former)
    weight = np.asarray(pairs.pose_weight)
    expected = np.mean(np.sum(apart**2, axis=-1) @ weight / weight.sum())
    assert expected > 1e-3
    assert pose_loss(former) - pose_loss(None) == pytest.approx(expected, rel=1e-3)


def test_change_of_plain_pairs_is_that_of_descriptors_in_any_units_and_can_be_held(
    mesh, pairs, scale
):
    config = dataclasses.replace(CONFIG, rendered_pairs=0, plain_pairs=8)

    def descriptors(params):
        encoder = pose_training.in_image_units(params, config, SPACE, scale, "test")
        return encoder.tap("fc5").describe(pairs.image.reshape((-1, 100, 100, 3)))

    former = pose_training.init_state(dataclasses.replace(config, seed=1)).params
    known = descriptors(former)
    now = descriptors(pose_training.init_state(config).params)
    expected = np.mean(np.sum((now - known) ** 2, 1) / np.sum(known**2, 1))

    def changes(weight, former):
        state, batch = _placed(mesh, pose_training.init_state(config), pairs)
        held, found = dataclasses.replace(config, change_weight=weight), []
        for _ in range(8):
            state, metrics = pose_training.train_step(
                state, (batch,), scale, config=held, space=SPACE, mesh=mesh, former=former
            )
            found.append(float(metrics["plain_change"]))
        return found

    assert changes(1.0, former)[0] == pytest.approx(expected, rel=1e-4)
    own = pose_training.init_state(config).params
    held, free = changes(30.0, own), changes(1e-6, own)
    assert held[0] < 1e-6 and free[0] < 1e-6
    assert held[-1] < 0.6 * free[-1]


def test_training_under_perturbations_is_harder_the_larger_their_radius(mesh, pairs, scale):
    """The tasks' loss of the same weights and pairs: at the ramp's foot, half-way, at its top."""

    def tasks(step):
        config = dataclasses.replace(CONFIG, robust_radius=1.0, robust_ramp=2, idle_weight=0.0)
        state = pose_training.init_state(config).replace(step=jnp.asarray(step, jnp.int32))
        state, batch = _placed(mesh, state, pairs)
        _, metrics = pose_training.train_step(
            state, (batch,), scale, config=config, space=SPACE, mesh=mesh
        )
        return float(metrics["loss"])

    plain, half, whole = tasks(-1), tasks(0), tasks(7)
    assert plain < half < whole
    assert tasks(1) == whole  # not beyond its ramp


@pytest.mark.parametrize("architecture", sorted(trainable()))
def test_change_of_units_is_exact(architecture, pairs, scale):
    """f in 0-255 units is GAIN times f in training units, and the heads say the same of both."""
    config = TrainConfig(architecture=architecture)
    params = pose_training.init_state(config).params
    noise = jax.random.normal(jax.random.key(1), (512,))
    correction = PoseCorrection(4).init(jax.random.key(2), jnp.zeros(1024))["params"]
    correction["pose"]["kernel"] += 1.0
    params["heads"]["correction"] = correction
    params["encoder"]["conv1"]["bias"] += 0.1 * noise[: params["encoder"]["conv1"]["bias"].size]
    encoder = pose_training.in_image_units(params, config, SPACE, scale, "test")
    images = SPACE.to_network(pairs.image[:2, 0])
    ours = jax.jit(lambda tap, x: tap(x))(encoder.tap("fc5"), images)
    module = pose_training.training_module(config)
    apply = jax.jit(module.apply)
    theirs = apply({"params": params["encoder"]}, images / GAIN)["fc5"]
    np.testing.assert_allclose(ours, GAIN * theirs, rtol=1e-4, atol=1e-3)
    said = encoder.heads(ours, ours[::-1])
    expected = heads.outputs(params["heads"], theirs, theirs[::-1])
    for a, b in zip(jax.tree.leaves(said), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_learning_rate_warms_up_holds_and_decays():
    config = TrainConfig(steps=1000, warmup_steps=100, learning_rate=0.5, decay_share=0.4)
    rate = pose_training.learning_rate_schedule(config)
    assert float(rate(0)) == 0.0 and float(rate(50)) == pytest.approx(0.25)
    assert float(rate(100)) == float(rate(600)) == 0.5
    assert float(rate(800)) == pytest.approx(0.5 * (0.5 * 0.99 + 0.01), rel=1e-3)
    assert float(rate(1000)) == pytest.approx(0.005, rel=1e-3)


def test_wrong_configurations_are_refused(mesh):
    with pytest.raises(InputError, match="rendered_pairs.*multiple of 4.*6"):
        TrainConfig(rendered_pairs=6).check_fits(mesh)
    TrainConfig(rendered_pairs=8, photo_pairs=0).check_fits(mesh)
    with pytest.raises(InputError, match="'alexnet'"):
        TrainConfig(architecture="alexnet")
    with pytest.raises(InputError, match="give plain_pairs"):
        TrainConfig(change_weight=1.0)


# The loop, on a problem small enough to run many times.

OPTIMISER = optax.adam(0.1)


@jax.jit
def _toy_step(state, batch):
    def loss(weights):
        return jnp.mean(jnp.square(weights - batch))

    value, gradient = jax.value_and_grad(loss)(state["weights"])
    updates, moments = OPTIMISER.update(gradient, state["moments"])
    new = {"weights": state["weights"] + updates, "moments": moments}
    return new, {"loss": value}


def _toy_batch(step):
    return jax.random.normal(jax.random.fold_in(jax.random.key(0), step), (4,))


def _toy_state():
    return {"weights": jnp.zeros(4), "moments": OPTIMISER.init(jnp.zeros(4))}


def _run(workdir, steps, stop_after=None, batch=_toy_batch):
    workdir.mkdir(exist_ok=True)
    loop = training_loop.LoopConfig(steps=steps, log_every=2, evaluate_every=4, checkpoint_every=3)
    state = None
    for done, _, newest in training_loop.train(
        _toy_state(),
        step=_toy_step,
        batch=batch,
        evaluate=lambda state: {"norm": float(jnp.linalg.norm(state["weights"]))},
        workdir=workdir,
        config=loop,
    ):
        state = newest
        if done == stop_after:
            break
    return state


def _table(workdir):
    with (workdir / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k != "steps_per_second"} for row in rows]


def test_a_run_killed_and_resumed_ends_bit_equal(tmp_path):
    whole = _run(tmp_path / "whole", 12)
    _run(tmp_path / "killed", 12, stop_after=8)  # its last checkpoint is of step 6
    resumed = _run(tmp_path / "killed", 12)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    assert _table(tmp_path / "whole") == _table(tmp_path / "killed")
    assert [row["step"] for row in _table(tmp_path / "whole")] == ["2", "4", "6", "8", "10", "12"]


def test_a_run_of_an_earlier_version_is_resumed(tmp_path):
    """The checkpoint of step 3 is one that version 0.1.0 wrote, by Orbax's former interface."""
    run = tmp_path / "run"
    with zipfile.ZipFile(Path(__file__).with_name("former_checkpoint.zip")) as checkpoint:
        checkpoint.extractall(run)
    assert Checkpoints(run, every=500, keep=3).restore(_toy_state())[0] == 3
    for a, b in zip(
        jax.tree.leaves(_run(run, 12)), jax.tree.leaves(_run(tmp_path / "whole", 12)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5)  # another processor took the first steps
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"6", "9", "12"}


def test_a_finished_run_does_nothing_but_report(tmp_path):
    first = _run(tmp_path / "run", 6)
    again = _run(tmp_path / "run", 6)
    np.testing.assert_array_equal(first["weights"], again["weights"])


def test_a_loss_that_is_not_a_number_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    def poisoned(step):
        return jnp.full((4,), jnp.nan) if step >= 6 else _toy_batch(step)

    with pytest.raises(NotFinite, match="step 8"):
        _run(tmp_path / "run", 12, batch=poisoned)
    # A writer left open speaks up from its thread when the process ends.
    assert not [t for t in threading.enumerate() if type(t).__module__.startswith("tensorboardX")]
    recovered = _run(tmp_path / "run", 12)
    assert np.all(np.isfinite(recovered["weights"]))
    np.testing.assert_array_equal(recovered["weights"], _run(tmp_path / "other", 12)["weights"])


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    _run(tmp_path / "run", 6)
    other = {"weights": jnp.zeros(5), "moments": OPTIMISER.init(jnp.zeros(5))}
    with pytest.raises(InputError, match="another --workdir"):
        Checkpoints(tmp_path / "run", every=500, keep=3).restore(other)


@pytest.mark.parametrize(
    "file", ["default/_METADATA", "default/manifest.ocdbt", "default/array_metadatas/process_0"]
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_serves(tmp_path, file):
    _run(tmp_path / "run", 7)
    newest = tmp_path / "run" / "checkpoints" / "7"
    damaged = newest / file
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    with pytest.raises(InputError, match="cannot be read .*; remove that folder") as error:
        _run(tmp_path / "run", 12)
    assert str(newest) in str(error.value) and "\n" not in str(error.value)
    shutil.rmtree(newest)
    recovered = _run(tmp_path / "run", 12)
    np.testing.assert_array_equal(recovered["weights"], _run(tmp_path / "other", 12)["weights"])


def test_training_begins_with_an_encoder_where_it_stands(mesh):
    encoder = load_encoder("compact")
    state = pose_training.start_from(encoder, CONFIG)
    back = pose_training.in_image_units(
        state.params, CONFIG, encoder.preprocessing, encoder.pose_scale, encoder.name
    )
    for one, other in zip(
        jax.tree.leaves((back.params, back.head_params)),
        jax.tree.leaves((encoder.params, encoder.head_params)),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    assert int(state.step) == 0
    jax.tree.map(lambda array: array.delete(), state)  # as a step that is given it does
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(encoder.params))
    with pytest.raises(InputError, match="cannot begin with encoder 'compact': it is compact"):
        pose_training.start_from(encoder, dataclasses.replace(CONFIG, architecture="streetnet"))
    with pytest.raises(InputError, match="without heads"):
        pose_training.start_from(random_encoder("compact"), CONFIG)
