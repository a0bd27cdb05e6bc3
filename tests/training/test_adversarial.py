"""Training against a discriminator: its losses, its step, its end, and how pictures are judged."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posenet_jax.decoders import decoding
from posenet_jax.encoders.weights import random_encoder
from posenet_jax.errors import Collapsed, InputError
from posenet_jax.io import files
from posenet_jax.training import adversarial, augmentation, decoder_runs, decoder_training
from posenet_jax.training.adversarial import AdversarialConfig
from posenet_jax.training.collapse import LINES, check, collapse
from posenet_jax.training.decoder_data import DecoderData
from posenet_jax.training.decoder_training import AXIS, DecoderBatch, DecoderConfig
from posenet_jax.training.discriminator import Discriminator

BATCH, NOISE, SCALE = 4, 3, 20.0
# One program for steps in which the discriminator moves and in which it pauses.
PAUSE_BELOW = 1.05
ADVERSARIAL = AdversarialConfig(
    noise=NOISE, layers=("conv2",), discriminator_pause_below=PAUSE_BELOW
)
CONFIG = DecoderConfig(network="sharp", adversarial=ADVERSARIAL)


@pytest.fixture(scope="module")
def encoder():
    return random_encoder("compact")


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH, 100, 100, 3), dtype=np.uint8)
    noise = rng.normal(size=(BATCH, 2, NOISE)).astype(np.float32)
    return DecoderBatch((images,), None, noise)


def _shape(encoder):
    return decoding.descriptor_shape(encoder, "fc5")


def _step(encoder, batch, config=CONFIG, devices=1, rate=1e-3, state=None):
    mesh = Mesh(np.asarray(jax.devices()[:devices]), (AXIS,))
    everywhere = NamedSharding(mesh, PartitionSpec())
    state = state or decoder_training.init_state(config, _shape(encoder), 0)
    state, tap = jax.device_put((jax.tree.map(jnp.copy, state), encoder.tap("fc5")), everywhere)
    batch = jax.device_put(batch, NamedSharding(mesh, PartitionSpec(AXIS)))
    after, figures = decoder_training.train_step(
        state, batch, tap, jnp.float32(SCALE), jnp.float32(rate), config=config, mesh=mesh
    )
    return jax.device_get(after), {name: float(value) for name, value in figures.items()}


# The discriminator ------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(16,), (6, 6, 8)])
def test_every_linear_map_stretches_nothing_by_more_than_one(shape):
    """After the power iterations have settled, against NumPy's singular values."""
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.uniform(size=(2, 100, 100, 3)), jnp.float32)
    descriptor = jnp.asarray(rng.normal(size=(2, *shape)), jnp.float32)
    maps = {"fire": jnp.asarray(rng.normal(size=(2, 5, 5, 6)), jnp.float32)}
    network = Discriminator(features=8, projected=4)
    one = image[0], descriptor[0], {"fire": maps["fire"][0]}
    shapes = jax.eval_shape(network.init, jax.random.key(0), *one)
    variables = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), "f"), shapes)
    apply = jax.jit(network.apply)

    @jax.jit
    def iterate(variables):
        _, changed = network.apply(
            variables, image, descriptor, maps, update=True, mutable=["batch_stats"]
        )
        return {**variables, **changed}

    for _ in range(300):
        variables = iterate(variables)
    bounds = variables["batch_stats"]
    assert len(bounds) == 11
    for name, kept in bounds.items():
        layer = name.removesuffix("_bounded")
        kernel = np.asarray(variables["params"][layer]["kernel"], np.float64)
        largest = np.linalg.svd(kernel.reshape((-1, kernel.shape[-1])), compute_uv=False)[0]
        assert float(kept[f"{layer}/kernel/sigma"]) == pytest.approx(largest, rel=1e-3)
    other = {"fire": maps["fire"][1]}
    alone = np.asarray(apply(variables, image[1], descriptor[1], other))
    together = np.asarray(apply(variables, image, descriptor, maps))
    assert together.shape == (2, 3)
    np.testing.assert_allclose(together[1], alone, rtol=1e-4, atol=1e-6)
    # Each logit reads what it is of: descriptor, image alone, features alone.
    for number, changed in (
        (0, (image[1], descriptor[0], other)),
        (1, (image[0], descriptor[1], other)),
        (2, (image[1], descriptor[1], {"fire": maps["fire"][0]})),
    ):
        moved = np.abs(np.asarray(apply(variables, *changed)) - alone)
        assert moved[number] > 1e-4
        assert moved[2 if number < 2 else 0] == 0.0


# Losses -----------------------------------------------------------------------------------------


def test_every_draw_reads_its_noise_beside_its_images_descriptor():
    rng = np.random.default_rng(0)
    for shape in ((7,), (6, 6, 7)):
        noise = rng.normal(size=(2, 3, *shape[:-1], 5))
        conditions = rng.normal(size=(2, *shape))
        read = np.asarray(adversarial.with_noise(jnp.asarray(conditions), jnp.asarray(noise)))
        assert read.shape == (6, *shape[:-1], 12)
        for draw in range(3):
            for image in range(2):
                row = read[2 * draw + image]
                np.testing.assert_allclose(row[..., :7], conditions[image], rtol=1e-6)
                np.testing.assert_allclose(row[..., 7:], noise[image, draw], rtol=1e-6)


def test_the_losses_are_those_of_their_formulas(encoder, batch):
    tap, space = encoder.tap("fc5"), encoder.preprocessing
    opponent = adversarial.init_discriminator(
        optax.identity(), _shape(encoder), 100, jax.random.key(3)
    )
    wanted = space.to_network(batch.images[0]) / 255.0
    made = jnp.clip(
        wanted[None] + 0.2 * jax.random.normal(jax.random.key(1), (2, *wanted.shape)), 0
    )
    apply = jax.jit(lambda params, x: tap.module.apply({"params": params}, x * 255.0))
    truth, seen = apply(tap.params, wanted), apply(tap.params, made)
    conditions = truth["fc5"] / SCALE
    lossy = jax.jit(adversarial.generator_loss, static_argnums=6)
    loss, (parts, views) = lossy(made, wanted, truth, conditions, opponent, tap, ADVERSARIAL)
    a, b = (np.asarray(x["fc5"], np.float64) for x in (seen, truth))
    ratio = np.linalg.norm(a - b, axis=-1) ** 2 / np.linalg.norm(b, axis=-1) ** 2
    assert float(parts["descriptor_loss"]) == pytest.approx(ratio.mean(), rel=1e-4)
    a, b = (np.asarray(x["conv2"], np.float64) for x in (seen, truth))
    product = np.mean((a[0] - b) * (a[1] - b)) / np.mean(b**2)
    assert float(parts["feature_loss"]) == pytest.approx(product, rel=1e-4)
    other = dataclasses.replace(encoder.preprocessing, means=(9.0, 99.0, 199.0))
    comparator = dataclasses.replace(random_encoder("compact", seed=5), preprocessing=other)
    both = made, wanted, truth, conditions, opponent, tap, ADVERSARIAL, comparator.tap("conv1")
    _, (more, _) = lossy(*both)
    pixels = batch.images[0].astype(np.float64)[..., ::-1]
    drawn = 255.0 * np.asarray(made, np.float64) + np.asarray(encoder.preprocessing.means)
    look, conv1 = jax.jit(lambda tap, x: tap(x)), comparator.tap("conv1")
    b, a = (
        np.asarray(look(conv1, jnp.asarray(x - other.means, jnp.float32)), np.float64)
        for x in (pixels, drawn)
    )
    product += np.mean((a[0] - b) * (a[1] - b)) / np.mean(b**2)
    assert float(more["feature_loss"]) == pytest.approx(product, rel=1e-3)
    weights = {"image": 10.0, "descriptor": 1.0, "feature": 1.0, "adversarial": 0.3}
    total = sum(weight * float(parts[f"{name}_loss"]) for name, weight in weights.items())
    assert float(loss) == pytest.approx(total, rel=1e-5)

    _, (_, health) = jax.jit(adversarial.discriminator_loss)(
        opponent.variables["params"], opponent, views, conditions
    )
    # What one step of the power iteration makes of the same logits.
    network, both = Discriminator(), jnp.concatenate([wanted, *made])
    said = jax.jit(functools.partial(network.apply, update=True, mutable=["batch_stats"]))
    logits, _ = said(opponent.variables, both, jnp.tile(conditions, (3, 1)))
    real, fake = np.asarray(logits[:BATCH]), np.asarray(logits[BATCH:])
    hinge = np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean()
    chance = 1 / (1 + np.exp(-real)), 1 / (1 + np.exp(-fake))
    entropy = -np.log(chance[0]).mean() - np.log(1 - chance[1]).mean()
    expected = {
        "discriminator_loss": hinge,
        "real_accuracy": np.mean(real > 0),
        "made_accuracy": np.mean(fake < 0),
        "loss_ratio": entropy / -np.log(chance[1]).mean(),
    }
    for name, value in expected.items():
        assert float(health[name]) == pytest.approx(value, rel=1e-4), name


def test_the_discriminator_sees_features_as_originals_are_large(encoder, batch):
    """Those of a network with another space, divided by the root mean square of the originals'."""
    other = dataclasses.replace(encoder.preprocessing, means=(9.0, 99.0, 199.0))
    comparator = dataclasses.replace(random_encoder("compact", seed=5), preprocessing=other)
    tap, looking = encoder.tap("fc5"), comparator.tap("conv2")
    config = dataclasses.replace(ADVERSARIAL, discriminator_layers=("conv1", "conv3"))
    state = decoder_training.init_state(
        dataclasses.replace(CONFIG, adversarial=config), _shape(encoder), 0, looking
    )
    wanted = encoder.preprocessing.to_network(batch.images[0]) / 255.0
    made = wanted[None] + 0.2 * jax.random.normal(jax.random.key(1), (2, *wanted.shape))
    apply = jax.jit(lambda tap, x: tap.module.apply({"params": tap.params}, x))
    truth = apply(tap, wanted * 255.0)
    conditions = truth["fc5"] / SCALE
    lossy = jax.jit(adversarial.generator_loss, static_argnums=6)
    given = made, wanted, truth, conditions, state.opponent, tap, config, looking
    _, (parts, views) = lossy(*given)
    shift = np.subtract(encoder.preprocessing.means, other.means).astype(np.float32)
    seen, right = (apply(looking, np.asarray(x) * 255.0 + shift) for x in (made, wanted))
    maps = {
        name: seen[name] / np.sqrt(np.mean(np.square(np.asarray(right[name], np.float64))))
        for name in ("conv1", "conv3")
    }
    for name, expected in maps.items():
        np.testing.assert_allclose(views.made_maps[name], expected, rtol=1e-3, atol=1e-4)
    shown = jnp.broadcast_to(conditions, (2, *conditions.shape))
    logits = jax.jit(Discriminator().apply)(state.opponent.variables, made, shown, maps)
    assert logits.shape == (2, BATCH, 4)
    assert float(parts["adversarial_loss"]) == pytest.approx(-float(logits.mean()), rel=1e-3)
    for layers, layer in ((("fire3",), "fire3"), (("fc5",), "fc5")):
        wrong = dataclasses.replace(config, discriminator_layers=layers)
        with pytest.raises(InputError, match=f"no feature maps '{layer}'; it has conv1"):
            decoder_training.init_state(
                dataclasses.replace(CONFIG, adversarial=wrong), _shape(encoder), 0, looking
            )
    with pytest.raises(InputError, match="needs a comparator"):
        decoder_training.init_state(
            dataclasses.replace(CONFIG, adversarial=config), _shape(encoder), 0
        )


def _compared(encoder, batch):
    """Images near their originals, the originals, their taps, and what a discriminator is told."""
    wanted = encoder.preprocessing.to_network(batch.images[0]) / 255.0
    made = wanted[None] + 0.2 * jax.random.normal(jax.random.key(1), (2, *wanted.shape))
    tap = encoder.tap("fc5")
    truth = jax.jit(lambda tap, x: tap.module.apply({"params": tap.params}, x))(tap, wanted * 255.0)
    return made, wanted, truth, truth["fc5"] / SCALE


def test_the_discriminator_sees_augmented_views_and_the_other_losses_do_not(encoder, batch):
    tap = encoder.tap("fc5")
    opponent = adversarial.init_discriminator(
        optax.identity(), _shape(encoder), 100, jax.random.key(3)
    )
    made, wanted, truth, conditions = _compared(encoder, batch)
    keys = jax.random.split(jax.random.key(2), BATCH)
    lossy = jax.jit(adversarial.generator_loss, static_argnums=6)
    given = made, wanted, truth, conditions, opponent, tap
    (_, (plain, _)), (_, (parts, views)) = (
        lossy(*given, dataclasses.replace(ADVERSARIAL, augment=augment), keys=keys)
        for augment in (False, True)
    )
    both = augmentation.augmented_draws(jnp.concatenate([wanted[None], made]), keys)
    np.testing.assert_allclose(views.wanted, both[0], atol=1e-6)
    np.testing.assert_allclose(views.made, both[1:], atol=1e-6)
    shown = jnp.broadcast_to(conditions, (2, *conditions.shape))
    logits = jax.jit(Discriminator().apply)(opponent.variables, both[1:], shown)
    assert float(parts["adversarial_loss"]) == pytest.approx(-float(logits.mean()), rel=1e-4)
    assert float(plain["adversarial_loss"]) != pytest.approx(-float(logits.mean()), rel=1e-2)
    for name in ("image_loss", "descriptor_loss", "feature_loss"):
        assert float(parts[name]) == pytest.approx(float(plain[name]), rel=1e-5)


@pytest.mark.parametrize("augment", [False, True])
def test_the_comparator_sees_parts_enlarged_and_the_encoder_the_whole(encoder, batch, augment):
    tap, looking = encoder.tap("fc5"), encoder.tap("conv2")
    config = dataclasses.replace(
        ADVERSARIAL, discriminator_layers=("conv1",), enlarge=2.0, augment=augment
    )
    settings = dataclasses.replace(CONFIG, adversarial=config)
    opponent = decoder_training.init_state(settings, _shape(encoder), 0, looking).opponent
    made, wanted, truth, conditions = _compared(encoder, batch)
    keys = jax.random.split(jax.random.key(2), BATCH)
    with pytest.raises(InputError, match="is enlarged, and there is no comparator"):
        alone = dataclasses.replace(config, discriminator_layers=())
        decoder_training.init_state(
            dataclasses.replace(CONFIG, adversarial=alone), _shape(encoder), 0
        )
    with pytest.raises(InputError, match="1 or more, received 0.5"):
        dataclasses.replace(config, enlarge=0.5)
    lossy = jax.jit(adversarial.generator_loss, static_argnums=6)
    given = made, wanted, truth, conditions, opponent, tap
    whole = dataclasses.replace(config, enlarge=1.0)
    (_, (plain, _)), (_, (parts, views)) = (
        lossy(*given, one, looking, keys=keys) for one in (whole, config)
    )
    shown = made, wanted
    if augment:
        both = augmentation.augmented_draws(jnp.concatenate([wanted[None], made]), keys)
        shown = both[1:], both[0]
    look = jax.jit(lambda tap, x: tap.module.apply({"params": tap.params}, x)["conv1"])
    seen, right = (
        np.asarray(look(looking, 255.0 * augmentation.enlarged(images, keys, 2.0)), np.float64)
        for images in shown
    )
    expected = seen / np.sqrt(np.mean(np.square(right)))
    np.testing.assert_allclose(views.made_maps["conv1"], expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(views.made, shown[0], atol=1e-6)
    assert float(parts["feature_loss"]) != pytest.approx(float(plain["feature_loss"]), rel=1e-3)
    for name in ("image_loss", "descriptor_loss"):
        assert float(parts[name]) == pytest.approx(float(plain[name]), rel=1e-5)


# Steps ------------------------------------------------------------------------------------------


def test_two_devices_train_as_one(encoder, batch):
    """But for what each normalises and rounds on its own."""
    (one, figures), (two, others) = (_step(encoder, batch, devices=n) for n in (1, 2))
    for name in ("loss", "image_loss", "descriptor_loss", "feature_loss", "gradient_norm"):
        assert others[name] == pytest.approx(figures[name], rel=2e-3), name
    stats = (state.variables["batch_stats"] for state in (one, two))
    for a, b in zip(*map(jax.tree.leaves, stats), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_both_sides_move_and_the_discriminator_pauses_when_told(encoder, batch):
    """It pauses below a ratio of losses, which is 2 at first, and 1 where all are called made.

    What is added to every logit for that has no part in the generator's gradient.
    """
    first = decoder_training.init_state(CONFIG, _shape(encoder), 0)
    before = jax.device_get(first.opponent)
    free, figures = _step(encoder, batch, state=first)
    assert figures["loss_ratio"] > PAUSE_BELOW
    sceptic = jax.tree.map(np.copy, before)
    sceptic.variables["params"]["likely"]["bias"] -= 100.0
    paused, figures_paused = _step(encoder, batch, state=first.replace(opponent=sceptic))
    assert 0.9 < figures_paused["loss_ratio"] < PAUSE_BELOW
    unmoved = [
        np.array_equal(a, b)
        for a, b in zip(*map(jax.tree.leaves, (sceptic, paused.opponent)), strict=True)
    ]
    assert all(unmoved)
    went = jax.tree.map(
        lambda a, b: float(np.abs(a - b).max()),
        before.variables["params"],
        free.opponent.variables["params"],
    )
    # Adam's first step is the rate, times its scale, in every weight with a gradient.
    assert max(jax.tree.leaves(went)) == pytest.approx(2e-3, rel=1e-2)
    assert figures["discriminator_gradient_norm"] > 0 and figures["loss_ratio"] > 0
    for a, b in zip(*(jax.tree.leaves(s.variables["params"]) for s in (free, paused)), strict=True):
        # Adam makes more of a gradient that is rounding: all but a few weights agree.
        assert np.mean(np.abs(a - b) < 1e-6) > 0.999


def test_it_learns_to_keep_the_descriptor(encoder, batch):
    state = decoder_training.init_state(CONFIG, _shape(encoder), 0)
    found = []
    for _ in range(12):
        state, figures = _step(encoder, batch, state=state)
        found.append(figures)
    assert found[-1]["descriptor_loss"] < 0.7 * found[0]["descriptor_loss"]
    assert found[-1]["discriminator_loss"] < found[0]["discriminator_loss"]


# Generators -------------------------------------------------------------------------------------


def _trained(config, encoder, variables):
    return decoder_training.trained_decoder(variables, jnp.float32(SCALE), config, encoder, "fc5")


def test_it_begins_as_the_decoder_it_is_given(encoder, tmp_path):
    plain = DecoderConfig(network="mirror")
    known = decoder_training.init_state(plain, _shape(encoder), 5)
    decoder = _trained(plain, encoder, known.variables)
    begun = decoder_training.initialised_from(
        decoder_training.init_state(CONFIG, _shape(encoder), 0), decoder
    )
    unused: Any = None
    data = DecoderData(encoder, encoder.tap("fc5"), unused, unused, jnp.float32(1.0), unused, {})
    scaled, first = decoder_runs.first_state(CONFIG, data, 0, decoder)
    assert float(scaled.scale) == SCALE and float(data.scale) == 1.0
    jax.tree.map(np.testing.assert_array_equal, first.variables, begun.variables)
    decoding.save_decoder(
        tmp_path / "g.safetensors", _trained(CONFIG, encoder, begun.average), "float32"
    )
    generator = decoding.load_decoder(tmp_path / "g.safetensors")
    assert generator.noise == (NOISE,)
    targets = np.random.default_rng(0).uniform(0, 40, (3, *_shape(encoder))).astype(np.float32)
    expected = decoding.decode(decoder, targets)
    for key in (None, jax.random.key(0)):
        made = decoding.decode(generator, targets, key)
        np.testing.assert_allclose(made, expected, atol=1e-3 * np.abs(expected).max())
    deep = decoder_training.init_state(DecoderConfig(network="deep"), _shape(encoder), 0)
    with pytest.raises(InputError, match="does not fit this network, at .*extra0"):
        decoder_training.initialised_from(
            known, _trained(DecoderConfig("deep"), encoder, deep.variables)
        )


def test_draws_differ_and_are_repeated_by_their_key(encoder):
    state = decoder_training.init_state(CONFIG, _shape(encoder), 0)
    generator = _trained(CONFIG, encoder, state.variables)
    targets = np.ones((70, *_shape(encoder)), np.float32)
    first, again, other = (
        decoding.decode(generator, targets, jax.random.key(k)) for k in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-2 and np.abs(first[0] - first[69]).max() > 1e-2
    middle = decoding.decode(generator, targets)
    np.testing.assert_allclose(middle[0], middle[69], atol=1e-4 * np.abs(middle).max())


# The end ----------------------------------------------------------------------------------------


def _log(**last):
    healthy = {"real_accuracy": 0.8, "made_accuracy": 0.7, "discriminator_loss": 1.5}
    columns = {name: np.full(LINES + 5, value) for name, value in healthy.items()}
    for name, value in last.items():
        columns.setdefault(name, np.full(LINES + 5, np.nan))[-LINES:] = value
    return {"step": np.arange(LINES + 5.0), **columns}


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ({}, None),
        ({"real_accuracy": 1.0}, None),
        ({"real_accuracy": 1.0, "made_accuracy": 1.0}, "discriminator has won"),
        ({"discriminator_loss": 2.0}, "discriminator has lost"),
        ({"validation_diversity_ratio": 0.8}, None),
        ({"validation_diversity_ratio": 0.1}, "same image of every descriptor"),
    ],
)
def test_a_collapse_is_said_in_a_sentence(last, words):
    said = collapse(_log(**last))
    assert said is None if words is None else words in said
    recovered = {name: values.copy() for name, values in _log(**last).items()}
    for name in ("real_accuracy", "discriminator_loss"):
        recovered[name][-1] = 0.5
    if words and "discriminator" in words:
        assert collapse(recovered) is None


def test_a_collapse_is_raised_from_the_log_on_disk(tmp_path):
    path = tmp_path / "metrics.csv"
    for last, fails in (({}, False), ({"validation_diversity_ratio": 0.1}, True)):
        log = _log(**last)
        rows = [{name: values[i] for name, values in log.items()} for i in range(len(log["step"]))]
        files.write_csv(path, rows)
        if fails:
            with pytest.raises(Collapsed, match="same image of every descriptor"):
                check(path)
        else:
            check(path)
