"""Slots that fit in memory: the default number, and half of it where a device is out of memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense_jobs import DEVICES, KEY, SPACE, STOP, encode, jobs_of

from posenet_jax.errors import InputError
from posenet_jax.inversion import engine, slot_memory, slot_programs
from posenet_jax.inversion.job_queues import Job, JobQueues, slot_of

FULL, HALF = 4 * DEVICES, 2 * DEVICES
OUT_OF_MEMORY = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 123 bytes."


def _run(jobs, slots, **options):
    return engine.run(encode, jobs, key=KEY, recipe=STOP, space=SPACE, slots=slots, **options)


def _bytes(results):
    return {one.index: (one.image.tobytes(), one.steps) for one in results}


# The default -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "number"), [(8448, 256), (8447, 128), (2304, 64), (2303, 32), (287, 1), (1, 1)]
)
def test_the_first_half_that_fits(budget, number):
    asked = []

    def need(slots):
        asked.append(slots)
        return 256 + 32 * slots

    assert slot_memory.halved(256, need, budget) == number
    assert len(asked) <= 4 and asked[0] == 256  # each is compiled


def _default(memory, **options):
    held = {"recipe": STOP, "space": SPACE, "mesh": engine._local_mesh(), "looped": False}
    target = jax.ShapeDtypeStruct((12,), jnp.float32)
    partial = jax.tree_util.Partial(encode)
    return slot_memory.fitting(partial, target, most=FULL, memory=memory, **held | options)


def test_a_step_takes_half_of_the_memory_at_most():
    recipe, mesh = STOP, engine._local_mesh()
    target = jax.ShapeDtypeStruct((12,), jnp.float32)
    needed = {}
    for slots in (FULL, HALF):
        held = slot_programs.shapes(recipe, target, SPACE, mesh, slots)
        partial = jax.tree_util.Partial(encode)
        needed[slots] = slot_memory.step_memory(partial, held, mesh=mesh, looped=False)
    # A slot holds at least its image, Adam's two moments of it and the best one, in float32.
    assert needed[FULL] - needed[HALF] >= 2 * 4 * 16 * 16 * 3 * 4
    assert _default(2 * needed[FULL]) == FULL
    assert _default(2 * needed[FULL] - 2) == HALF
    assert _default(2 * needed[HALF] - 2) == _default(0) == DEVICES


def test_the_engine_takes_what_fits(monkeypatch):
    most = engine.most_slots(DEVICES)
    assert most == 8 * DEVICES  # on CPU, where memory is no matter
    made = []
    empty = slot_programs.empty
    monkeypatch.setattr(
        slot_programs, "empty", lambda *a, **k: made.append(k["slots"]) or empty(*a, **k)
    )
    jobs = jobs_of(DEVICES + 1)
    list(_run(jobs, None))
    targets = np.stack([job.target for job in jobs])
    engine.invert(encode, targets, key=KEY, recipe=STOP, space=SPACE)
    monkeypatch.setattr(slot_memory, "available", lambda mesh: 1)
    list(_run(jobs, None))
    assert made == [most, 2 * DEVICES, DEVICES]


def test_free_memory_is_the_least_of_machine_and_groups(tmp_path, monkeypatch):
    mesh = engine._local_mesh()
    meminfo, own = tmp_path / "meminfo", tmp_path / "own"
    groups = tmp_path / "groups"
    for name, file in {"_MEMINFO": meminfo, "_OWN_GROUP": own, "_GROUPS": groups}.items():
        monkeypatch.setattr(slot_memory, name, file)
    meminfo.write_text("MemTotal:  900 kB\nMemFree:  100 kB\nMemAvailable:  800 kB\n")
    assert slot_memory.available(mesh) == 800 * 1024 // DEVICES  # no groups at all
    own.write_text("0::/user/job\n")
    job = groups / "user" / "job"
    job.mkdir(parents=True)
    (job / "memory.max").write_text("max\n")
    (job / "memory.current").write_text("5\n")
    assert slot_memory.available(mesh) == 800 * 1024 // DEVICES
    (job.parent / "memory.max").write_text("600000\n")
    (job.parent / "memory.current").write_text("500000\n")
    (job.parent / "memory.stat").write_text("anon 7\ninactive_file 20000\nactive_file 9\n")
    assert slot_memory.available(mesh) == 120_000 // DEVICES


# Out of memory -----------------------------------------------------------------------------------


def _with_room_for(monkeypatch, name, slots, calls):
    """The device program raises for more slots than those, from some call on."""
    program = getattr(slot_programs, name)

    def called(first, *rest, **options):
        nonlocal calls
        if len(jax.tree.leaves(first)[0]) > slots:
            calls -= 1
            if calls < 0:
                raise jax.errors.JaxRuntimeError(OUT_OF_MEMORY)
        return program(first, *rest, **options)

    monkeypatch.setattr(slot_programs, name, called)


@pytest.mark.parametrize(
    ("program", "calls"),
    [("begin", 0), ("begin", 6), ("advance", 0), ("advance", 12), ("taken_out", 3)],
)
def test_out_of_memory_halves_the_slots_and_loses_nothing(monkeypatch, program, calls):
    jobs = jobs_of(3 * FULL)
    full, half = (_bytes(_run(jobs, slots)) for slots in (FULL, HALF))
    told = []
    with monkeypatch.context() as patch:
        _with_room_for(patch, program, HALF, calls)
        done = list(_run(jobs, FULL, fewer_slots=lambda *about: told.append(about)))
    assert [one.index for one in done] == list(range(len(jobs)))
    kept = [index for index, found in _bytes(done).items() if found != half[index]]
    assert all(_bytes(done)[index] == full[index] for index in kept)
    (slots, sentence), *others = told
    assert slots == HALF and not others
    assert f"{FULL} slots do not fit in the device's memory: going on with {HALF}" in sentence


def test_what_had_ended_before_is_not_inverted_again(monkeypatch):
    jobs, begun = jobs_of(3 * FULL), []
    full = _bytes(_run(jobs, FULL))
    first = [index for index in full if index < FULL]  # those that begin with the run
    fewest = min(full[index][1] for index in first)
    ended = [index for index in first if full[index][1] == fewest]

    def watched():
        for job in jobs:
            begun.append(job.index)
            yield job

    _with_room_for(monkeypatch, "advance", HALF, fewest + 1)
    with pytest.warns(RuntimeWarning) as told:
        done = _bytes(_run(watched(), FULL))
    assert {index: done[index] for index in ended} == {index: full[index] for index in ended}
    assert begun == list(range(len(jobs)))
    unfinished = int(str(told[0].message).split("in which ")[1].split()[0])
    assert unfinished == FULL  # of what was taken before: the first ones and those that followed


def test_one_slot_that_does_not_fit_is_refused_after_what_has_ended(monkeypatch):
    jobs = jobs_of(3 * DEVICES)
    whole = _bytes(_run(jobs, DEVICES))
    _with_room_for(monkeypatch, "advance", 0, whole[0][1] + 1)
    done = []
    with pytest.raises(InputError, match=f"{DEVICES} slots do not fit .* there cannot be fewer"):
        for one in _run(jobs, DEVICES):
            done.append(one)
    assert 0 in _bytes(done) and _bytes(done).items() < whole.items()


def test_other_errors_of_the_device_are_its_own(monkeypatch):
    def broken(*_, **__):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(slot_programs, "advance", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        list(_run(jobs_of(1), DEVICES))


def test_jobs_dealt_again_keep_their_order_and_get_the_slots_of_the_new_number():
    jobs = [Job(index, np.zeros(1)) for index in range(20)]
    queues = JobQueues(iter(jobs), 4)
    begun = [*queues.next_jobs(range(4), 100).values()]
    assert [order for order, _ in begun] == [0, 1, 2, 3]
    (finished, _), begun[1] = begun[1], queues.next_jobs([1], 100)[1]
    begun[0] = queues.next_jobs([0], 100)[0]  # takes others on the way, which wait
    finished = {0, finished}
    assert queues.taken > 5
    again = queues.dealt_again(begun, 2)
    assert again.taken == 2
    found = []
    while new := again.next_jobs(range(2), 100):
        found += [(slot, order) for slot, (order, _) in new.items()]
    assert sorted(order for _, order in found) == sorted({*range(20)} - finished)
    assert all(slot == slot_of(order, 2) for slot, order in found)
