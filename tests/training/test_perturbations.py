"""Perturbations that raise a loss: against closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest

from posenet_jax.training import perturbations

RNG = np.random.default_rng(0)
SHAPE = (3, 2, 4, 5, 3)


def norms(images):
    return np.sqrt(np.square(np.asarray(images, np.float64)).sum((-3, -2, -1)))


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_of_a_linear_loss_the_gradients_own_direction_at_the_edge(steps):
    slope = RNG.normal(size=SHAPE).astype(np.float32)
    found = perturbations.strongest(
        lambda moved: jnp.sum(slope * moved), jnp.zeros(SHAPE), 7.0, steps
    )
    expected = 7.0 * slope / norms(slope)[..., None, None, None]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_of_a_quadratic_loss_its_largest_eigenvector():
    """On a ball the largest value of Σ λ x² lies at the edge, along the largest λ."""
    curvature = RNG.uniform(0.1, 1.0, SHAPE).astype(np.float32)
    curvature[..., 0, 0, 0] = 4.0
    tilt = 0.01 * RNG.normal(size=SHAPE).astype(np.float32)  # away from the saddle at zero
    found = perturbations.strongest(
        lambda moved: jnp.sum(curvature * moved**2 + tilt * moved), jnp.zeros(SHAPE), 2.0, 60
    )
    np.testing.assert_allclose(norms(found), 2.0, rtol=1e-4)
    assert np.abs(np.asarray(found)[..., 0, 0, 0]).min() > 1.99


def test_an_image_that_the_loss_does_not_see_stays_and_no_radius_moves_nothing():
    seen = np.zeros(SHAPE, np.float32)
    seen[0] = 1.0
    found = perturbations.strongest(lambda moved: jnp.sum(seen * moved), jnp.zeros(SHAPE), 1.0, 2)
    np.testing.assert_allclose(norms(found), [[1, 1], [0, 0], [0, 0]], atol=1e-6)
    still = perturbations.strongest(lambda moved: jnp.sum(seen * moved), jnp.zeros(SHAPE), 0.0, 2)
    assert not np.any(still)
