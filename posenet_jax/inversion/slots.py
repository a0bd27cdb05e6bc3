"""The slots in which inversions run: the host's side of them.

A slot holds one job at a time (see `engine`); `job_queues.slot_of` says which. Images are
[H, W, C] in grey levels (`descent`).
"""

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posenet_jax import numerics
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import recipes, slot_programs
from posenet_jax.inversion.descent import Best, Encode, Status
from posenet_jax.inversion.job_queues import Finished, Job
from posenet_jax.inversion.recipes import Recipe
from posenet_jax.inversion.traced_functions import as_argument

Array = jax.Array


class Slots:
    """The host's side of the slots: which job is in which, and what goes in and out."""

    def __init__(
        self,
        encode: Encode,
        recipe: Recipe,
        key: Array,
        space: Preprocessing,
        slots: int,
        chunk: int,
        mesh: Mesh,
    ) -> None:
        self._split = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._encode = jax.device_put(as_argument(encode), NamedSharding(mesh, PartitionSpec()))
        self._recipe, self._key = recipe, key
        self._begin = functools.partial(slot_programs.begin, space=space, mesh=mesh)
        self._advance = functools.partial(slot_programs.advance, mesh=mesh, chunk=chunk)
        self._jobs: list[tuple[int, Job, int] | None] = [None] * slots  # (order, job, starts)
        self._steps = np.zeros((slots, recipe.group), np.int64)
        self._rows = jax.tree.map(np.array, recipes.broadcast(recipe, slots))
        self._targets: Any = None  # a pytree of arrays [S, ...]
        self._shape = space.shape
        self._of_device = slots // mesh.devices.size
        self._has_images = False  # whether a job has brought one to start from
        self._state = slot_programs.empty(recipe, space, mesh, slots)
        self._on_device: Any = None

    @property
    def free(self) -> list[int]:
        """Slots without a job."""
        return [slot for slot, job in enumerate(self._jobs) if job is None]

    def fill(self, new: dict[int, tuple[int, Job]]) -> None:
        """Begins jobs, each with its order in the iterator, in the free slots that are named."""
        self._start({slot: (order, job, 1) for slot, (order, job) in new.items()})

    def _start(self, entries: dict[int, tuple[int, Job, int]]) -> None:
        if not entries:
            return
        for slot, (order, job, starts) in entries.items():
            if self._targets is None:
                self._targets = jax.tree.map(
                    lambda x: np.zeros((len(self._jobs), *x.shape), np.float32), job.target
                )
            self._jobs[slot] = order, job, starts
            self._steps[slot] = 0
            own = job.recipe or self._recipe
            _set(self._targets, slot, job.target)
            _set(self._rows, slot, own)
            self._has_images |= job.start is not None
        # A copy: the device may read its argument later, when these rows have changed.
        rows = jax.tree.map(np.copy, (self._targets, self._rows))
        self._on_device = jax.device_put(rows, self._split)
        for slots in self._calls(list(entries)):
            numbers, images = self._starting(slots)
            with numerics.not_finite_allowed():  # the best loss so far is infinite
                self._state = self._begin(
                    self._state, self._key, numbers, self._on_device[1], images
                )

    def _calls(self, slots: list[int]) -> Iterator[list[int | None]]:
        """Yields the slots to begin by each call of `begin`, as many rows for each device.

        A slot has the same row in every call: one for all where a call begins one slot of each
        device, else the slot's own. Rows without a slot to begin are None.
        """
        of_device = self._of_device
        if slot_programs.initialised_at_once(of_device) > 1:
            starting = set(slots)
            yield [slot if slot in starting else None for slot in range(len(self._jobs))]
            return
        firsts = range(0, len(self._jobs), of_device)
        queues = [[slot for slot in slots if 0 <= slot - first < of_device] for first in firsts]
        yield from map(list, itertools.zip_longest(*queues))

    def _starting(self, slots: list[int | None]) -> tuple[Array, Array | None]:
        """Returns the numbers [B, 4] and images [B, H, W, C] that `begin` takes."""
        numbers = np.full((len(slots), 4), self._of_device, np.uint32)
        images = np.zeros((len(slots), *self._shape), np.float32) if self._has_images else None
        for row, slot in enumerate(slots):
            if slot is None:
                continue
            _, job, starts = self._jobs[slot]  # type: ignore[misc]
            numbers[row] = slot % self._of_device, job.index, job.restart, starts
            if images is not None and job.start is not None and starts == 1:
                images[row] = job.start
        return jax.device_put((numbers, images), self._split)

    def advance(self) -> tuple[dict[int, list[Finished]], int]:
        """Makes a chunk of steps: ({order: results of an ended job}, number of image·steps).

        A group ends when its last member does, and is started again as a whole.
        """
        with numerics.not_finite_allowed():  # such an image ends with a status
            self._state = self._advance(self._state, self._encode, *self._on_device)
        status, steps = (self._by_member(x) for x in (self._state.status, self._state.steps))
        running = np.array([[job is not None] for job in self._jobs])
        done = int(np.sum(steps - self._steps, where=running))
        self._steps = steps.astype(np.int64)
        stopped = [
            slot
            for slot, job in enumerate(self._jobs)
            if job is not None and not np.any(status[slot] == Status.RUNNING)
        ]
        if not stopped:
            return {}, done
        best = jax.tree.map(self._by_member, self._state.best)
        ended, restarted = {}, {}
        for slot in stopped:
            order, job, starts = self._jobs[slot]  # type: ignore[misc]
            if np.any(status[slot] == Status.NOT_FINITE) and starts == 1:
                restarted[slot] = order, job, 2
                continue
            self._jobs[slot] = None
            ended[order] = [
                _finished(job, (slot, member), best, steps, status, starts)
                for member in range(steps.shape[1])
            ]
        self._start(restarted)
        return ended, done

    def _by_member(self, rows: Array) -> np.ndarray:
        """Returns rows of the state, [S, R, ...] on the host; R is 1 where slots hold no groups."""
        array = np.asarray(rows)
        return array if self._recipe.group > 1 else array[:, None]


def _set(rows: Any, slot: int, values: Any) -> None:
    for array, value in zip(jax.tree.leaves(rows), jax.tree.leaves(values), strict=True):
        array[slot] = value


def _finished(
    job: Job, place: tuple[int, int], best: Best, steps: np.ndarray, status: np.ndarray, starts: int
) -> Finished:
    _, member = place
    return Finished(
        job.index,
        job.restart * steps.shape[1] + member,
        np.array(best.image[place]),
        float(best.loss[place]),
        float(best.relative_loss[place]),
        float(best.descriptor_error[place]),
        int(steps[place]),
        Status(int(status[place])),
        starts,
    )
