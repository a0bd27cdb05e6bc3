"""Inversions that come and go have the results of the engine's, whatever runs beside them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from posenet_jax import engine, recipes
from posenet_jax.explore.live_batch import LiveBatch, LiveJob
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion.descent import Status
from posenet_jax.inversion.traced_functions import as_argument

SPACE = Preprocessing(means=(104.0, 117.0, 123.0), size=8)
RECIPE = recipes.with_steps(recipes.CALIBRATED, 12)
WEIGHTS = jax.random.normal(jax.random.key(5), (8 * 8 * 3, 6)) / 14


def encode(image):
    return jnp.tanh(image.reshape(-1) / 128 @ WEIGHTS)


def described(number):
    return np.asarray(encode(40 * jax.random.normal(jax.random.key(number), SPACE.shape)))


def job(number, **more):
    return LiveJob(jax.random.key(7), described(number), RECIPE, **more)


def batch(sizes):
    made = LiveBatch(encode, described(0), RECIPE, SPACE, sizes=sizes)
    for size in sizes:
        made.compile(size)
    return made


def alone(own, slots, encode=encode):
    mesh = Mesh(np.asarray(jax.devices()[:1]), ("slots",))
    jobs = [engine.Job(own.index, own.target, restart=own.restart)]
    run = engine.run(encode, jobs, key=own.key, recipe=RECIPE, space=SPACE, slots=slots, mesh=mesh)
    return next(iter(run))


def to_the_end(live):
    last = {}
    while live.running:
        for seen in live.step(images=False):
            last[seen.job] = seen
    return last


def test_a_job_alone_has_the_engines_bytes():
    live = batch((1,))
    for own in (job(1), job(1, restart=2), job(2, index=3)):
        live.add(own)
        found, expected = to_the_end(live)[own], alone(own, 1)
        assert np.array_equal(found.image, expected.image)
        assert found.steps == expected.steps == 12 and found.status == expected.status
        assert found.relative_loss == expected.relative_loss
        assert found.descriptor_error == expected.descriptor_error


def test_jobs_that_come_and_go_keep_their_results_to_rounding():
    live = batch((1, 4))
    jobs = [job(number) for number in range(4)]
    live.add(jobs[0])
    steps = [seen.steps for _ in range(3) for seen in live.step(images=False)]
    assert steps == [1, 2, 3] and live.free == 3
    for own in jobs[1:]:
        live.add(own)
    assert live.free == 0
    live.step(images=False)
    live.remove(jobs[2])
    assert live.free == 1
    found = to_the_end(live)
    assert set(found) == {jobs[0], jobs[1], jobs[3]}
    for own, seen in found.items():
        expected = alone(own, 4)
        assert seen.steps == 12
        np.testing.assert_allclose(seen.image, expected.image, atol=1e-2)
        assert seen.relative_loss == pytest.approx(expected.relative_loss, abs=1e-4)


def test_pictures_are_fetched_where_asked_for_and_at_the_end():
    live = batch((1,))
    live.add(job(1))
    shown = [live.step(images=number % 2 == 0)[0] for number in range(12)]
    images = [seen.image is not None for seen in shown]
    assert images == [True, False] * 5 + [True, True]  # the last one ends
    assert [seen.ended for seen in shown] == [False] * 11 + [True]
    assert live.step(images=True) == []


def test_what_stops_being_finite_is_started_once_more_as_the_engine_does():
    def cliff(image):  # infinite for the first start's noise, and for no other
        first = jnp.asarray(
            2.0 * jax.random.normal(jax.random.fold_in(jax.random.key(7), 0), (8, 8, 3))
        )
        return jnp.where(jnp.abs(image - first).max() < 1e-3, jnp.inf, 1.0) * encode(image)

    live = LiveBatch(as_argument(cliff), described(0), RECIPE, SPACE, sizes=(1,))
    live.compile(1)
    own = job(1)
    live.add(own)
    found, expected = to_the_end(live)[own], alone(own, 1, as_argument(cliff))
    assert expected.starts == 2 and found.status == expected.status != Status.NOT_FINITE
    assert np.array_equal(found.image, expected.image)
