"""Training of a decoder: the step, its learning rates, devices, and what a batch is made of."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from PIL import Image

from posenet_jax.decoders import decoding
from posenet_jax.encoders.weights import random_encoder
from posenet_jax.errors import InputError
from posenet_jax.training import checkpoints, decoder_data, decoder_training, training_loop
from posenet_jax.training.decoder_training import AXIS, DecoderBatch, DecoderConfig

# Further on than any test but that of the drops goes, which begins shortly before.
DROPS = 30, 32
CONFIG = DecoderConfig(ema_decay=0.5, drops=DROPS)
BATCH = 4


@pytest.fixture(scope="module")
def encoder():
    return random_encoder("compact")


@pytest.fixture(scope="module")
def photographs():
    coarse = np.random.default_rng(0).integers(0, 256, (BATCH, 5, 5, 3), dtype=np.uint8)
    return coarse.repeat(20, 1).repeat(20, 2)


# As one program: operation by operation, a network is some hundred.
_compiled = jax.jit(lambda tap, images: tap(images))


def _described(encoder, images):
    return _compiled(encoder.tap("fc5"), images)


def _mesh(devices=2):
    return Mesh(np.asarray(jax.devices()[:devices]), (AXIS,))


def _run(encoder, batches, config=CONFIG, *, steps=3, rate=1e-3, devices=2, state=None, seed=0):
    """(state, losses) after steps on these batches."""
    mesh = _mesh(devices)
    everywhere = NamedSharding(mesh, PartitionSpec())
    tap = encoder.tap("fc5")
    state = state or decoder_training.init_state(config, (512,), seed)
    state, tap, scale, rate = jax.device_put(
        (state, tap, jnp.float32(10.0), jnp.float32(rate)), everywhere
    )
    losses = []
    for number in range(steps):
        batch = jax.device_put(batches(number), NamedSharding(mesh, PartitionSpec(AXIS)))
        state, metrics = decoder_training.train_step(
            state, batch, tap, scale, rate, config=config, mesh=mesh
        )
        losses.append(float(metrics["loss"]))
    return state, losses


def test_learns_a_batch_by_heart(encoder, photographs):
    state, losses = _run(encoder, lambda _: DecoderBatch((photographs,)), steps=24)
    # Random greys have a variance of 1/12.
    assert losses[-1] < 0.3 * losses[0]
    decoder = decoder_training.trained_decoder(
        state.average, jnp.float32(10.0), CONFIG, encoder, "fc5"
    )
    targets = _described(encoder, encoder.preprocessing.to_network(photographs))
    decoded = decoding.decode(decoder, targets)
    wanted = encoder.preprocessing.to_network(photographs)
    error = np.mean(((decoded - wanted) / 255.0) ** 2)
    # Running statistics and averaged weights lag behind the last batch's.
    assert error < 0.5 * losses[0]


def test_a_step_is_adams_on_the_mean_squared_error(encoder, photographs):
    """Against the gradient of the whole batch on one device, written out, and optax's Adam."""
    module = decoder_training.NETWORKS["mirror"]()
    space = encoder.preprocessing
    inside = space.to_network(photographs)
    descriptors = _described(encoder, inside) / 10.0
    state = decoder_training.init_state(CONFIG, (512,), 0)
    params, stats = state.variables["params"], state.variables["batch_stats"]
    rule = optax.adam(1e-3)
    memory = rule.init(params)
    expected = []

    def loss(params, stats):
        variables = {"params": params, "batch_stats": stats}
        decoded, changed = module.apply(variables, descriptors, train=True, mutable=["batch_stats"])
        return jnp.mean((decoded - inside / 255.0) ** 2), changed["batch_stats"]

    @jax.jit
    def step(params, stats, memory):
        (value, stats), gradients = jax.value_and_grad(loss, has_aux=True)(params, stats)
        updates, memory = rule.update(gradients, memory, params)
        return optax.apply_updates(params, updates), stats, memory, value

    for _ in range(2):
        params, stats, memory, value = step(params, stats, memory)
        expected.append(float(value))
    trained, losses = _run(encoder, lambda _: DecoderBatch((photographs,)), steps=2)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for ours, theirs in zip(
        jax.tree.leaves(trained.variables["batch_stats"]), jax.tree.leaves(stats), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * float(jnp.abs(theirs).max()))
    # Adam makes a whole step of any gradient, also of one that is rounding: most weights agree.
    off = np.concatenate(
        [
            np.abs(np.asarray(a) - np.asarray(b)).ravel()
            for a, b in zip(
                jax.tree.leaves(trained.variables["params"]), jax.tree.leaves(params), strict=True
            )
        ]
    )
    assert np.mean(off < 1e-5) > 0.95


def test_parts_and_given_descriptors_change_nothing(encoder, photographs):
    _, whole = _run(encoder, lambda _: DecoderBatch((photographs,)), devices=1)
    parts = DecoderBatch((photographs[:2], photographs[2:]))
    _, cut = _run(encoder, lambda _: parts, devices=1)
    given = _described(encoder, encoder.preprocessing.to_network(photographs))
    _, described = _run(encoder, lambda _: DecoderBatch((photographs,), given), devices=1)
    np.testing.assert_allclose(cut, whole, rtol=1e-6)
    np.testing.assert_allclose(described, whole, rtol=1e-4)


def test_two_devices_normalise_and_learn_as_one(encoder, photographs):
    one, losses = _run(encoder, lambda _: DecoderBatch((photographs,)), devices=1)
    two, same = _run(encoder, lambda _: DecoderBatch((photographs,)), devices=2)
    np.testing.assert_allclose(same, losses, rtol=1e-3)
    for a, b in zip(
        jax.tree.leaves(one.variables["batch_stats"]),
        jax.tree.leaves(two.variables["batch_stats"]),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=0, atol=0.02 * float(jnp.abs(a).max()))


def _moved(before, after):
    pairs = zip(
        jax.tree.leaves(before.variables["params"]),
        jax.tree.leaves(after.variables["params"]),
        strict=True,
    )
    return max(float(jnp.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)


def test_the_rate_drops_at_the_steps_given(encoder, photographs):
    """Adam's steps on one batch are at most about the rate: they shrink to a tenth, twice."""
    state, sizes = decoder_training.init_state(CONFIG, (512,), 0), []
    adam, schedule = state.opt_state
    late = schedule._replace(count=schedule.count + DROPS[0] - 2)
    state = state.replace(opt_state=(adam, late))
    for _ in range(6):
        before = jax.device_get(state)
        state, _ = _run(encoder, lambda _: DecoderBatch((photographs,)), steps=1, state=state)
        sizes.append(_moved(before, state))
    ratios = [sizes[2] / sizes[1], sizes[4] / sizes[3]]
    assert all(0.05 < ratio < 0.2 for ratio in ratios), sizes
    assert 0.5 < sizes[3] / sizes[2] < 2.0


def test_the_rate_drops_on_a_plateau(encoder, photographs):
    config = dataclasses.replace(CONFIG, drops=(), plateau=1)
    batch = DecoderBatch((photographs,))
    # At a rate of zero the loss stands still: no better than the first, three times.
    state = None
    for steps, share in ((3, 1.0), (1, 0.1)):
        state, _ = _run(
            encoder, lambda _: batch, config, steps=steps, rate=0.0, devices=1, state=state
        )
        assert float(state.opt_state[1].scale) == pytest.approx(share)
    falling, _ = _run(encoder, lambda _: batch, config, steps=5, devices=1)
    assert float(falling.opt_state[1].scale) == 1.0


def test_impossible_choices_are_refused():
    with pytest.raises(InputError, match="no decoder 'unet'; there are mirror, deep"):
        DecoderConfig(network="unet")
    with pytest.raises(InputError, match="not both"):
        DecoderConfig(drops=(3,), plateau=5)


def test_a_resumed_run_ends_on_the_same_bytes(encoder, photographs, tmp_path):
    mesh = _mesh()
    everywhere = NamedSharding(mesh, PartitionSpec())
    tap, scale, rate = jax.device_put(
        (encoder.tap("fc5"), jnp.float32(10.0), jnp.float32(1e-3)), everywhere
    )

    def batch(number):
        rolled = np.roll(photographs, number, axis=2)
        return jax.device_put(DecoderBatch((rolled,)), NamedSharding(mesh, PartitionSpec(AXIS)))

    def step(state, batch):
        return decoder_training.train_step(state, batch, tap, scale, rate, config=CONFIG, mesh=mesh)

    def run(workdir, steps):
        first = jax.device_put(decoder_training.init_state(CONFIG, (512,), 0), everywhere)
        config = training_loop.LoopConfig(steps=steps, checkpoint_every=2, log_every=2)
        iterates = training_loop.train(
            first,
            step=step,
            batch=batch,
            evaluate=lambda _: {},
            workdir=workdir,
            config=config,
        )
        return jax.device_get([state for _, _, state in iterates][-1])

    undisturbed = run(tmp_path / "a", 4)
    run(tmp_path / "b", 2)
    resumed = run(tmp_path / "b", 4)
    assert int(resumed.step) == 4
    for a, b in zip(jax.tree.leaves(undisturbed), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("seconds", "expected"), [(70.0, [1, 5, 8]), (160.0, [1, 3, 5, 7, 8])])
def test_slow_steps_are_saved_every_five_minutes(tmp_path, monkeypatch, seconds, expected):
    now = 0.0
    monkeypatch.setattr(checkpoints, "time", types.SimpleNamespace(monotonic=lambda: now))
    saved = checkpoints.Checkpoints(tmp_path, every=5, keep=9)
    for step in range(1, 9):
        now += seconds
        if saved.is_due(step) or step == 8:
            saved.save(step, {"number": jnp.arange(3)})
    saved.wait()
    assert sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir()) == expected


def test_a_whole_crop_is_pillows_resizing():
    coarse = np.random.default_rng(0).integers(0, 256, (15, 15, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((150, 150), Image.Resampling.BICUBIC))
    expected = np.asarray(Image.fromarray(image).resize((100, 100), Image.Resampling.BICUBIC))
    mirrored = 0
    for seed in range(8):
        made = np.asarray(decoder_data.crop(jax.random.key(seed), image, 100, 1.0), int)
        errors = [np.abs(made - e.astype(int)).max() for e in (expected, expected[:, ::-1])]
        assert min(errors) <= 2
        mirrored += errors[1] < errors[0]
    assert 0 < mirrored < 8


def test_crops_show_parts_of_the_image_at_their_scale():
    """Crops of a ramp, whose values say where a pixel comes from."""
    ramp = np.linspace(0.0, 250.0, 150)
    image = np.stack([*np.broadcast_arrays(ramp[None, :], ramp[:, None]), np.zeros((150, 150))], -1)
    image = np.round(image).astype(np.uint8)
    sides = []
    for seed in range(20):
        made = np.asarray(decoder_data.crop(jax.random.key(seed), image, 100, 0.6), float)
        across, down = np.ptp(made[50, :, 0]), np.ptp(made[:, 50, 1])
        assert abs(across - down) < 6.0
        sides.append(down / 250.0)
    assert 0.55 < min(sides) < 0.75 and 0.85 < max(sides) < 1.02
