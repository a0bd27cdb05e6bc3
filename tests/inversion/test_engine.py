"""The engine: independence, refilling, statuses, one compilation."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posenet_jax.encoders import weights
from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import descent, engine, recipes, slot_programs
from posenet_jax.inversion.descent import Status
from posenet_jax.inversion.job_queues import Job

SPACE = Preprocessing(means=(90.0, 100.0, 110.0), size=16)
KEY = jax.random.key(7)
# The others are in tests/decoders/test_generator_space.py.
NEED_NO_GENERATOR = sorted(
    name for name, own in recipes.RECIPES.items() if own.start != "generator"
)


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
    return engine.invert(encode, targets, key=KEY, recipe=recipe, space=SPACE, **options)


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


@pytest.mark.parametrize("name", NEED_NO_GENERATOR)
def test_every_recipe_lowers_the_relative_loss(name):
    targets, recipe = _targets(), recipes.RECIPES[name]
    start = np.zeros((3, 16, 16, 3)) if recipe.start == "image" else None
    first = _invert(targets, recipe.replace(steps=1), start=start)
    last = _invert(targets, recipe.replace(steps=80), start=start)
    assert np.all(last.relative_loss < 0.5 * first.relative_loss)


def test_an_image_does_not_depend_on_its_neighbours_or_the_batch_size():
    recipe = recipes.CALIBRATED.replace(steps=25)
    targets = _targets(5)
    alone = _invert(targets, recipe, slots=2)
    with_others = _invert(jnp.concatenate([targets[:2], 100 * targets[2:]]), recipe, slots=2)
    together = _invert(targets, recipe, slots=6)
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
        engine.invert(encode, t, key=KEY, recipe=recipe, space=SPACE) for t in (targets, poisoned)
    ]
    np.testing.assert_array_equal(both[0].image[0], both[1].image[0])
    result = engine.invert(fragile, targets, key=KEY, recipe=recipe, space=SPACE)
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
    mixed = engine.invert(breaks, targets, key=KEY, recipe=wild, space=SPACE)
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
    other = engine.invert(encode, targets, key=jax.random.key(8), recipe=recipe, space=SPACE)
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
    before = slot_programs.advance._cache_size()
    _invert(targets + 0.1, recipe)
    _invert(targets, recipe.replace(learning_rate=0.01, priors={"l6": 0.2, "tv": 1.0}, steps=5))
    assert slot_programs.advance._cache_size() == before
    _invert(targets, recipe.replace(priors={"tv_squared": 0.03, "l6": 0.03}))
    assert slot_programs.advance._cache_size() == before + 1


def test_progress_adds_up_to_the_work():
    seen = []
    _invert(_targets(3), recipes.CALIBRATED.replace(steps=7), slots=2, progress=seen.append)
    assert sum(seen) == 3 * 7


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
    listed = "among tv, l6, tv_squared, l6_norm, sparse; received 'TV'"
    with pytest.raises(ValueError, match=listed):
        recipes.PAPER.replace(priors={"TV": 1.0})
    for old in ("tv_weight", "l6_weight", "tv_beta", "l6_form"):
        with pytest.raises(TypeError, match=f"{old} is now a prior: write priors="):
            recipes.PAPER.replace(**{old: 1.0})
    with pytest.raises(ValueError, match="immutable"):
        recipes.PAPER.priors["tv"] = 1.0
    with pytest.raises(ValueError, match=r"priors\.tv.*\(2,\)"):
        _invert(_targets(3), recipes.CALIBRATED.replace(priors={"tv": jnp.ones(2)}))


def test_a_tap_knows_its_image_space_and_a_plain_function_gets_the_customary_one():
    encoder = weights.random_encoder("compact", preprocessing=Preprocessing(means=(1.0, 2.0, 3.0)))
    tap = encoder.tap("conv4")
    targets = tap(jnp.zeros((1, 100, 100, 3)))
    recipe = recipes.CALIBRATED.replace(steps=1, start_deviation=0.0)
    low = np.array([-1.0, -2.0, -3.0])
    image = engine.invert(tap, targets, key=KEY, recipe=recipe).image
    assert np.all(image >= low - 1e-3) and np.all(image < 1.0)  # a start at the mean colour, zero
    plain = engine.invert(lambda x: x.mean((0, 1)), jnp.zeros((1, 3)), key=KEY, recipe=recipe)
    assert plain.image.shape == (1, 100, 100, 3)


# Slots -------------------------------------------------------------------------------------------

STOP = recipes.PAPER_NO_PRIOR.replace(steps=60, tolerance=0.1, stop_early=True)


def _run(jobs, recipe=STOP, **options):
    options = {"key": KEY, "space": SPACE, "slots": 2} | options
    return list(engine.run(encode, jobs, recipe=recipe, **options))


def _jobs(count, **fields):
    return [Job(i, np.asarray(target), **fields) for i, target in enumerate(_targets(count))]


def _by_hand(job, recipe=STOP):
    """One job alone, step by step with the kernel."""
    state = descent.init(jax.random.fold_in(KEY, job.index), recipe, SPACE)
    step = jax.jit(functools.partial(descent.step, encode=encode))
    while int(state.status) == Status.RUNNING:
        state = step(state, job.target, recipe)
    return state


def test_refilled_slots_do_what_each_job_does_alone():
    jobs = _jobs(7)
    done = _run(jobs)
    assert [one.index for one in done] == list(range(7))
    steps = [one.steps for one in done]
    assert len(set(steps)) > 1 and max(steps) < 60  # they end at different times
    for one, job in zip(done, jobs, strict=True):
        alone = _by_hand(job)
        assert one.steps == int(alone.steps) and one.status == Status(int(alone.status))
        np.testing.assert_allclose(one.image, alone.best.image, atol=0.05)
        assert one.relative_loss == pytest.approx(float(alone.best.relative_loss), rel=1e-3)


@pytest.mark.parametrize("options", [{"slots": 4}, {"slots": 6}, {"chunk": 7}])
def test_results_do_not_depend_on_slots_or_chunks(options):
    jobs = _jobs(7)
    for one, other in zip(_run(jobs), _run(jobs, **options), strict=True):
        assert (one.index, one.steps, one.status) == (other.index, other.steps, other.status)
        np.testing.assert_allclose(one.image, other.image, atol=0.05)


def test_results_do_not_depend_on_what_was_in_the_slots_before():
    jobs = [dataclasses.replace(job, number=job.index) for job in _jobs(6)]
    first, second = _run(jobs), _run(jobs[::-1])[::-1]
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.image, other.image)


def test_results_come_out_as_they_can_and_jobs_are_taken_as_needed():
    taken = []

    def jobs():
        for job in _jobs(40):
            taken.append(job.index)
            yield job

    done = engine.run(encode, jobs(), key=KEY, recipe=STOP, space=SPACE, slots=2)
    assert not taken
    next(done)
    assert 2 <= len(taken) < 20


def test_a_slow_job_holds_back_only_so_many_results(monkeypatch):
    monkeypatch.setattr(engine, "_MOST_WAITING", 0)
    jobs = _jobs(30)
    never = STOP.replace(tolerance=0.0, steps=400)
    jobs[0] = Job(0, jobs[0].target, recipe=never)
    ahead = []

    def watched():
        for job in jobs:
            ahead.append(job.index)
            yield job

    done = engine.run(encode, watched(), key=KEY, recipe=STOP, space=SPACE, slots=2)
    assert next(done).steps == 400
    assert len(ahead) <= 4 * 2 + 1
    assert [one.index for one in done] == list(range(1, 30))


def test_each_job_may_have_hyper_parameters_of_its_own():
    rates = (0.5, 2.0, 8.0)
    jobs = [Job(0, np.asarray(_targets(1)[0]), recipe=STOP.replace(learning_rate=r)) for r in rates]
    for one, job in zip(_run(jobs), jobs, strict=True):
        assert one.steps == int(_by_hand(job, job.recipe).steps)


def test_an_inversion_begins_with_the_image_given():
    starts = np.random.default_rng(3).normal(0, 40, (3, 16, 16, 3)).astype(np.float32)
    targets = np.asarray(jax.vmap(encode)(jnp.asarray(starts[::-1])))
    once = recipes.WARM.replace(steps=1)
    found = _invert(targets, once, start=starts)
    np.testing.assert_allclose(found.image, starts, atol=1e-4)
    # One slot after another: images find their own starts.
    alone = _invert(targets, recipes.WARM.replace(steps=9), start=starts, slots=2)
    together = _invert(targets, recipes.WARM.replace(steps=9), start=starts, slots=4)
    np.testing.assert_allclose(alone.image, together.image, atol=1e-3)
    noisy = _invert(targets, once.replace(start_deviation=3.0), start=starts)
    assert np.std(noisy.image - starts) == pytest.approx(3.0, rel=0.1)


@pytest.mark.parametrize(
    ("recipe", "start", "words"),
    [
        (recipes.WARM, None, "begins with images: give start"),
        (recipes.CALIBRATED, np.zeros((3, 16, 16, 3)), "begins with noise alone"),
        (recipes.WARM, np.zeros((2, 16, 16, 3)), r"\[3, 16, 16, 3\]; received \[2, 16, 16, 3\]"),
        (recipes.WARM, np.full((3, 16, 16, 3), np.nan), "must be finite"),
    ],
)
def test_starts_that_do_not_fit_are_refused(recipe, start, words):
    with pytest.raises(InputError, match=words):
        _invert(_targets(), recipe, start=start)


def test_restarts_begin_elsewhere_and_the_first_is_inverts():
    jobs = [Job(1, np.asarray(_targets(2)[1]), restart=r) for r in range(3)]
    done = _run(jobs)
    assert [one.restart for one in done] == [0, 1, 2]
    assert not np.allclose(done[0].image, done[1].image, atol=1.0)
    assert not np.allclose(done[1].image, done[2].image, atol=1.0)
    np.testing.assert_array_equal(done[0].image, _invert(_targets(2), STOP, slots=2).image[1])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_pixel_whose_gradient_is_not_finite_is_enough(value):
    """The loss is a number, and so are all the other pixels'. The image is as large as a network's:
    there XLA's CPU backend has a maximum that passes over a NaN.
    """
    large = Preprocessing(means=SPACE.means, size=96)

    @jax.custom_jvp
    def spoilt(image):
        return image

    @spoilt.defjvp
    def _(primals, tangents):
        return primals[0], tangents[0].at[12, 6, 1].multiply(value)

    def reduced(image):
        return encode(spoilt(image)[::6, ::6])

    result = engine.invert(reduced, _targets(2), key=KEY, recipe=STOP, space=large)
    assert np.all(result.status == Status.NOT_FINITE) and np.all(result.steps == 1)
    assert np.all(np.isfinite(result.image))


def test_what_is_not_finite_is_begun_once_more():

    def breaks_at_first(image):
        # The first start of job 0 is known: an image that begins as it does is not a number.
        start = jax.random.normal(jax.random.fold_in(KEY, 0), image.shape) * STOP.start_deviation
        same = jnp.abs(image[0, 0, 0] - start[0, 0, 0]) < 1e-6
        return jnp.where(same, jnp.nan, 1.0) * encode(image)

    def never(image):
        return jnp.nan * encode(image)

    jobs = _jobs(3)
    options = {"key": KEY, "space": SPACE, "slots": 2, "recipe": STOP}
    first, second, third = engine.run(breaks_at_first, jobs, **options)
    assert first.starts == 2 and first.status != Status.NOT_FINITE and first.steps > 10
    assert second.starts == third.starts == 1
    for one in engine.run(never, jobs, **options):
        assert one.status == Status.NOT_FINITE and one.starts == 2 and one.steps == 1
        assert np.all(np.isfinite(one.image))


def test_patience_ends_what_no_longer_falls():
    recipe = recipes.PAPER_NO_PRIOR.replace(steps=400, learning_rate=8.0, patience=20)
    one = _run(_jobs(1), recipe)[0]
    assert one.status in (Status.STALLED, Status.CONVERGED) and 20 < one.steps < 400
    assert _run(_jobs(1), recipe.replace(patience=0))[0].steps == 400


def test_refilling_does_not_compile_again():
    _run(_jobs(2))  # without
    sizes = slot_programs.advance._cache_size(), slot_programs.begin._cache_size()
    _run(_jobs(9), STOP.replace(learning_rate=1.0, tolerance=0.2))
    assert (slot_programs.advance._cache_size(), slot_programs.begin._cache_size()) == sizes


def test_slots_that_do_not_divide_are_refused():
    devices = jax.local_device_count()
    if devices == 1:
        pytest.skip("needs two devices")
    with pytest.raises(InputError, match=f"{devices + 1} slots"):
        _run(_jobs(1), slots=devices + 1)


def test_no_jobs_no_results():
    assert _run([]) == []
