"""Decoders' networks with weights that hide nothing."""

import jax
import jax.numpy as jnp
import numpy as np

from posenet_jax.decoders.networks import NETWORKS


def variables(network, shape):
    """Random everywhere: zeros and ones would hide a mistaken order."""
    initial = jax.jit(NETWORKS[network]().init)(jax.random.key(0), jnp.zeros(shape))
    rng = np.random.default_rng(0)

    def disturb(path, value):
        positive = path[-1].key in ("var", "scale")
        noise = rng.uniform(0.5, 1.5, value.shape) if positive else rng.normal(size=value.shape)
        return jnp.asarray(noise if positive else value + 0.1 * noise, jnp.float32)

    return jax.tree_util.tree_map_with_path(disturb, initial)
