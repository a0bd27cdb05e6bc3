"""Keys of an encoder's training run; the run itself is tested by the script's tests."""

import jax
import numpy as np
import pytest

from posenet_jax.training import encoder_runs


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
