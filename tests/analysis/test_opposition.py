"""Two networks set against each other: linear ones, whose optimum is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from posenet_jax.analysis import opposition
from posenet_jax.encoders.encoder import Tap
from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import Preprocessing

SIDE = 8


class Mean(nn.Module):
    """Mean red and green, or green and blue, about 60."""

    first: int

    def __call__(self, images):
        return {"mean": images.mean(axis=(-3, -2))[..., self.first : self.first + 2] + 60.0}


def tap(first, **space):
    made = Preprocessing(means=(128.0, 128.0, 128.0), channel_order="RGB", size=SIDE, **space)
    return Tap({}, Mean(first), "mean", made)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(100, 156, (2, SIDE, SIDE, 3), dtype=np.uint8)


def test_what_both_see_stays_and_what_one_sees_moves(images):
    held, moved = tap(0), tap(1)
    found = opposition.opposed(
        held,
        moved,
        images,
        key=jax.random.key(0),
        recipe=opposition.RECIPE.replace(steps=60, priors={"l6": 0.003}),
    )
    before, after = (x.astype(float).mean(axis=(1, 2)) for x in (images, found.pictures))
    assert (found.held <= opposition.LIMIT).all()
    assert (found.moved > 3.0 * opposition.LIMIT).all()
    assert (found.moved > 5.0 * found.moved_by_noise).all()
    change = np.abs(after - before)
    assert (change[:, 2] > 5.0 * change[:, 0]).all() and (change[:, 2] > 50.0).all()
    # Eq. 3 of each, of the pictures as they are.
    for losses, first in ((found.held, 0), (found.moved, 1)):
        a, b = (x[:, first : first + 2] - 128.0 + 60.0 for x in (after, before))
        total = np.linalg.norm(a, axis=1) + np.linalg.norm(b, axis=1)
        np.testing.assert_allclose(losses, np.linalg.norm(a - b, axis=1) / total, atol=1e-5)
    rows = opposition.table(found, ["a", "b"], "one", "two", np.array([0.1, 0.3]))
    (line,) = opposition.summary(rows)
    assert all(
        row["different_to_moved"] == (row["loss_moved"] >= row["other_moved"]) for row in rows
    )
    different = sum(row["different_to_moved"] for row in rows)
    assert f"held one: 2 of 2 are the same, {different} of these as different to two" in line
    assert "relative loss" in line and "judge 0.200" in line


def test_each_network_sees_the_picture_in_its_own_space(images):
    held, moved = tap(0), tap(1, scale=0.25)
    pair = opposition.Pair(held, moved)
    both = pair(pair.preprocessing.to_network(images[0]))
    for one, name in ((held, "held"), (moved, "moved")):
        own = one(one.preprocessing.to_network(images[0]))
        np.testing.assert_allclose(both[name], own, rtol=1e-5)
    beyond = pair(pair.preprocessing.to_network(images[0]) + 1000.0)
    np.testing.assert_allclose(beyond["held"], 60.0 + 127.0)


def test_the_data_term_is_the_one_described():
    target = {"held": jnp.asarray([3.0, 4.0]), "moved": jnp.asarray([10.0])}
    within = {"held": jnp.asarray([3.0, 4.1]), "moved": jnp.asarray([20.0])}
    assert opposition.held_and_moved(within, target) == pytest.approx(-0.5)
    beyond = {"held": jnp.asarray([3.0, 4.5]), "moved": jnp.asarray([10.0])}
    wanted = 300.0 * (0.25 / 25.0 - (2.0 * 0.75 * opposition.LIMIT) ** 2)
    assert opposition.held_and_moved(beyond, target) == pytest.approx(wanted, rel=1e-4)


def test_networks_that_read_other_sizes_are_refused(images):
    other = Tap({}, Mean(1), "mean", Preprocessing(means=(0.0, 0.0, 0.0), size=16))
    with pytest.raises(InputError, match="read images of 8×8×3 and 16×16×3; .* with @8"):
        opposition.opposed(tap(0), other, images, key=jax.random.key(0))
