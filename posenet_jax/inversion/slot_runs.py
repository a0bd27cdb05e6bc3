"""Jobs through slots, round by round; with half the slots where a device is out of memory."""

import functools
import warnings
from collections.abc import Callable, Iterable, Iterator

import jax

from posenet_jax.errors import InputError
from posenet_jax.inversion import slot_memory
from posenet_jax.inversion.job_queues import Finished, Job, JobQueues
from posenet_jax.inversion.slots import Slots

Ended = dict[int, list[Finished]]
"""Results of jobs, by their order in the iterator."""


class SlotRun:
    """A run's slots, and the jobs that wait for them."""

    def __init__(
        self,
        slots_of: Callable[[int], Slots],
        jobs: Iterable[Job],
        groups: int,
        *,
        devices: int,
        members: int,
        fewer_slots: Callable[[int, str], None] | None,
    ) -> None:
        """slots_of: makes slots for so many groups, of `members` each. See `engine.run`."""
        self._slots_of, self._groups = slots_of, groups
        self._devices, self._members = devices, members
        self._tell = fewer_slots or _warn
        self._queues, self._slots = JobQueues(jobs, groups), slots_of(groups)
        self._refusal: InputError | None = None

    def rounds(
        self, capacity: Callable[[int, int], int], progress: Callable[[int], None] | None
    ) -> Iterator[Ended]:
        """Yields what has ended, while the devices make the next steps, until no job is left.

        capacity: how many jobs may be taken now, of the numbers of groups and of jobs taken so far.
        Raises InputError where one slot a device is too many for its memory.
        """
        while True:
            most = capacity(self._groups, self._queues.taken)
            try:
                new = self._queues.next_jobs(self._slots.free, most)
            except Exception:  # of the caller's iterator: what had ended before is not lost
                yield self._slots.ended()
                raise
            if not new and not self._slots.unfinished:
                break
            ended, _ = self._guarded(functools.partial(self._begun, new))
            yield ended
            ended, steps = self._guarded(self._looked)
            if progress and steps:
                progress(steps)
            yield ended
        if self._refusal:
            raise self._refusal

    def _begun(self, new: dict[int, tuple[int, Job]]) -> tuple[Ended, int]:
        """Begins jobs and the next steps; returns what had ended before, and no image·steps."""
        self._slots.fill(new)
        self._slots.advance()
        return self._slots.ended(), 0

    def _looked(self) -> tuple[Ended, int]:
        return {}, self._slots.look()

    def _guarded(self, work: Callable[[], tuple[Ended, int]]) -> tuple[Ended, int]:
        """Returns what the work does, or, where memory does not suffice, what had ended before."""
        try:
            return work()
        except jax.errors.JaxRuntimeError as error:
            if not slot_memory.is_exhausted(error):
                raise
        # Here, where the error is gone and with it what its traceback held of the device's memory.
        return self._with_half_the_slots(), 0

    def _with_half_the_slots(self) -> Ended:
        """Deals the unfinished jobs to half the slots; each begins again from its own key."""
        try:
            ended = self._slots.ended()
        except jax.errors.JaxRuntimeError:
            ended = {}  # they are unfinished, then
        again, before = self._slots.unfinished, self._groups
        self._groups = self._devices * (before // self._devices // 2)
        if not self._groups:
            self._groups, again, self._queues = before, [], JobQueues((), before)
            self._refusal = InputError(
                f"{before * self._members} slots do not fit in the device's memory, and there"
                " cannot be fewer: take smaller images, a smaller network or smaller groups"
            )
        self._queues = self._queues.dealt_again(again, self._groups)
        self._slots = self._slots_of(self._groups)
        if not self._refusal:
            slots = self._groups * self._members
            self._tell(
                slots,
                f"{before * self._members} slots do not fit in the device's memory: going on with"
                f" {slots}, in which {len(again)} unfinished jobs begin again",
            )
        return ended


def _warn(_: int, sentence: str) -> None:
    warnings.warn(sentence, RuntimeWarning, stacklevel=2)
