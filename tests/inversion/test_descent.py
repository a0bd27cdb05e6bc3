"""The inversion: Adam's steps against PyTorch, independence, statuses, one compilation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import descent, objective, recipes

SPACE = Preprocessing(means=(90.0, 100.0, 110.0), size=16)
KEY = jax.random.key(7)


@functools.cache
def _matrix():
    return np.random.default_rng(0).normal(0, 0.02, (12, 16 * 16 * 3)).astype(np.float32)


def encode(image):
    """A small smooth encoder: 12 softplus units of the whole image."""
    return jax.nn.softplus(jnp.asarray(_matrix()) @ image.ravel())


def _targets(count=3, seed=1):
    images = np.random.default_rng(seed).normal(0, 50, (count, 16, 16, 3)).astype(np.float32)
    return jax.vmap(encode)(jnp.asarray(images))


def test_first_steps_of_the_paper_recipe_are_pytorchs(torch):
    """Eq. 2, Adam and clipping, five steps, against autograd and torch.optim.Adam."""
    recipe = recipes.PAPER.replace(priors={"tv": 1e-3, "l6": 1e-12})
    target = _targets(1)[0]
    state = descent.init(KEY, recipe, SPACE)
    x = torch.tensor(np.array(state.parameters), requires_grad=True)
    adam = torch.optim.Adam([x], lr=26.60, betas=(0.90, 0.99), eps=1e-8)
    matrix, goal = torch.tensor(_matrix()), torch.tensor(np.array(target))
    step = jax.jit(functools.partial(descent.step, encode=encode))
    for _ in range(5):
        adam.zero_grad()
        right = torch.diff(x, dim=1, append=x[:, -1:])
        below = torch.diff(x, dim=0, append=x[-1:])
        loss = torch.linalg.norm(torch.nn.functional.softplus(matrix @ x.ravel()) - goal)
        loss = loss + 1e-3 * torch.sqrt(right**2 + below**2 + 1e-8).sum()
        loss = loss + 1e-12 * (x**6).sum()
        loss.backward()
        gradient = x.grad.clone()
        adam.step()
        with torch.no_grad():
            contribution = (gradient * x).sum(-1).abs()
            threshold = torch.quantile(contribution, 0.2140)
            x *= (contribution >= threshold)[..., None]
        state = step(state, target, recipe)
        np.testing.assert_allclose(state.parameters, x.detach().numpy(), rtol=1e-3, atol=1e-2)


def test_loss_is_equation_2():
    image = jnp.asarray(np.random.default_rng(3).normal(0, 50, (16, 16, 3)).astype(np.float32))
    target = _targets(1)[0]
    found = objective.loss(image, encode(image), target, recipes.PAPER)
    x = np.asarray(image, np.float64)
    right = np.diff(x, axis=1, append=x[:, -1:])
    below = np.diff(x, axis=0, append=x[-1:])
    expected = np.linalg.norm(np.asarray(encode(image) - target))
    expected += 4.00e-6 * np.sqrt(right**2 + below**2 + 1e-8).sum() + 1.95e-15 * (x**6).sum()
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_the_scale_free_loss_ignores_the_encoders_scale():
    image, target = jnp.ones((16, 16, 3)) * 20.0, _targets(1)[0]
    one = objective.loss(image, encode(image), target, recipes.CALIBRATED)
    scaled = objective.loss(image, 50 * encode(image), 50 * target, recipes.CALIBRATED)
    assert float(one) == pytest.approx(float(scaled), rel=1e-5)


@pytest.mark.parametrize("warmup", [0, 8])
def test_the_rate_is_optaxs_cosine_behind_a_linear_rise(warmup):
    recipe = recipes.CALIBRATED.replace(warmup=warmup)
    steps = jnp.arange(recipe.steps + 5)
    cosine = optax.cosine_decay_schedule(recipe.learning_rate, recipe.steps, recipe.final_rate)
    rise = optax.linear_schedule(1 / max(warmup, 1), 1.0, max(warmup - 1, 0))
    found = jax.vmap(lambda step: descent.learning_rate(step, recipe))(steps)
    np.testing.assert_allclose(found, cosine(steps) * jax.vmap(rise)(steps), rtol=1e-5)
    constant = descent.learning_rate(jnp.array(99), recipe.replace(schedule="constant"))
    assert float(constant) == recipe.learning_rate


@pytest.mark.parametrize(("first", "steps"), [(48, 200), (60, 40)])
def test_a_rate_that_decays_twice_is_optaxs_of_two_cosines(first, steps):
    recipe = recipes.CALIBRATED.replace(warmup=0, first_decay=first, steps=steps)
    lengths = [min(first, steps), *([steps - first] if steps > first else [])]
    cosines = [
        optax.cosine_decay_schedule(recipe.learning_rate, length, recipe.final_rate)
        for length in lengths
    ]
    expected = optax.join_schedules(cosines, lengths[:-1])
    done = jnp.arange(steps)
    found = jax.vmap(lambda step: descent.learning_rate(step, recipe))(done)
    np.testing.assert_allclose(found, jax.vmap(expected)(done), rtol=1e-5)
    assert np.isfinite(descent.learning_rate(jnp.array(steps), recipe))
    with pytest.raises(ValueError, match="first_decay needs the schedule cosine"):
        recipe.replace(schedule="constant")


def test_clipping_leaves_a_fifth_of_the_pixels_at_the_mean():
    recipe = recipes.PAPER.replace(steps=20)
    state = descent.init(KEY, recipe, SPACE)
    step = jax.jit(functools.partial(descent.step, encode=encode))
    for _ in range(20):
        state = step(state, _targets(1)[0], recipe)
    zero = np.mean(np.all(np.asarray(state.parameters) == 0, axis=-1))
    assert zero == pytest.approx(np.ceil(0.2140 * 255) / 256)
