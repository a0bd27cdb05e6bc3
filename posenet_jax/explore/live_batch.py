"""Inversions that are watched while they run: slots that are filled, looked into and freed.

`engine.run` inverts a list and yields results in its order. Here jobs come and go at any time:
every step says how far each is, a job can be taken out before its end, and the number of slots
follows that of the jobs. The programs are the engine's (`slot_programs`), on one device; a job
alone in its batch has, to the byte, the result of `engine.invert` with as many slots on one device.
With others it is the same but for rounding, as with any other number of slots there.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posenet_jax import numerics
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import engine, grey_levels, recipes, slot_programs
from posenet_jax.inversion.descent import Best, Encode, Status
from posenet_jax.inversion.recipes import Recipe
from posenet_jax.inversion.traced_functions import as_argument

Array = jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class LiveJob:
    """One inversion: as `job_queues.Job`, with the key and the recipe that a run has there."""

    key: Array
    target: Any
    recipe: Recipe
    restart: int = 0
    start: np.ndarray | None = None  # [H, W, C] in network space, where the recipe wants one
    index: int = 0


@dataclasses.dataclass(frozen=True)
class Seen:
    """State of a job after a step: its best iterate so far."""

    job: LiveJob
    steps: int
    status: Status
    relative_loss: float
    descriptor_error: float
    image: np.ndarray | None  # [H, W, C] in network space; None: not fetched after this step

    @property
    def ended(self) -> bool:
        return self.status != Status.RUNNING


def sizes(slots: int) -> tuple[int, ...]:
    """Returns the numbers of slots to compile programs for, `slots` at most.

    On CPU a step takes the longer the more slots it has, so few jobs have few.
    """
    few = (1, 4) if jax.default_backend() == "cpu" else ()
    return (*(size for size in few if size < slots), slots)


class LiveBatch:
    """Slots that advance together, in programs of one encoder, layer and kind of recipe."""

    def __init__(
        self,
        encode: Encode,
        target: Any,
        recipe: Recipe,
        space: Preprocessing,
        *,
        sizes: Sequence[int],
        device: Any = None,
    ) -> None:
        """sizes: numbers of slots to choose from, rising. target: one, or its shapes."""
        self._mesh = Mesh(np.asarray([device or jax.local_devices()[0]]), ("slots",))
        self._split = NamedSharding(self._mesh, PartitionSpec("slots"))
        whole = NamedSharding(self._mesh, PartitionSpec())
        self._encode = jax.device_put(as_argument(grey_levels.encoder_of(encode, space)), whole)
        self._target, self._recipe, self._space = target, recipe, space
        self._chunk = engine.default_chunk()
        self._sizes, self._ready = tuple(sizes), set[int]()
        self._held: slot_programs.Held | None = None
        self._jobs: list[tuple[LiveJob, int] | None] = []  # with its start, from 1

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of slots to compile programs for."""
        return self._sizes

    @property
    def running(self) -> int:
        """Number of jobs in the slots."""
        return len(self._jobs) - self._jobs.count(None)

    @property
    def free(self) -> int:
        """Number of jobs that can be added."""
        return max(self._ready, default=0) - self.running

    def compile(self, size: int) -> None:
        """Has the programs for a number of slots compiled, if need be in another thread."""
        like = jax.tree.map(lambda leaf: np.zeros(np.shape(leaf), np.float32), self._target)
        start = np.zeros(self._space.shape, np.float32) if self._recipe.start == "image" else None
        key = numerics.seed_key(0)
        held = self._begun(
            self._empty(size), 0, LiveJob(key, like, self._recipe, start=start), 1, size
        )
        jax.block_until_ready(self._advanced(held))
        self._ready.add(size)

    def add(self, job: LiveJob) -> None:
        """Begins a job; there must be room for it (`free`)."""
        self._resize(self.running + 1)
        self._start(self._jobs.index(None), job, 1)

    def remove(self, job: LiveJob) -> None:
        """Takes a job out before its end; nothing where it is not in a slot."""
        self._jobs = [None if entry and entry[0] is job else entry for entry in self._jobs]

    def step(self, *, images: bool) -> list[Seen]:
        """Makes steps until one job ends, on CPU one step; returns what became of each job.

        images: whether the pictures are fetched of those too that have not ended.
        """
        if not self.running:
            return []
        self._resize(self.running)
        assert self._held is not None  # where there are jobs
        state = self._advanced(self._held)
        self._held = self._held.replace(state=state)  # type: ignore[attr-defined]
        steps, status = np.asarray(state.steps), np.asarray(state.status)
        best = jax.tree.map(np.asarray, state.best.replace(image=None))
        fetched = np.asarray(state.best.image) if images or np.any(self._ended(status)) else None
        found = []
        for slot, entry in enumerate(self._jobs):
            if entry is None:
                continue
            job, starts = entry
            reason = Status(int(status[slot]))
            if reason == Status.NOT_FINITE and starts == 1:
                self._start(slot, job, 2)
                continue
            picture = fetched is not None and (images or reason != Status.RUNNING)
            image = self._in_network_space(fetched[slot]) if picture else None  # type: ignore[index]
            found.append(_seen(job, int(steps[slot]), reason, best, slot, image))
            if reason != Status.RUNNING:
                self._jobs[slot] = None
        return found

    def _ended(self, status: np.ndarray) -> np.ndarray:
        occupied = np.array([entry is not None for entry in self._jobs])
        return occupied & (status != Status.RUNNING)

    def _in_network_space(self, image: np.ndarray) -> np.ndarray:
        return np.array(self._space.from_levels(jnp.asarray(image)))

    def _empty(self, size: int) -> slot_programs.Held:
        return slot_programs.empty(
            self._recipe, self._target, space=self._space, mesh=self._mesh, slots=size
        )

    def _resize(self, count: int) -> None:
        """Moves all jobs to the least number of slots that has room for `count`."""
        size = min(size for size in self._ready if size >= count)
        if size == len(self._jobs):
            return
        moved = [slot for slot, entry in enumerate(self._jobs) if entry is not None]
        fresh = self._empty(size)
        if self._held is not None and moved:
            old = self._held
            rows = jax.tree.map(lambda new, own: _with_rows(new, own, moved), fresh, old)
            fresh = jax.device_put(rows, self._split)
        self._held = fresh
        self._jobs = [self._jobs[slot] for slot in moved] + [None] * (size - len(moved))

    def _start(self, slot: int, job: LiveJob, starts: int) -> None:
        assert self._held is not None  # since `_resize`
        self._jobs[slot] = job, starts
        self._held = self._begun(self._held, slot, job, starts, len(self._jobs))

    def _begun(
        self, held: slot_programs.Held, slot: int, job: LiveJob, starts: int, size: int
    ) -> slot_programs.Held:
        """Returns the slots with a job begun in one, in the row that the engine gives it."""
        count = slot_programs.initialised_at_once(size)
        row = slot if count > 1 else 0
        numbers = np.full((count, 4), size, np.uint32)  # of the other rows no slot
        numbers[row] = slot, job.index, job.restart, starts
        targets = jax.tree.map(lambda leaf: _row(leaf, count), job.target)
        own = recipes.broadcast(job.recipe, count)
        images = None
        if job.start is not None:
            start = np.asarray(grey_levels.start_of(job.start, self._space), np.float32)
            images = _row(start if starts == 1 else np.zeros_like(start), count)
        placed = jax.device_put((numbers, targets, own, images), self._split)
        with numerics.not_finite_allowed():  # the best loss so far is infinite
            return slot_programs.begin(held, job.key, *placed, space=self._space, mesh=self._mesh)

    def _advanced(self, held: slot_programs.Held) -> Any:
        with numerics.not_finite_allowed():  # such an image ends with a status
            state, _ = slot_programs.advance(
                held.state,
                self._encode,
                held.target,
                held.recipe,
                np.int32(self._chunk),
                mesh=self._mesh,
                looped=slot_programs.looped(self._chunk),
            )
        return state


def _row(values: Any, count: int) -> np.ndarray:
    """Returns [count, …] of one job's values, the same in every row."""
    own = np.asarray(values, np.float32)
    return np.repeat(own[None], count, axis=0)


def _with_rows(new: Array, old: Array, rows: list[int]) -> np.ndarray:
    """Returns the slots [S, …] of which the first are rows of others."""
    values = np.array(new)
    values[: len(rows)] = np.asarray(old)[rows]
    return values


def _seen(
    job: LiveJob, steps: int, status: Status, best: Best, slot: int, image: np.ndarray | None
) -> Seen:
    losses = float(best.relative_loss[slot]), float(best.descriptor_error[slot])
    return Seen(job, steps, status, *losses, image)
