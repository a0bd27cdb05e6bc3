"""Training of a correction: pairs encoded once and kept, heads that learn beside what stays."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from posenet_jax import geometry
from posenet_jax.data.training_pairs import Pairs
from posenet_jax.encoders.encoder import Encoder, init_params
from posenet_jax.encoders.heads import PoseScale
from posenet_jax.encoders.streetnet import Compact
from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.training import encoder_runs, head_training
from posenet_jax.training.head_training import CorrectionConfig, EncodedPairs

SPACE = Preprocessing(means=(104.0, 117.0, 123.0))
SIZE = 32


@pytest.fixture(scope="module")
def mesh():
    return Mesh(np.asarray(jax.devices()), ("pairs",))


@pytest.fixture(scope="module")
def encoder():
    module = Compact(descriptor_size=SIZE)
    params, head_params = init_params(module, jax.random.key(5))
    head_params = jax.tree.map(lambda x: 0.1 * x, head_params)  # answers of the size of poses
    scale = PoseScale(mean=0.1 * jnp.arange(6.0), std=0.5 + 0.1 * jnp.arange(6.0))
    return Encoder(params, head_params, scale, module, SPACE, "small")


class Noise:
    """A source of pairs of noise, turned and moved at random; it counts its draws."""

    count = 4

    def __init__(self):
        self.draws = 0

    def __call__(self, key):
        self.draws += 1
        image, angles, centre = jax.random.split(key, 3)
        turned = jax.vmap(geometry.rotation_from_yaw_pitch_roll)(
            jax.random.uniform(angles, (8, 3), minval=-0.5, maxval=0.5)
        )
        return Pairs(
            image=jax.random.randint(image, (4, 2, 100, 100, 3), 0, 256).astype(jnp.uint8),
            rotation=turned.reshape(4, 2, 3, 3),
            centre=jax.random.normal(centre, (4, 2, 3)),
            normal=jnp.zeros((4, 3)),
            match_weight=jnp.ones(4),
            pose_weight=jnp.array([1.0, 1.0, 0.0, 1.0]),
            normal_weight=jnp.ones(4),
        )


def test_pairs_are_encoded_once_from_either_side_and_kept(tmp_path, encoder, mesh, monkeypatch):
    monkeypatch.setattr(head_training, "_CHUNK", 2)
    source, told = Noise(), []

    def encoded(draws, **options):
        folder = tmp_path / "pool"
        return head_training.encoded(
            encoder, source, "plain", draws, folder, mesh, seed=3, **options
        )

    pool = encoded(3, progress=told.append)
    assert sum(told) == source.draws == 3 and len(list((tmp_path / "pool").iterdir())) == 2
    # The third draw is that of a training's third step, by the same key.
    key = jax.random.fold_in(encoder_runs.key_of(3, "batches"), 2)
    pairs = Noise()(encoder_runs.source_keys(key)["plain"])
    known = encoder.tap("fc5").describe(np.asarray(pairs.image).reshape(8, 100, 100, 3))
    last = jax.tree.map(lambda column: column[8:], pool)
    known = known.reshape(4, 2, SIZE)
    np.testing.assert_allclose(last.descriptors, known, rtol=2e-3, atol=1e-2)
    truth = geometry.relative_poses(pairs.rotation, pairs.centre)
    back = geometry.relative_poses(pairs.rotation[:, ::-1], pairs.centre[:, ::-1])
    np.testing.assert_allclose(last.pose, np.stack([truth, back], 1), atol=1e-6)
    said = encoder.poses(known[:, 1], known[:, 0])
    predicted = encoder.pose_scale.restore(jnp.asarray(last.predicted[:, 1]))
    np.testing.assert_allclose(predicted, said, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(last.weight, pairs.pose_weight)
    again = encoded(3)
    assert source.draws == 3
    jax.tree.map(np.testing.assert_array_equal, again, pool)
    encoded(5)
    assert source.draws == 6  # a whole file and a half one of three draws more


def test_a_pool_of_another_encoder_and_another_correction_are_refused(tmp_path, encoder, mesh):
    head_training.encoded(encoder, Noise(), "plain", 1, tmp_path, mesh)
    heads = jax.tree.map(lambda x: x + 1.0, encoder.head_params)
    other = dataclasses.replace(encoder, head_params=heads)
    with pytest.raises(InputError, match="another encoder; give another --workdir"):
        head_training.encoded(other, Noise(), "plain", 1, tmp_path, mesh)
    config = CorrectionConfig(units=3)
    corrected = head_training.corrected(encoder, head_training.init_state(config, encoder).params)
    head_training.check(corrected, config)
    with pytest.raises(InputError, match="'small' have a correction of 3 hidden units"):
        head_training.check(corrected, CorrectionConfig(units=4))
    with pytest.raises(InputError, match="no heads"):
        head_training.check(dataclasses.replace(encoder, head_params=None), config)


@pytest.fixture(scope="module")
def pool(encoder):
    """Poses that follow from descriptors the heads know nothing of; of photographs turns alone."""
    rng = np.random.default_rng(0)

    def pairs(count):
        descriptors = 60.0 * np.abs(rng.normal(size=(count, 2, SIZE))).astype(np.float16)
        map_ = np.random.default_rng(1).normal(size=(SIZE, 6)) / 400
        way = (descriptors[:, 1] - descriptors[:, 0]).astype(np.float32) @ map_
        sides = [encoder.heads(*map(jnp.asarray, x)) for x in _sides(descriptors)]
        return EncodedPairs(
            descriptors=descriptors,
            predicted=np.stack([side.pose for side in sides], axis=1),
            pose=np.stack([way, -way], axis=1).astype(np.float32),
            weight=np.ones(count, np.float32),
        )

    return {"plain": pairs(256), "photo": pairs(64)}


def _sides(descriptors):
    first, second = descriptors.transpose(1, 0, 2).astype(np.float32)
    return (first, second), (second, first)


def test_what_is_learnt_is_what_the_corrected_encoder_says_and_no_more(encoder, pool):
    config = CorrectionConfig(steps=120, units=16, warmup_steps=5, learning_rate=1e-2)
    config = dataclasses.replace(config, plain_pairs=64, photo_pairs=16)
    scale, found = encoder.pose_scale, []
    for _ in range(2):
        state = head_training.init_state(config, encoder)
        losses = []
        for _ in range(config.steps):
            state, metrics = head_training.correction_step(state, pool, scale, config=config)
            losses.append({name: float(x) for name, x in metrics.items()})
        found.append((losses, jax.device_get(state)))
    (losses, state), (others, other) = found
    assert losses == others  # batches follow from the seed and the step alone
    jax.tree.map(np.testing.assert_array_equal, state.params, other.params)
    # Here the same descriptors are told to move, in plain pairs, and to stay, in photographs.
    for name, share in {"loss": 0.7, "plain_pose": 0.6, "photo_pose": 0.8}.items():
        assert losses[-1][name] < share * losses[0][name], name
    whole = 64 / 80 * losses[0]["plain_pose"] + 16 / 80 * losses[0]["photo_pose"]
    assert losses[0]["loss"] == pytest.approx(whole, rel=1e-5)

    corrected = head_training.corrected(encoder, state.params)
    assert corrected.fingerprint == encoder.fingerprint
    first, second = map(jnp.asarray, _sides(pool["plain"].descriptors)[0])
    before, after = encoder.heads(first, second), corrected.heads(first, second)
    np.testing.assert_array_equal(before.match, after.match)
    np.testing.assert_array_equal(before.normal, after.normal)
    truth = pool["plain"].pose[:, 0]
    wrong, right = (np.abs(x.poses(first, second) - truth).mean() for x in (encoder, corrected))
    assert right < 0.6 * wrong


def test_the_first_steps_loss_is_that_of_the_heads_as_they_are(encoder, pool):
    """Half the sum over both sides, of all pairs of a pool of one pair repeated."""
    one = {name: jax.tree.map(lambda x: np.repeat(x[:1], 8, 0), pool[name]) for name in ("plain",)}
    config = CorrectionConfig(units=4, plain_pairs=8)
    state = head_training.init_state(config, encoder)
    _, metrics = head_training.correction_step(state, one, encoder.pose_scale, config=config)
    pairs, scale = one["plain"], encoder.pose_scale
    mean, std = np.asarray(scale.mean), np.asarray(scale.std)
    apart = np.linalg.norm(pairs.predicted - (pairs.pose - mean) / std, axis=-1)
    expected = np.where(apart <= 1, apart, 1 + np.log(apart))
    assert float(metrics["plain_pose"]) == pytest.approx(expected.mean(), rel=1e-4)


def test_training_goes_on_from_a_correction(encoder, pool):
    """The pool has what the corrected heads say, from which the first step begins."""
    config = CorrectionConfig(steps=120, units=16, warmup_steps=5, learning_rate=1e-2)
    config = dataclasses.replace(config, plain_pairs=64, photo_pairs=16)
    params = head_training.init_state(config, encoder).params
    params["pose"]["kernel"] = 0.03 * jax.random.normal(jax.random.key(3), (16, 6))
    begun = head_training.corrected(encoder, params)
    said = {
        name: dataclasses.replace(
            pairs,
            predicted=np.stack(
                [begun.heads(*map(jnp.asarray, x)).pose for x in _sides(pairs.descriptors)], axis=1
            ),
        )
        for name, pairs in pool.items()
    }
    assert np.abs(said["plain"].predicted - pool["plain"].predicted).mean() > 0.01

    def losses(encoder, pool):
        state, found = head_training.init_state(config, encoder), []
        former = head_training.init_state(config, encoder).params
        for _ in range(config.steps):
            state, metrics = head_training.correction_step(
                state, pool, encoder.pose_scale, config=config, former=former
            )
            found.append({name: float(x) for name, x in metrics.items()})
        return found, head_training.corrected(encoder, jax.device_get(state.params))

    found, after = losses(begun, said)
    mean, std = (np.asarray(x) for x in (encoder.pose_scale.mean, encoder.pose_scale.std))
    apart = np.linalg.norm(said["plain"].predicted - (pool["plain"].pose - mean) / std, axis=-1)
    everywhere = np.where(apart <= 1, apart, 1 + np.log(apart)).mean()
    assert found[0]["plain_pose"] == pytest.approx(everywhere, rel=0.1)  # of 64 pairs drawn
    assert found[-1]["plain_pose"] < 0.7 * found[0]["plain_pose"]
    first, second = map(jnp.asarray, _sides(pool["plain"].descriptors)[0])
    truth = pool["plain"].pose[:, 0]
    wrong, right = (np.abs(x.poses(first, second) - truth).mean() for x in (begun, after))
    assert right < 0.7 * wrong


def test_photographs_teach_turns_and_leave_positions_as_they_were(encoder, pool):
    config = CorrectionConfig(
        steps=120, units=16, warmup_steps=5, learning_rate=1e-2, photo_pairs=32
    )
    photographs, state = {"photo": pool["photo"]}, head_training.init_state(config, encoder)
    for _ in range(config.steps):
        state, _ = head_training.correction_step(
            state, photographs, encoder.pose_scale, config=config
        )
    first, second = map(jnp.asarray, _sides(pool["photo"].descriptors)[0])
    corrected = head_training.corrected(encoder, jax.device_get(state.params))
    moved = np.asarray(corrected.heads(first, second).pose - encoder.heads(first, second).pose)
    assert np.sqrt(np.mean(moved[:, 3:] ** 2)) < 0.2 * np.sqrt(np.mean(moved[:, :3] ** 2))
    truth = pool["photo"].pose[:, 0, 0]
    yaws = [np.asarray(x.poses(first, second))[:, 0] for x in (encoder, corrected)]
    before, after = (np.corrcoef(yaw, truth)[0, 1] for yaw in yaws)
    assert before < 0.5 < 0.8 < after
