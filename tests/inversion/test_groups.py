"""Groups against restarts that do not repel each other, a gradient by hand, and SciPy's blur."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import diversity, engine, groups, objective, recipes, solver
from posenet_jax.inversion.job_queues import Job

KEY = jax.random.key(7)
SIDE = 16
SPACE = Preprocessing(means=(90.0, 100.0, 110.0), size=SIDE)
RNG = np.random.default_rng(0)
MATRIX = RNG.normal(0, 0.02, (12, SIDE * SIDE * 3)).astype(np.float32)
IMAGES = RNG.normal(0, 50, (5, SIDE, SIDE, 3)).astype(np.float32)
FEW = recipes.CALIBRATED.replace(steps=12)
GROUP = FEW.replace(group=3, diverse=0.1)


def phi(image):
    return jax.nn.softplus(jnp.asarray(MATRIX) @ image.ravel())


TARGETS = np.stack([np.asarray(phi(image)) for image in IMAGES])


def invert(recipe, targets=TARGETS, **options):
    return engine.invert(phi, targets, key=KEY, recipe=recipe, space=SPACE, **options)


def spread(images):
    """Mean distance of a group's pairs."""
    features = jax.vmap(diversity.of("light_and_dark"))(images)
    pairs = [(i, j) for i in range(len(images)) for j in range(i)]
    return np.mean([diversity.distance(features[i], features[j]) for i, j in pairs])


# The distance ------------------------------------------------------------------------------------


def test_features_are_scipys_blur_without_brightness():
    found = diversity.FEATURES["light_and_dark"](IMAGES[0])
    grey = np.float64(IMAGES[0]).mean(-1)
    blurred = ndimage.gaussian_filter(grey, SIDE / 25, mode="reflect", truncate=4.0)
    np.testing.assert_allclose(found, (blurred - blurred.mean()) / 32, atol=1e-3)
    brighter = diversity.FEATURES["light_and_dark"](IMAGES[0] + 20)
    np.testing.assert_allclose(brighter, found, atol=1e-5)


def test_a_distance_is_one_half_at_32_grey_levels_and_below_one():
    flat, striped = np.zeros((64, 1)), np.where(np.arange(64) % 2, 32.0, -32.0)[:, None] / 32
    assert diversity.distance(flat, striped) == pytest.approx(0.5)
    assert diversity.distance(flat, flat) == 0
    assert 0.999 < diversity.distance(flat, 1e3 * striped) < 1


@pytest.mark.parametrize("parameterisation", ["pixels", "pyramid"])
def test_a_step_follows_the_gradient_of_objective_less_distance(parameterisation):
    """Adam's first moments are a tenth of it. By hand: of all members' sum, half of each pair's."""
    recipe = GROUP.replace(diverse=0.7, parameterisation=parameterisation, start_deviation=80.0)
    states = groups.init(KEY, recipe, SPACE)
    image_of = recipes.PARAMETERISATIONS[parameterisation].image

    def whole(parameters):
        images = jax.vmap(lambda own: image_of(own, SIDE))(parameters)
        losses = [objective.loss(x, phi(x), TARGETS[0], recipe) for x in images]
        features = jax.vmap(diversity.of(recipe.diverse_in))(images)
        pairs = [diversity.distance(features[i], features[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
        return sum(losses) - 0.7 * sum(pairs) / 2

    expected = jax.grad(whole)(states.parameters)
    states = jax.jit(functools.partial(groups.step, encode=phi))(states, TARGETS[0], recipe)
    for found, own in zip(
        jax.tree.leaves(states.moments.mu), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(found, 0.1 * own, rtol=1e-3, atol=1e-6)


# In slots ----------------------------------------------------------------------------------------


def test_members_that_do_not_repel_each_other_are_restarts():
    found = invert(GROUP.replace(diverse=0.0))
    assert found.image.shape == (5, 3, SIDE, SIDE, 3) and found.steps.shape == (5, 3)
    jobs = [Job(i, target, restart=r) for i, target in enumerate(TARGETS) for r in range(3)]
    done = list(engine.run(phi, jobs, key=KEY, recipe=FEW, space=SPACE, slots=6))
    for place, one in zip(np.ndindex(5, 3), done, strict=True):
        np.testing.assert_allclose(found.image[place], one.image, atol=0.05)
        assert found.loss[place] == pytest.approx(one.loss, rel=1e-3)
        assert (one.index, one.restart) == place


def test_members_that_do_are_further_apart_at_a_cost_that_is_bounded():
    steps = {"steps": 120, "learning_rate": 4.0}
    alone, apart = (invert(GROUP.replace(diverse=weight, **steps)) for weight in (0.0, 0.3))
    distances = [[spread(images) for images in made.image] for made in (alone, apart)]
    assert np.all(np.array(distances[1]) > 4 * np.array(distances[0])), distances
    assert np.all(apart.loss.mean(1) < alone.loss.mean(1) + 0.3)
    # What is recorded is the objective alone.
    expected = objective.loss(apart.image[0, 0], phi(apart.image[0, 0]), TARGETS[0], GROUP)
    assert apart.loss[0, 0] == pytest.approx(float(expected), rel=1e-3)


def test_a_group_does_not_depend_on_its_neighbours_or_on_its_turn():
    jobs = [Job(i, target, number=i) for i, target in enumerate(TARGETS)]

    def run(jobs):
        done = engine.run(phi, jobs, key=KEY, recipe=GROUP, space=SPACE, slots=6)
        return {(one.index, one.restart): one.image.tobytes() for one in done}

    whole = run(jobs)
    assert list(whole) == list(np.ndindex(5, 3)) and len(set(whole.values())) == 15
    assert run(jobs[3:]).items() <= whole.items()
    other = [Job(0, 100 * TARGETS[0], number=0), *jobs[1:]]
    assert list(run(other).items())[3:] == list(whole.items())[3:]


def test_a_group_with_a_member_that_is_not_finite_is_started_again_as_a_whole():
    def steep(image):
        return jnp.where(jnp.sum(image) > 1e4, jnp.nan, 1.0) * phi(image)

    recipe = GROUP.replace(start_deviation=1e3, steps=1)
    found = engine.invert(steep, TARGETS, key=KEY, recipe=recipe, space=SPACE)
    assert set(found.starts.ravel()) == {1, 2}
    assert np.all(found.starts == found.starts[:, :1])


def test_solve_takes_a_group_and_members_have_statuses_of_their_own():
    recipe = GROUP.replace(tolerance=0.2, stop_early=True, steps=40, learning_rate=1.0)
    recipe = recipe.replace(start_deviation=40.0)
    found = solver.solve(
        phi, TARGETS[0], key=jax.random.fold_in(KEY, 0), recipe=recipe, space=SPACE
    )  # fmt: skip
    expected = invert(recipe, TARGETS[:1])
    np.testing.assert_allclose(found.image, expected.image[0], atol=0.05)
    np.testing.assert_array_equal(found.steps, expected.steps[0])
    assert found.image.shape == (3, SIDE, SIDE, 3) and len(set(found.steps.tolist())) > 1


def test_they_may_differ_in_what_an_own_function_sees():
    def redness(image):  # [] in units of its own
        return jnp.mean(image[..., 0] - image[..., 2]) / 10.0

    recipe = GROUP.replace(steps=120, learning_rate=4.0, diverse_in=redness)
    reds = [np.ptp([redness(x) for x in invert(recipe.replace(diverse=w)).image[0]])
            for w in (0.0, 0.3)]  # fmt: skip
    assert reds[1] > reds[0] + 0.5


# What is refused, and recorded -------------------------------------------------------------------


def test_what_cannot_be_is_refused():
    for wrong in ({"group": 3}, {"diverse": 0.1}, {"group": 0, "diverse": 0.1}):
        with pytest.raises(ValueError, match="diverse is for a group of at least 2"):
            FEW.replace(**wrong)
    with pytest.raises(ValueError, match="start_deviation must be above 0"):
        GROUP.replace(start_deviation=0.0)
    with pytest.raises(ValueError, match="diverse_in must be one of light_and_dark, received 'x'"):
        GROUP.replace(diverse_in="x")
    for function, words in ((lambda x: {"a": x}, "not a dict"), (jnp.linalg.inv, "fails: ")):
        with pytest.raises(InputError, match=f"diverse_in .* {words}"):
            invert(GROUP.replace(diverse_in=function))
    with pytest.raises(InputError, match="8 slots do not divide over 2 devices in groups of 3"):
        invert(GROUP, slots=8)


def test_records_have_groups_only_where_there_are_any():
    recorded = recipes.record(GROUP)
    assert recorded["group"] == 3 and recorded["diverse"] == 0.1
    assert recorded["diverse_in"] == "light_and_dark"
    assert not {"group", "diverse", "diverse_in"} & recipes.record(FEW).keys()
    with pytest.raises(InputError, match="phi has no name that a file could hold"):
        recipes.record(GROUP.replace(diverse_in=phi))
