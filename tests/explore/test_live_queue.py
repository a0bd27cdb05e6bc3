"""The queue of inversions that are watched, with a batch whose steps the test lets go."""

import threading
import time

import numpy as np
import pytest

from posenet_jax import recipes
from posenet_jax.explore.live_batch import LiveJob, Seen
from posenet_jax.explore.live_queue import LiveQueue, Ticket
from posenet_jax.inversion.descent import Status

PROGRAM = "program"


class HeldBatch:
    """A batch of one slot, whose step ends when it is let go."""

    sizes = (1,)

    def __init__(self, status):
        self._status, self._job = status, None
        self.begun, self.go = threading.Event(), threading.Event()

    @property
    def free(self):
        return int(self._job is None)

    def compile(self, size):
        pass

    def add(self, job):
        self._job = job

    def remove(self, job):
        self._job = None

    def step(self, *, images):
        if self._job is None:
            return []
        self.begun.set()
        assert self.go.wait(60)
        seen = Seen(self._job, 1, self._status, 0.5, 0.5, np.zeros((2, 2, 3), np.float32))
        if seen.ended:
            self._job = None
        return [seen]


@pytest.fixture
def queue():
    opened = LiveQueue()
    yield opened
    opened.close()


def submitted(queue, batch):
    job = LiveJob(np.zeros(2, np.uint32), np.zeros(3, np.float32), recipes.CALIBRATED)
    ticket = Ticket([job], told=lambda: None)
    queue.prepare(PROGRAM, lambda: batch)
    queue.submit(PROGRAM, ticket)
    assert batch.begun.wait(60)
    return ticket


def wait_until(holds):
    late = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < late
        time.sleep(0.001)


def all_are_gone(queue):
    return queue.counts() == {"running": 0, "waiting": 0}


@pytest.mark.parametrize("status", [Status.RUNNING, Status.OUT_OF_STEPS])
def test_a_stopped_ticket_changes_no_more_by_the_step_in_flight(queue, status):
    batch = HeldBatch(status)
    ticket = submitted(queue, batch)
    queue.stop(ticket)
    batch.go.set()
    wait_until(lambda: all_are_gone(queue))
    assert ticket.ended and not (ticket.latest or ticket.images or ticket.curves)


def test_who_reads_that_a_ticket_has_ended_finds_its_picture(queue):
    batch = HeldBatch(Status.OUT_OF_STEPS)
    ticket = submitted(queue, batch)
    ended = []

    class Pictures(dict):
        def __setitem__(self, number, seen):
            ended.append(ticket.ended)
            super().__setitem__(number, seen)

    ticket.images = Pictures()
    batch.go.set()
    wait_until(lambda: ticket.ended and all_are_gone(queue))
    assert ended == [False] and ticket.images.keys() == {0} and ticket.curves == {0: [(1, 0.5)]}
