"""A job's bytes follow from its slot, and its slot from its number: whatever else a run inverts."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posenet_jax.encoders import weights
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import engine, job_queues, recipes
from posenet_jax.inversion.job_queues import Job, JobQueues, slot_of

SPACE = Preprocessing(means=(90.0, 100.0, 110.0), size=16)
KEY = jax.random.key(7)
STOP = recipes.CALIBRATED.replace(steps=25, tolerance=0.1, stop_early=True)
PER_DEVICE = [1, 2, 5, 8]
# An encoder of each architecture; the others differ from it in their weights alone.
ON_OTHER_PROCESSORS = "compact", "streetnet"
BUNDLED = [
    pytest.param(name, marks=pytest.mark.bytes) if name in ON_OTHER_PROCESSORS else name
    for name in sorted(file.stem for file in weights.PRETRAINED.glob("*.s*"))
]


@jax.custom_batching.custom_vmap
def _row(x):
    """0 for one image; in a batch, the row."""
    return jnp.zeros_like(x)


@_row.def_vmap
def _(size, batched, x):
    return jnp.arange(size, dtype=x.dtype), True


@jax.custom_jvp
def _row_without_derivative(x):
    return _row(x)


@_row_without_derivative.defjvp
def _(primals, tangents):
    return _row_without_derivative(*primals), jnp.zeros_like(*primals)


@functools.cache
def _matrix():
    return np.random.default_rng(0).normal(0, 0.02, (12, 16 * 16 * 3)).astype(np.float32)


def sensitive(image):
    """A small encoder that rounds each row of a batch otherwise, on every processor."""
    descriptor = jax.nn.softplus(jnp.asarray(_matrix()) @ image.ravel())
    return descriptor * (1.0 + 1e-6 * _row_without_derivative(image[0, 0, 0]))


def _jobs(count, encode=sensitive, size=16):
    images = np.random.default_rng(1).normal(0, 50, (count, size, size, 3)).astype(np.float32)
    targets = np.asarray(jax.lax.map(encode, jnp.asarray(images)))
    return [Job(i, target, number=i) for i, target in enumerate(targets)]


def _run(jobs, per_device, encode=sensitive, space=SPACE, recipe=STOP):
    slots = per_device * jax.local_device_count()
    return list(engine.run(encode, jobs, key=KEY, recipe=recipe, space=space, slots=slots))


def _images(results):
    return {one.index: one.image.tobytes() for one in results}


@pytest.mark.parametrize("per_device", PER_DEVICE)
@pytest.mark.bytes
def test_the_encoder_of_these_tests_is_sensitive_to_its_row(per_device):
    slots = per_device * jax.local_device_count()
    job = _jobs(1)[0]
    same = [dataclasses.replace(job, number=number) for number in range(slots)]
    found = [one.image.tobytes() for one in _run(same, per_device, recipe=STOP.replace(steps=3))]
    by_slot = {slot_of(number, slots): image for number, image in enumerate(found)}
    assert len({by_slot[slot] for slot in range(per_device)}) == per_device


def _parts(jobs):
    """Runs over some of the jobs: resumed, shared by two processes, repaired, in another order."""
    return [jobs[len(jobs) // 2 :], jobs[::2], jobs[1::2], jobs[3:4], jobs[::-1]]


@pytest.mark.parametrize("per_device", PER_DEVICE)
@pytest.mark.bytes
def test_parts_of_a_run_are_those_of_the_whole(per_device):
    jobs = _jobs(3 * per_device * jax.local_device_count() + 1)
    whole = _run(jobs, per_device)
    assert len({one.steps for one in whole}) > 1  # slots end at different times
    for part in _parts(jobs):
        images = _images(_run(part, per_device))
        assert images.items() <= _images(whole).items() and len(images) == len(part)


@pytest.mark.bytes
def test_the_bytes_tell_when_slots_are_dealt_otherwise(monkeypatch):
    jobs = _jobs(9)
    whole = _images(_run(jobs, 2))
    in_turn = itertools.count()
    monkeypatch.setattr(job_queues, "slot_of", lambda number, slots: next(in_turn) % slots)
    assert not _images(_run(jobs[3:], 2)).items() <= whole.items()


@pytest.mark.parametrize("per_device", PER_DEVICE)
@pytest.mark.parametrize("name", BUNDLED)
def test_parts_of_a_run_are_those_of_the_whole_with_every_bundled_encoder(name, per_device):
    tap = weights.load_encoder(name).tap("fc5")
    slots = per_device * jax.local_device_count()
    job = dataclasses.replace(_jobs(1, tap, 100)[0], number=0)
    # The same state in every slot, and again in the part of them that a resumed run would have.
    same = [dataclasses.replace(job, number=number) for number in range(slots + 1)]
    run = functools.partial(
        _run,
        per_device=per_device,
        encode=tap,
        space=tap.preprocessing,
        recipe=STOP.replace(steps=3),
    )
    whole = [one.image.tobytes() for one in run(same)]
    assert [one.image.tobytes() for one in run(same[slots // 2 :])] == whole[slots // 2 :]
    of_slot = {slot_of(number, slots): image for number, image in enumerate(whole)}
    assert of_slot[slot_of(slots, slots)] == whole[slots]


@pytest.mark.bytes
def test_every_round_fills_every_slot_and_what_recurs_changes_slots():
    for slots in (1, 2, 5, 16):
        rounds = [
            [slot_of(first + place, slots) for place in range(slots)]
            for first in range(0, slots * slots, slots)
        ]
        assert all(sorted(one) == list(range(slots)) for one in rounds)
        assert sorted(one[0] for one in rounds) == list(range(slots))


@pytest.mark.bytes
def test_jobs_are_taken_as_slots_need_them():
    taken = []

    def jobs():
        for number in range(20):
            taken.append(number)
            yield Job(number, np.zeros(1))

    queues = JobQueues(jobs(), 4)
    assert {s: place for s, (place, _) in queues.next_jobs(range(4), 100).items()} == {
        slot: slot for slot in range(4)
    }
    assert taken == [0, 1, 2, 3]
    # Slot 1 is that of jobs 1, 4, 11, 14 and 17: the others wait for theirs.
    assert [queues.next_jobs([1], 100)[1][0] for _ in range(2)] == [4, 11]
    assert queues.taken == len(taken) == 12
    assert queues.next_jobs([1], 2) == {} and queues.taken == 14
    left = [queues.next_jobs(range(4), 100) for _ in range(6)]
    assert sorted(place for found in left for place, _ in found.values()) == sorted(
        set(range(20)) - {0, 1, 2, 3, 4, 11}
    )
