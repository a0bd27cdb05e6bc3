"""The inversion: Adam's steps against PyTorch, independence, statuses, one compilation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posenet_jax import inversion, recipes, weights
from posenet_jax.errors import InputError
from posenet_jax.inversion import Status
from posenet_jax.preprocessing import Preprocessing

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


def _invert(targets, recipe, **options):
    return inversion.invert(encode, targets, key=KEY, recipe=recipe, space=SPACE, **options)


def test_first_steps_of_the_paper_recipe_are_pytorchs(torch):
    """Eq. 2, Adam and clipping, five steps, against autograd and torch.optim.Adam."""
    recipe = recipes.PAPER.replace(tv_weight=1e-3, l6_weight=1e-12)
    target = _targets(1)[0]
    state = inversion.init(KEY, recipe, SPACE)
    x = torch.tensor(np.array(state.image), requires_grad=True)
    adam = torch.optim.Adam([x], lr=26.60, betas=(0.90, 0.99), eps=1e-8)
    matrix, goal = torch.tensor(_matrix()), torch.tensor(np.array(target))
    step = jax.jit(functools.partial(inversion.step, encode=encode))
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
        np.testing.assert_allclose(state.image, x.detach().numpy(), rtol=1e-3, atol=1e-2)


def test_loss_is_equation_2():
    image = jnp.asarray(np.random.default_rng(3).normal(0, 50, (16, 16, 3)).astype(np.float32))
    target = _targets(1)[0]
    found = inversion.loss(image, encode(image), target, recipes.PAPER)
    x = np.asarray(image, np.float64)
    right = np.diff(x, axis=1, append=x[:, -1:])
    below = np.diff(x, axis=0, append=x[-1:])
    expected = np.linalg.norm(np.asarray(encode(image) - target))
    expected += 4.00e-6 * np.sqrt(right**2 + below**2 + 1e-8).sum() + 1.95e-15 * (x**6).sum()
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_the_scale_free_loss_ignores_the_encoders_scale():
    image, target = jnp.ones((16, 16, 3)) * 20.0, _targets(1)[0]
    one = inversion.loss(image, encode(image), target, recipes.CALIBRATED)
    scaled = inversion.loss(image, 50 * encode(image), 50 * target, recipes.CALIBRATED)
    assert float(one) == pytest.approx(float(scaled), rel=1e-5)


def test_cosine_rate_runs_from_first_to_last():
    recipe = recipes.CALIBRATED
    first = inversion.learning_rate(jnp.array(0), recipe)
    last = inversion.learning_rate(jnp.array(recipe.steps), recipe)
    assert float(first) == pytest.approx(recipe.learning_rate)
    assert float(last) == pytest.approx(recipe.learning_rate * recipe.final_rate, rel=1e-4)
    middle = inversion.learning_rate(jnp.array(recipe.steps // 2), recipe)
    assert float(middle) == pytest.approx(0.5 * (float(first) + float(last)), rel=1e-4)


def test_result_is_the_best_iterate_and_reproduces_its_figures():
    targets = _targets()
    result = _invert(targets, recipes.PAPER_NO_PRIOR.replace(steps=60))
    found = jax.vmap(encode)(jnp.asarray(result.image))
    difference = np.linalg.norm(found - targets, axis=1)
    norms = np.linalg.norm(found, axis=1), np.linalg.norm(targets, axis=1)
    np.testing.assert_allclose(result.relative_loss, difference / sum(norms), rtol=1e-3)
    np.testing.assert_allclose(result.descriptor_error, difference / norms[1], rtol=1e-3)
    np.testing.assert_allclose(result.loss, difference, rtol=1e-3)
    shorter = _invert(targets, recipes.PAPER_NO_PRIOR.replace(steps=30))
    assert np.all(result.loss <= shorter.loss)


@pytest.mark.parametrize("name", sorted(recipes.RECIPES))
def test_every_recipe_lowers_the_relative_loss(name):
    targets = _targets()
    first = _invert(targets, recipes.RECIPES[name].replace(steps=1))
    last = _invert(targets, recipes.RECIPES[name].replace(steps=80))
    assert np.all(last.relative_loss < 0.5 * first.relative_loss)


def test_an_image_does_not_depend_on_its_neighbours_or_the_batch_size():
    recipe = recipes.CALIBRATED.replace(steps=25)
    targets = _targets(5)
    alone = _invert(targets, recipe, batch_size=2)
    with_others = _invert(jnp.concatenate([targets[:2], 100 * targets[2:]]), recipe, batch_size=2)
    together = _invert(targets, recipe, batch_size=6)
    np.testing.assert_array_equal(alone.image[:2], with_others.image[:2])
    np.testing.assert_allclose(alone.image, together.image, atol=0.05)
    assert not np.allclose(alone.image[0], alone.image[1], atol=1.0)


def test_a_neighbour_that_is_not_finite_spoils_nothing_else():
    def fragile(image):
        # The square root of a negative number: not finite as soon as its image darkens.
        return encode(image) + jnp.sqrt(image[0, 0, 0] + 10.0 * encode(image)[0])

    targets = _targets()
    poisoned = targets.at[1].set(1e30)
    recipe = recipes.PAPER_NO_PRIOR.replace(steps=40)
    both = [
        inversion.invert(encode, t, key=KEY, recipe=recipe, space=SPACE)
        for t in (targets, poisoned)
    ]
    np.testing.assert_array_equal(both[0].image[0], both[1].image[0])
    result = inversion.invert(fragile, targets, key=KEY, recipe=recipe, space=SPACE)
    assert np.all(np.isfinite(result.image))


def test_statuses():
    def breaks(image):
        return jnp.where(jnp.abs(image[0, 0, 0]) > 1e4, jnp.nan, 1.0) * encode(image)

    targets = _targets(2)
    stop = recipes.PAPER_NO_PRIOR.replace(steps=80, tolerance=0.05, stop_early=True)
    early = _invert(targets, stop)
    assert np.all(early.status == Status.CONVERGED) and np.all(early.steps < 80)
    assert np.all(early.relative_loss <= 0.05)
    strict = _invert(targets, stop.replace(tolerance=0.0, steps=5))
    assert np.all(strict.status == Status.OUT_OF_STEPS) and np.all(strict.steps == 5)
    wild = recipes.PAPER_NO_PRIOR.replace(steps=20, learning_rate=jnp.array([2.0, 1e5]))
    mixed = inversion.invert(breaks, targets, key=KEY, recipe=wild, space=SPACE)
    # Adam's first step moves every pixel by the learning rate: the second iterate breaks.
    assert mixed.status[0] != Status.NOT_FINITE and mixed.steps[0] == 20
    assert mixed.status[1] == Status.NOT_FINITE and mixed.steps[1] == 2
    assert np.all(np.isfinite(mixed.image)) and np.isfinite(mixed.relative_loss[1])


def test_hyper_parameters_may_differ_per_image():
    targets = jnp.stack([_targets(1)[0]] * 3)
    rates = jnp.array([0.5, 2.0, 8.0])
    recipe = recipes.PAPER_NO_PRIOR.replace(steps=20)
    together = _invert(targets, recipe.replace(learning_rate=rates))
    for i, rate in enumerate(rates):
        one = _invert(targets, recipe.replace(learning_rate=rate))
        np.testing.assert_allclose(together.image[i], one.image[i], atol=0.05)


def test_the_same_key_gives_the_same_bytes_and_another_does_not():
    recipe, targets = recipes.CALIBRATED.replace(steps=10), _targets()
    first, second = _invert(targets, recipe), _invert(targets, recipe)
    other = inversion.invert(encode, targets, key=jax.random.key(8), recipe=recipe, space=SPACE)
    np.testing.assert_array_equal(first.image, second.image)
    assert not np.array_equal(first.image, other.image)


def test_a_scanned_chunk_of_steps_is_the_same_as_single_steps():
    recipe, targets = recipes.CALIBRATED.replace(steps=20), _targets()
    np.testing.assert_allclose(
        _invert(targets, recipe, chunk=5).image, _invert(targets, recipe, chunk=1).image, atol=0.05
    )
    uneven = _invert(targets, recipe, chunk=7)
    assert np.all(uneven.steps == 20)


def test_the_second_call_does_not_compile_again():
    recipe, targets = recipes.CALIBRATED.replace(steps=3), _targets()
    _invert(targets, recipe)
    before = inversion._advance_batch._cache_size()
    _invert(targets + 0.1, recipe)
    _invert(targets, recipe.replace(learning_rate=0.01, tv_weight=1.0, steps=5))
    assert inversion._advance_batch._cache_size() == before
    _invert(targets, recipe.replace(tv_beta=2.0))
    assert inversion._advance_batch._cache_size() == before + 1


def test_progress_adds_up_to_the_work():
    seen = []
    _invert(_targets(3), recipes.CALIBRATED.replace(steps=7), batch_size=2, progress=seen.append)
    assert sum(seen) == 2 * 2 * 7


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (np.zeros((0, 12), np.float32), "no targets"),
        (np.zeros((3, 11), np.float32), r"\[N, 12\]"),
        (np.array([[1.0] * 12, [np.nan] * 12], np.float32), r"targets \[1\]"),
    ],
)
def test_wrong_targets_are_refused_in_a_sentence(targets, words):
    with pytest.raises(InputError, match=words):
        _invert(targets, recipes.CALIBRATED)


def test_wrong_options_are_refused_with_the_value_received():
    with pytest.raises(ValueError, match="'squared'"):
        recipes.Recipe(data_term="squared")
    with pytest.raises(ValueError, match="-3"):
        recipes.PAPER.replace(steps=-3)
    with pytest.raises(ValueError, match=r"tv_weight.*\(2,\)"):
        _invert(_targets(3), recipes.CALIBRATED.replace(tv_weight=jnp.ones(2)))


def test_clipping_leaves_a_fifth_of_the_pixels_at_the_mean():
    recipe = recipes.PAPER.replace(steps=20)
    state = inversion.init(KEY, recipe, SPACE)
    step = jax.jit(functools.partial(inversion.step, encode=encode))
    for _ in range(20):
        state = step(state, _targets(1)[0], recipe)
    zero = np.mean(np.all(np.asarray(state.image) == 0, axis=-1))
    assert zero == pytest.approx(np.ceil(0.2140 * 255) / 256)


def test_a_tap_knows_its_image_space_and_a_plain_function_gets_the_customary_one():
    encoder = weights.random_encoder("compact", preprocessing=Preprocessing(means=(1.0, 2.0, 3.0)))
    tap = encoder.tap("conv4")
    targets = tap(jnp.zeros((1, 100, 100, 3)))
    recipe = recipes.CALIBRATED.replace(steps=1, start_deviation=0.0)
    low = np.array([-1.0, -2.0, -3.0])
    image = inversion.invert(tap, targets, key=KEY, recipe=recipe).image
    assert np.all(image >= low - 1e-3) and np.all(image < 1.0)  # a start at the mean colour, zero
    plain = inversion.invert(lambda x: x.mean((0, 1)), jnp.zeros((1, 3)), key=KEY, recipe=recipe)
    assert plain.image.shape == (1, 100, 100, 3)
