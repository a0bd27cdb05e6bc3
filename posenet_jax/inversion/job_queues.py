"""Assignment of jobs to slots, and the queues in which jobs wait for theirs.

A compiled step may round the rows of its batch differently: a kernel that takes four rows at a time
does the fifth by other instructions. The same bytes again, after a kill, in another process or with
other shards already done, therefore need every job in the same slot. So a job's slot follows from
its number alone, and each slot has a queue of its own, however long the others' are.
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from posenet_jax.inversion.descent import Status
from posenet_jax.inversion.recipes import Recipe


@dataclasses.dataclass(frozen=True)
class Job:
    """One inversion.

    index, restart: decide, with the run's key, the noise it starts from. target: the descriptor, an
    array [...] or a pytree of them. recipe: hyper-parameters of its own (numbers, no arrays); the
    run's where None.
    start: [H, W, C], the image that the noise is added to; the mean colour where None.
    number: decides the slot (`slot_of`); its order in the iterator where None. A run over some of
    the jobs of a larger one gives each the number that it has there.
    """

    index: int
    target: Any
    restart: int = 0
    recipe: Recipe | None = None
    start: np.ndarray | None = None
    number: int | None = None


@dataclasses.dataclass(frozen=True)
class Finished:
    """Result of a job: its best iterate."""

    index: int
    restart: int
    image: np.ndarray  # [H, W, C] float32, network space
    loss: float  # the objective
    relative_loss: float  # eq. 3
    descriptor_error: float  # ‖φ - φ0‖ / ‖φ0‖
    steps: int  # of the last start
    status: Status
    starts: int  # 2 where the first was not finite


def slot_of(number: int, slots: int) -> int:
    """Returns the slot of job `number`.

    Every round of `slots` jobs fills every slot once. Rounds are turned by one slot each, so that
    what recurs with the slots' period (restarts, the same few images in every trial of a search)
    does not pile up in some of them.
    """
    return (number + number // slots) % slots


class JobQueues:
    """Jobs of an iterator, each waiting for its slot; taken as they are asked for."""

    def __init__(self, jobs: Iterable[Job], slots: int) -> None:
        self._jobs: Iterator[tuple[int, Job]] = enumerate(jobs)
        self._queues = [collections.deque[tuple[int, Job]]() for _ in range(slots)]
        self.taken = 0

    def next_jobs(self, free: Iterable[int], most: int) -> dict[int, tuple[int, Job]]:
        """Returns {slot: (order in the iterator, job)} for the free slots that have a job.

        Takes at most `most` jobs from the iterator, and none once every free slot has its own.
        """
        free = list(free)
        without = {slot for slot in free if not self._queues[slot]}
        while without and most > 0:
            most -= 1
            order, job = next(self._jobs, (None, None))
            if order is None or job is None:
                break
            self.taken += 1
            slot = slot_of(order if job.number is None else job.number, len(self._queues))
            self._queues[slot].append((order, job))
            without.discard(slot)
        return {slot: self._queues[slot].popleft() for slot in free if self._queues[slot]}

    def dealt_again(self, begun: Iterable[tuple[int, Job]], slots: int) -> "JobQueues":
        """Returns the queues of another number of slots, for all jobs that are not finished.

        begun: jobs taken from these queues that begin again, each with its order in the iterator.
        """
        waiting = itertools.chain(begun, *self._queues)
        again = sorted(waiting, key=lambda entry: entry[0])
        queues = JobQueues((), slots)
        queues._jobs = itertools.chain(again, self._jobs)
        queues.taken = self.taken - len(again)
        return queues
