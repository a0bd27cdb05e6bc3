"""What crosses to the host, and steps made on the device until an image ends: all counted."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense_jobs import DEVICES, KEY, SPACE, STOP, encode, jobs_of
from jax.sharding import Mesh

from posenet_jax.inversion import engine, slot_programs
from posenet_jax.inversion.engine import Tally
from posenet_jax.inversion.job_queues import slot_of

IMAGE = 16 * 16 * 3 * 4  # bytes


def _run(jobs, slots=DEVICES, recipe=STOP, devices=DEVICES, **options):
    """Results, and what was counted."""
    tally, mesh = Tally(), Mesh(np.asarray(jax.devices()[:devices]), ("slots",))
    options |= {"key": KEY, "recipe": recipe, "space": SPACE, "slots": slots, "mesh": mesh}
    return list(engine.run(encode, jobs, tally=tally, **options)), tally


def _bytes(results):
    return [(one.index, one.steps, one.image.tobytes(), one.loss) for one in results]


@pytest.mark.parametrize("per_device", [1, 2, 8])
def test_one_image_crosses_to_the_host_for_each_that_ended(per_device):
    slots, jobs = per_device * DEVICES, jobs_of(11)
    _, tally = _run(jobs, slots)
    assert tally.images == tally.images_to_host == len(jobs)
    # Beside it three numbers; at each look a slot's status and steps, and a device's steps.
    looks = tally.steps * (slots * 8 + DEVICES * 4)
    assert tally.bytes_to_host == len(jobs) * (IMAGE + 12) + looks


def test_what_is_taken_out_is_one_row_of_each_device():
    held = slot_programs.shapes(STOP, np.zeros(12), SPACE, engine._local_mesh(), 8 * DEVICES)
    which = jax.ShapeDtypeStruct((DEVICES,), jnp.int32)
    take = functools.partial(slot_programs.taken_out, mesh=engine._local_mesh())
    assert jax.eval_shape(take, held.state.best, which).image.shape == (DEVICES, 16, 16, 3)


def test_members_of_a_group_cross_together():
    recipe = STOP.replace(group=2, diverse=0.01, steps=4, stop_early=False)
    done, tally = _run(jobs_of(3), 2 * DEVICES, recipe)
    assert tally.images == tally.images_to_host == len(done) == 6
    assert tally.wasted == 1.0 - 6 * 4 / tally.image_steps


@pytest.fixture
def single_steps_looped(monkeypatch):
    """One step a call, by the program that can do many."""
    monkeypatch.setattr(slot_programs, "looped", lambda chunk: True)


@pytest.mark.parametrize("per_device", [1, 3])
@pytest.mark.usefixtures("single_steps_looped")
def test_steps_until_an_image_ends_are_those_one_by_one(per_device):
    jobs = jobs_of(9)
    one_by_one, single = _run(jobs, per_device * DEVICES, chunk=1)
    assert len({one.steps for one in one_by_one}) > 2  # they end at different times
    for chunk in (2, 7, 1000):
        found, tally = _run(jobs, per_device * DEVICES, chunk=chunk)
        assert _bytes(found) == _bytes(one_by_one)
        assert tally.useful_image_steps == single.useful_image_steps
        assert tally.programs < single.programs


def test_a_loop_wastes_no_step_that_single_ones_would_not():
    """On one device. On several one may wait for another, `chunk` steps at most."""
    jobs = jobs_of(9)
    counts = [_run(jobs, 3, devices=1, chunk=chunk)[1] for chunk in (1, 25)]
    for tally in counts:
        assert tally.steps * 3 == tally.image_steps
    assert counts[1].image_steps == counts[0].image_steps
    calls = [tally.programs - 2 * len(jobs) for tally in counts]  # less to begin and to take out
    assert calls[0] == counts[0].steps and calls[1] <= len(jobs)
    # One step of the encoder a step of the slot with the most work: none is made while all idle.
    done, _ = _run(jobs, 3, devices=1)
    work = [sum(one.steps for one in done if slot_of(one.index, 3) == slot) for slot in range(3)]
    assert counts[1].steps == max(work)


def test_a_fixed_number_of_steps_is_as_many_calls_as_it_fills():
    recipe = STOP.replace(steps=50, stop_early=False)
    for chunk, calls in ((25, 2), (100, 1)):
        _, tally = _run(jobs_of(2), 2, recipe, devices=1, chunk=chunk)
        assert tally.programs == calls + 2 * 2  # each image begins, and is taken out
        assert tally.wasted == 0.0 and tally.steps == 50


def test_the_next_steps_have_begun_when_a_result_is_handed_out(monkeypatch):
    calls, advance = [], slot_programs.advance
    monkeypatch.setattr(
        slot_programs, "advance", lambda *a, **k: calls.append(None) or advance(*a, **k)
    )
    tally = Tally()
    done = engine.run(
        encode, jobs_of(8), key=KEY, recipe=STOP, space=SPACE, slots=DEVICES, tally=tally
    )
    next(done)
    assert len(calls) == tally.steps + 1  # one more than a look has waited for
    list(done)
    assert len(calls) == tally.steps


def test_what_had_ended_is_handed_out_before_an_error_of_the_iterator():
    def jobs():
        yield from jobs_of(1)
        raise OSError("no more")

    mesh = Mesh(np.asarray(jax.devices()[:1]), ("slots",))
    done = engine.run(encode, jobs(), key=KEY, recipe=STOP, space=SPACE, slots=1, mesh=mesh)
    assert next(done).index == 0
    with pytest.raises(OSError, match="no more"):
        next(done)
