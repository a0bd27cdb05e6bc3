"""The slots in which inversions run: the host's side of them.

A slot holds one job at a time (see `engine`); `job_queues.slot_of` says which. Images are
[H, W, C] in grey levels (`descent`).
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posenet_jax import numerics
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import recipes, slot_programs
from posenet_jax.inversion.descent import Best, Status
from posenet_jax.inversion.job_queues import Finished, Job
from posenet_jax.inversion.recipes import Recipe

Array = jax.Array


@dataclasses.dataclass
class Tally:
    """Counts of what a run's slots did, to be read when it has ended.

    A step that a device waits for another one's is a step of its slots without a use.
    """

    images: int = 0  # results
    images_to_host: int = 0
    bytes_to_host: int = 0  # of everything: images, their losses, statuses
    programs: int = 0  # calls of compiled programs
    steps: int = 0  # calls of the encoder with all slots
    image_steps: int = 0  # S x steps
    useful_image_steps: int = 0  # of images that had not ended

    @property
    def wasted(self) -> float:
        """Share of the image·steps that advanced no image."""
        return 1.0 - self.useful_image_steps / max(1, self.image_steps)


@dataclasses.dataclass(frozen=True)
class _Ended:
    """A job that has ended, and its rows, which may still be on the device."""

    order: int
    job: Job
    starts: int
    steps: np.ndarray  # [R]
    status: np.ndarray  # [R]
    best: Best  # leaves [1, ...], of one device


class Slots:
    """The host's side of the slots: which job is in which, and what goes in and out.

    A round is `fill`, `advance`, `ended`, `look`: while the devices make the steps that `advance`
    has begun, the host fetches the images that the round before found to have ended.
    """

    def __init__(
        self,
        encode: Any,
        recipe: Recipe,
        key: Array,
        space: Preprocessing,
        slots: int,
        *,
        chunk: int,
        mesh: Mesh,
        tally: Tally,
    ) -> None:
        """encode: on the devices. chunk: steps at most between two looks."""
        self._split = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._encode, self._recipe, self._key, self._tally = encode, recipe, key, tally
        self._begin = functools.partial(slot_programs.begin, space=space, mesh=mesh)
        looped = slot_programs.looped(chunk)
        self._advance = functools.partial(slot_programs.advance, mesh=mesh, looped=looped)
        self._take_out = functools.partial(slot_programs.taken_out, mesh=mesh)
        self._empty = functools.partial(
            slot_programs.empty, recipe, space=space, mesh=mesh, slots=slots
        )
        self._most = np.int32(chunk)
        self._jobs: list[tuple[int, Job, int] | None] = [None] * slots  # (order, job, starts)
        self._steps = np.zeros((slots, recipe.group), np.int64)
        self._shape = space.shape
        self._of_device = slots // mesh.devices.size
        self._has_images = False  # whether a job has brought one to start from
        self._held: slot_programs.Held | None = None  # once there is a job
        self._made: Array | None = None  # steps of each device, which no look has counted
        self._ended: list[_Ended] = []

    @property
    def free(self) -> list[int]:
        """Slots without a job."""
        return [slot for slot, job in enumerate(self._jobs) if job is None]

    @property
    def unfinished(self) -> list[tuple[int, Job]]:
        """Jobs whose results have not been fetched, each with its order in the iterator."""
        running = [job[:2] for job in self._jobs if job is not None]
        return running + [(one.order, one.job) for one in self._ended]

    def fill(self, new: dict[int, tuple[int, Job]]) -> None:
        """Begins jobs, each with its order in the iterator, in the free slots that are named."""
        self._start({slot: (order, job, 1) for slot, (order, job) in new.items()})

    def _start(self, entries: dict[int, tuple[int, Job, int]]) -> None:
        for slot, entry in entries.items():
            self._jobs[slot] = entry
            self._steps[slot] = 0
            self._has_images |= entry[1].start is not None
        for slots in self._calls(list(entries)) if entries else ():
            numbers, *rows = self._starting(slots)
            if self._held is None:
                target = next(iter(entries.values()))[1].target
                self._held = self._empty(target)
            self._tally.programs += 1
            with numerics.not_finite_allowed():  # the best loss so far is infinite
                self._held = self._begin(self._held, self._key, numbers, *rows)

    def _calls(self, slots: list[int]) -> Iterable[list[int | None]]:
        """Returns the slots to begin by each call of `begin`, as many rows for each device.

        A slot has the same row in every call: one for all where a call begins one slot of each
        device, else the slot's own. Rows without a slot to begin are None.
        """
        if slot_programs.initialised_at_once(self._of_device) > 1:
            starting = set(slots)
            return [[slot if slot in starting else None for slot in range(len(self._jobs))]]
        return self._one_of_each_device(slots)

    def _one_of_each_device(self, slots: list[int]) -> Iterator[list[int | None]]:
        """Yields slots, [D]: in each list at most one of each device, else None."""
        firsts = range(0, len(self._jobs), self._of_device)
        queues = [[slot for slot in slots if 0 <= slot - at < self._of_device] for at in firsts]
        yield from map(list, itertools.zip_longest(*queues))

    def _starting(self, slots: list[int | None]) -> tuple[Array, Any, Any, Array | None]:
        """Returns the numbers [B, 4], targets, recipes and images that `begin` takes."""
        jobs = [None if slot is None else self._jobs[slot] for slot in slots]
        some = next(job for _, job, _ in filter(None, jobs))
        count, numbers = len(slots), np.full((len(slots), 4), self._of_device, np.uint32)
        targets = jax.tree.map(lambda x: np.zeros((count, *x.shape), np.float32), some.target)
        own = jax.tree.map(np.array, recipes.broadcast(self._recipe, count))
        images = np.zeros((count, *self._shape), np.float32) if self._has_images else None
        for row, (slot, entry) in enumerate(zip(slots, jobs, strict=True)):
            if slot is None or entry is None:
                continue
            _, job, starts = entry
            numbers[row] = slot % self._of_device, job.index, job.restart, starts
            _set(targets, row, job.target)
            _set(own, row, job.recipe or self._recipe)
            if images is not None and job.start is not None and starts == 1:
                images[row] = job.start
        return jax.device_put((numbers, targets, own, images), self._split)

    def advance(self) -> None:
        """Begins steps of all slots on the devices, until one ends; does not wait for them."""
        if self._held is None or len(self.free) == len(self._jobs):
            return
        held = self._held
        self._tally.programs += 1
        with numerics.not_finite_allowed():  # such an image ends with a status
            state, self._made = self._advance(
                held.state, self._encode, held.target, held.recipe, self._most
            )
        self._held = dataclasses.replace(held, state=state)

    def look(self) -> int:
        """Waits for the steps begun, and returns the number of image·steps.

        What has ended is set aside, for `ended` to fetch, and its slots are free. A group ends when
        its last member does, and is started again as a whole.
        """
        if self._held is None or self._made is None:
            return 0
        state = self._held.state
        status, steps, made = self._to_host((state.status, state.steps, self._made))
        self._made = None
        status, steps = (x.reshape(len(self._jobs), -1) for x in (status, steps))
        running = np.array([[job is not None] for job in self._jobs])
        done = int(np.sum(steps - self._steps, where=running))
        self._count(int(made.max()), done)
        self._steps = steps.astype(np.int64)
        restarted, stopped = {}, []
        for slot, entry in enumerate(self._jobs):
            if entry is None or np.any(status[slot] == Status.RUNNING):
                continue
            order, job, starts = entry
            if np.any(status[slot] == Status.NOT_FINITE) and starts == 1:
                restarted[slot] = order, job, 2
            else:
                stopped.append(slot)
        self._set_aside(stopped, steps, status)
        self._start(restarted)
        return done

    def _count(self, steps: int, useful: int) -> None:
        """Counts steps of the slowest device, for which the others wait."""
        self._tally.steps += steps
        self._tally.image_steps += steps * self._steps.size
        self._tally.useful_image_steps += useful

    def _set_aside(self, slots: list[int], steps: np.ndarray, status: np.ndarray) -> None:
        """Takes images that have ended out of their slots, on the devices."""
        for call in self._one_of_each_device(slots):
            own = np.array([(slot or 0) % self._of_device for slot in call], np.int32)
            self._tally.programs += 1
            with numerics.not_finite_allowed():
                best = self._take_out(
                    self._held.state.best,  # type: ignore[union-attr]
                    jax.device_put(own, self._split),
                )
            for device, slot in enumerate(call):
                if slot is None:
                    continue
                order, job, starts = self._jobs[slot]  # type: ignore[misc]
                row = jax.tree.map(functools.partial(_of_device, device=device), best)
                self._ended.append(_Ended(order, job, starts, steps[slot], status[slot], row))
                self._jobs[slot] = None

    def ended(self) -> dict[int, list[Finished]]:
        """Returns {order: results of a job that has ended}, each once; waits for no steps."""
        results = {}
        for one in self._ended:
            best = self._to_host(one.best)
            members = len(one.steps)
            self._tally.images += members
            self._tally.images_to_host += math.prod(best.image.shape[:-3])
            if self._recipe.group > 1:  # leaves are [1, R, ...] then
                best = jax.tree.map(lambda leaf: leaf[0], best)
            results[one.order] = [_finished(one, best, member) for member in range(members)]
        self._ended = []
        return results

    def _to_host(self, arrays: Any) -> Any:
        """Copies a pytree of the devices' arrays; nothing else does."""
        copies = jax.tree.map(np.array, arrays)
        self._tally.bytes_to_host += sum(copy.nbytes for copy in jax.tree.leaves(copies))
        return copies


def _of_device(array: Array, device: int) -> Array:
    """Returns a device's part of an array [D, ...], [1, ...]; the others' are not touched."""
    for part in array.addressable_shards:
        if (part.index[0].start or 0) == device:
            part.data.copy_to_host_async()
            return part.data
    raise IndexError(device)


def _set(rows: Any, slot: int, values: Any) -> None:
    for array, value in zip(jax.tree.leaves(rows), jax.tree.leaves(values), strict=True):
        array[slot] = value


def _finished(ended: _Ended, best: Best, member: int) -> Finished:
    """best: leaves [R, ...]."""
    return Finished(
        ended.job.index,
        ended.job.restart * len(ended.steps) + member,
        np.array(best.image[member]),
        float(best.loss[member]),
        float(best.relative_loss[member]),
        float(best.descriptor_error[member]),
        int(ended.steps[member]),
        Status(int(ended.status[member])),
        ended.starts,
    )
