"""Transforms against SciPy, their draws against distributions; inverted in slots and alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import descent, engine, objective, recipes, solver, transforms
from posenet_jax.inversion.descent import Status
from posenet_jax.inversion.job_queues import Job
from posenet_jax.inversion.transforms import TRANSFORMS

KEY = jax.random.key(7)
SIDE = 16
SPACE = Preprocessing(means=(90.0, 100.0, 110.0), size=SIDE)
RNG = np.random.default_rng(0)
MATRIX = RNG.normal(0, 0.02, (12, SIDE * SIDE * 3)).astype(np.float32)
IMAGES = RNG.normal(0, 50, (4, SIDE, SIDE, 3)).astype(np.float32)
ALL = {"jitter": 3, "scale": 0.2, "rotation": 15}
FEW = recipes.CALIBRATED.replace(steps=12, transforms={"scale": 0.2, "jitter": 2})
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE].astype(np.float32)
RAMPS = np.stack([ROWS, COLUMNS, np.ones_like(ROWS)], -1)  # each pixel says where it comes from
CENTRE = (SIDE - 1) / 2


def phi(image):
    return jax.nn.softplus(jnp.asarray(MATRIX) @ image.ravel())


TARGETS = np.stack([np.asarray(phi(image)) for image in IMAGES])


def invert(recipe, targets=TARGETS, **options):
    return engine.invert(phi, targets, key=KEY, recipe=recipe, space=SPACE, **options)


@functools.partial(jax.jit, static_argnums=0)
def applied(name, images, key, amount):
    return jax.vmap(lambda image: TRANSFORMS[name].apply(image, key, amount))(images)


def linear_map(ramps):
    """The map from rows and columns to those that a pixel has its value from, off the border."""
    inner = ramps[6:10, 6:10, :2].reshape(-1, 2).astype(np.float64)
    places = np.stack([ROWS, COLUMNS], -1)[6:10, 6:10].reshape(-1, 2) - CENTRE
    matrix, *_ = np.linalg.lstsq(np.c_[places, np.ones(len(places))], inner, rcond=None)
    return matrix[:2].T, matrix[2] - CENTRE


def draws(name, amount, count=500):
    keys = jax.random.split(jax.random.key(3), count)
    apply = jax.jit(jax.vmap(lambda key: TRANSFORMS[name].apply(RAMPS, key, amount)))
    return [linear_map(ramps) for ramps in np.asarray(apply(keys))]


# Alone -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_image_is_scipys(name, seed):
    """By the map that the ramps show."""
    images = np.stack([RAMPS, IMAGES[0]])
    ramps, found = applied(name, images, jax.random.key(seed), ALL[name])
    matrix, offset = linear_map(np.asarray(ramps))
    whole = offset + CENTRE - matrix @ np.full(2, CENTRE)
    for channel in range(3):
        expected = ndimage.affine_transform(
            np.float64(IMAGES[0][..., channel]), matrix, whole, order=1, mode="nearest"
        )
        np.testing.assert_allclose(found[..., channel], expected, atol=0.02)


def test_jitter_moves_by_every_number_of_pixels_alike():
    moved = np.array([-offset for _, offset in draws("jitter", 2.9)])
    whole = np.rint(moved)
    np.testing.assert_allclose(moved, whole, atol=1e-4)
    for axis in whole.T:  # down, right
        numbers, counts = np.unique(axis, return_counts=True)
        assert numbers.tolist() == [-2, -1, 0, 1, 2]
        assert stats.chisquare(counts).pvalue > 1e-3
    assert abs(stats.spearmanr(*whole.T).statistic) < 0.2
    image = np.asarray(applied("jitter", IMAGES, jax.random.key(0), 3))
    assert np.isin(image, IMAGES).all()  # no pixel is a mixture


def test_scale_and_rotation_are_drawn_evenly_about_the_centre():
    factors = [1 / matrix[0, 0] for matrix, _ in draws("scale", 0.2)]
    assert stats.kstest(factors, stats.uniform(0.8, 0.4).cdf).pvalue > 1e-3
    turned = draws("rotation", 15)
    angles = [np.rad2deg(np.arctan2(matrix[1, 0], matrix[0, 0])) for matrix, _ in turned]
    assert stats.kstest(angles, stats.uniform(-15, 30).cdf).pvalue > 1e-3
    for matrix, offset in turned[:9]:
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(2), atol=1e-4)
        np.testing.assert_allclose(offset, 0, atol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_gradients_are_the_transposes_of_linear_maps(name):
    key = jax.random.key(5)
    for image, other in ((IMAGES[0], IMAGES[1]), (IMAGES[2], IMAGES[3])):
        made, back = jax.vjp(lambda x: TRANSFORMS[name].apply(x, key, ALL[name]), image)
        expected = np.vdot(np.float64(made), np.float64(other))
        assert np.vdot(np.float64(back(other)[0]), np.float64(image)) == pytest.approx(
            expected, rel=1e-4
        )


@pytest.mark.parametrize("name", ALL)
def test_amount_0_leaves_the_image_to_the_bit(name):
    np.testing.assert_array_equal(applied(name, IMAGES, KEY, 0.0), IMAGES)


def test_they_are_applied_in_the_order_that_they_are_given_in():
    def doubled(image, key, amount):
        return amount * image

    def raised(image, key, amount):
        return image + amount

    for order, value in (((doubled, raised), 7.0), ((raised, doubled), 12.0)):
        own = {function: {doubled: 2.0, raised: 5.0}[function] for function in order}
        recipe = jax.tree.map(lambda x: x, FEW.replace(transforms=own))  # taken apart and together
        assert tuple(recipe.transforms) == order
        found = transforms.transformed(recipe.transforms, np.ones((2, 2, 3), np.float32), KEY)
        np.testing.assert_array_equal(found, value)
    names = recipes.Recipe(transforms={"scale": 0.1, "jitter": 1}).transforms
    assert list(jax.tree.map(lambda x: x, names)) == ["scale", "jitter"]


# In the descent ----------------------------------------------------------------------------------


def drawn(image, key, amount):
    """Adds a number that says what the step drew."""
    return image + amount * jax.random.uniform(key)


def test_every_step_draws_anew_and_the_last_ones_see_the_image_itself():
    seen = []

    def watched(image):
        jax.debug.callback(lambda x: seen.append(float(x)), image[0, 0, 0])
        return jnp.sum(image)[None]

    still = {"learning_rate": 0.0, "start_deviation": 0.0, "data_term": "norm"}
    recipe = FEW.replace(steps=50, transforms={drawn: 1.0}, **still)
    step = jax.jit(functools.partial(descent.step, encode=watched))

    def run(key, recipe):
        seen.clear()
        state = descent.init(key, recipe, SPACE)
        while state.status == Status.RUNNING:
            state = step(state, jnp.ones(1), recipe)
            jax.effects_barrier()
        return np.array(seen)

    first = run(KEY, recipe)
    assert len(first) == 50 and len(set(first[:25])) == 25
    assert np.all(first[:25] > 0) and np.all(first[25:] == 0)
    assert stats.kstest(first[:25], "uniform").pvalue > 1e-3
    np.testing.assert_array_equal(run(KEY, recipe), first)
    assert not np.isin(run(jax.random.key(8), recipe)[:25], first).any()
    whole = run(KEY, recipe.replace(transformed_share=1.0))  # the last step at least
    assert np.all(whole[:49] > 0) and whole[49] == 0


def test_losses_are_those_of_the_picture_as_it_is():
    """Though the first image's descriptor is its target while it is transformed."""

    def replaced(image, key, amount):
        return 0 * image + IMAGES[0]

    result = invert(FEW.replace(transforms={replaced: 1.0}))
    for i, image in enumerate(result.image):
        descriptor = phi(image)
        error = np.linalg.norm(descriptor - TARGETS[i]) / np.linalg.norm(TARGETS[i])
        assert result.descriptor_error[i] == pytest.approx(error, rel=1e-3)
        loss = objective.loss(image, descriptor, TARGETS[i], FEW)
        assert result.loss[i] == pytest.approx(float(loss), rel=1e-3)


def test_images_bear_being_moved_that_were_inverted_so():
    """A matrix's rows are noise: its descriptors change with every move, unless asked not to."""
    recipe = FEW.replace(steps=150, priors={"tv": 0.0, "l6": 0.0}, learning_rate=4.0)
    moved = jax.vmap(jax.vmap(lambda image, key: TRANSFORMS["jitter"].apply(image, key, 1)), (0, 0))
    keys = jax.random.split(jax.random.key(2), (4, 20))

    def error(recipe):
        images = invert(recipe).image
        found = jax.vmap(jax.vmap(phi))(moved(np.repeat(images[:, None], 20, 1), keys))
        return np.mean(np.linalg.norm(found - TARGETS[:, None], axis=-1))

    still, moving = ({"scale": 0.0, "jitter": amount} for amount in (0.0, 1.0))
    assert error(recipe.replace(transforms=moving)) < 0.8 * error(recipe.replace(transforms=still))


def test_nothing_converges_or_stalls_while_it_is_transformed():
    far = {"tolerance": 2.0, "stop_early": True}
    result = invert(FEW.replace(**far))
    assert set(result.steps) == {7} and set(result.status) == {Status.CONVERGED}
    still = FEW.replace(patience=2, learning_rate=0.0)
    assert set(invert(still).steps) == {9}  # the first of the last six is an improvement


def test_amounts_may_differ_between_images_in_one_program():
    def images(amounts):
        return invert(FEW.replace(transforms={"scale": 0.0, "jitter": amounts})).image

    whole = images(np.array([0.0, 3.0, 0.0, 1.0], np.float32))
    np.testing.assert_array_equal(whole[1], images(3.0)[1])
    np.testing.assert_array_equal(whole[2], images(0.0)[2])
    assert not np.array_equal(whole[1], images(0.0)[1])


def test_a_job_does_not_depend_on_its_neighbours_or_on_its_turn():
    alone, among = (invert(FEW, targets, slots=2) for targets in (
        TARGETS, np.concatenate([TARGETS[:2], 100 * TARGETS[2:]])
    ))  # fmt: skip
    np.testing.assert_array_equal(alone.image[:2], among.image[:2])
    jobs = [Job(i, target, number=i) for i, target in enumerate(TARGETS)]

    def run(jobs):
        done = engine.run(phi, jobs, key=KEY, recipe=FEW, space=SPACE, slots=2)
        return {one.index: one.image.tobytes() for one in done}

    whole = run(jobs)
    assert run(jobs[2:]).items() <= whole.items()
    assert len(set(whole.values())) == 4


def test_jobs_of_one_target_are_transformed_each_in_its_own_way():
    same = invert(FEW.replace(start_deviation=0.0), np.repeat(TARGETS[:1], 2, 0)).image
    assert not np.array_equal(same[0], same[1])


def test_solve_takes_them_with_another_kind_of_key():
    key = jax.random.key(7, impl="rbg")
    first = jax.random.fold_in(key, 0)
    found = solver.solve(phi, TARGETS[0], key=first, recipe=FEW, space=SPACE)
    expected = engine.invert(phi, TARGETS[:1], key=key, recipe=FEW, space=SPACE)
    np.testing.assert_allclose(found.image, expected.image[0], atol=0.05)


def test_without_transforms_a_state_holds_nothing_of_them():
    assert descent.init(KEY, recipes.CALIBRATED, SPACE).seed is None
    assert descent.init(KEY, FEW, SPACE).seed.shape == (2,)
    assert recipes.CALIBRATED.transformed_share is None  # nor a recipe a number


# What is refused, and recorded -------------------------------------------------------------------


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="transforms must be among jitter, scale, .* 'shear'"):
        recipes.Recipe(transforms={"shear": 1.0})
    with pytest.raises(ValueError, match="scale must be at least 0 and below 1.0, received 1"):
        recipes.Recipe(transforms={"scale": 1})
    for wrong, words in (
        (lambda image, key, amount: image[1:], "must return an image"),
        (lambda image, key: image, "fails: TypeError"),
    ):
        with pytest.raises(InputError, match=f"transform .*{words}"):
            invert(FEW.replace(transforms={wrong: 1.0}))
    jobs = [Job(5, TARGETS[0], recipe=FEW.replace(transforms={"jitter": 2.0, "scale": 0.2}))]
    with pytest.raises(InputError, match="job 5: its recipe has other .* transforms"):
        list(engine.run(phi, jobs, key=KEY, recipe=FEW, space=SPACE, slots=2))


def test_records_have_them_in_their_order_and_only_where_there_are_any():
    recorded = recipes.record(FEW)
    assert recorded["transforms"] == [["scale", 0.2], ["jitter", 2]]
    assert recorded["transformed_share"] == recipes.TRANSFORMED_SHARE
    assert not {"transforms", "transformed_share"} & recipes.record(recipes.CALIBRATED).keys()
    with pytest.raises(InputError, match="drawn has no name that a file could hold.*TRANSFORMS"):
        recipes.record(FEW.replace(transforms={drawn: 1.0}))
