"""Keys and batches of an encoder's training run; the run itself is tested by the script's tests."""

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from posenet_jax.training import encoder_runs, training_loop
from posenet_jax.training.pose_training import TrainConfig


def test_keys_are_those_of_the_bundled_weights_whatever_the_callers_generator():
    """Numbers 1 to 5 folded into a threefry key of the seed."""
    purposes = "facades", "pose scale", "held out", "colours", "batches"
    seed = jax.random.key(7, impl="threefry2x32")
    expected = [jax.random.key_data(jax.random.fold_in(seed, n)) for n in range(1, 6)]
    for generator in ("threefry2x32", "rbg"):
        with jax.default_prng_impl(generator):
            found = [jax.random.key_data(encoder_runs.key_of(7, name)) for name in purposes]
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(KeyError):
        encoder_runs.key_of(7, "unheard of")


def test_a_step_draws_from_the_sources_that_it_counts_each_by_its_own_key(monkeypatch):
    """Rendered pairs and photographs by the keys that the bundled weights rest on."""
    drawn = {}

    def source(name):
        return lambda key: drawn.__setitem__(name, jax.random.key_data(key))

    def stand_in(first, *, batch, **_):
        batch(5)
        return iter(())

    monkeypatch.setattr(training_loop, "train", stand_in)
    counts = {"rendered_pairs": 4, "photo_pairs": 0, "room_pairs": 4, "plain_pairs": 4}
    config = TrainConfig(architecture="compact", seed=7, **counts)
    sources = {name: source(name) for name in ("plain", "room", "photo", "rendered")}
    data = encoder_runs.EncoderData(sources, None, {}, None, None)
    encoder_runs.train(config, data, None, Mesh(np.asarray(jax.devices()), ("pairs",)))
    step = jax.random.fold_in(encoder_runs.key_of(7, "batches"), 5)
    expected = {"rendered": jax.random.split(step)[0]}
    expected |= {"room": jax.random.fold_in(step, 2), "plain": jax.random.fold_in(step, 3)}
    assert list(drawn) == list(config.sources) == list(expected)
    for name, key in expected.items():
        np.testing.assert_array_equal(drawn[name], jax.random.key_data(key))
