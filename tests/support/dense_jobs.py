"""A small dense encoder of 16x16 pixels, and jobs that end one by one: for tests of the slots."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import recipes
from posenet_jax.inversion.job_queues import Job

SPACE = Preprocessing(means=(90.0, 100.0, 110.0), size=16)
KEY = jax.random.key(7)
STOP = recipes.PAPER_NO_PRIOR.replace(steps=60, tolerance=0.1, stop_early=True)
DEVICES = jax.local_device_count()


@functools.cache
def _matrix():
    return np.random.default_rng(0).normal(0, 0.02, (12, 16 * 16 * 3)).astype(np.float32)


def encode(image):
    """Descriptor [12] of an image."""
    return jax.nn.softplus(jnp.asarray(_matrix()) @ image.ravel())


def jobs_of(count):
    """Jobs of so many random images."""
    images = np.random.default_rng(1).normal(0, 50, (count, 16, 16, 3)).astype(np.float32)
    targets = np.asarray(jax.lax.map(encode, jnp.asarray(images)))
    return [Job(i, target, number=i) for i, target in enumerate(targets)]
