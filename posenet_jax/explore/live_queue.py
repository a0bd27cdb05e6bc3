"""The queue in which people's inversions wait for slots, and the thread that steps them.

A ticket is what one person asked for: a few jobs of one program. All people of one program share
its batch; several programs take turns, a step each.
"""

import collections
import concurrent.futures
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Hashable, Sequence

from posenet_jax.errors import InputError, one_line
from posenet_jax.explore.live_batch import LiveBatch, LiveJob, Seen

_LOG = logging.getLogger(__name__)
# Seconds between two pictures of a job: more would be encoded and sent than are looked at.
_BETWEEN_IMAGES = 0.15


@dataclasses.dataclass(eq=False)
class Ticket:
    """Jobs of one person, and what is told of them, in the queue's threads.

    told: called with nothing, whenever something below has changed.
    """

    jobs: Sequence[LiveJob]
    told: Callable[[], None]
    latest: dict[int, Seen] = dataclasses.field(default_factory=dict)  # by number of the job
    images: dict[int, Seen] = dataclasses.field(default_factory=dict)  # the latest with a picture
    curves: dict[int, list[tuple[int, float]]] = dataclasses.field(default_factory=dict)
    compiling: bool = False
    ahead: int = 0  # jobs of others that wait for a slot before this ticket's last one
    stopped: bool = False
    failure: str = ""

    @property
    def ended(self) -> bool:
        """Whether no more is to come."""
        done = [number in self.latest and self.latest[number].ended for number in self._numbers]
        return self.stopped or bool(self.failure) or all(done)

    @property
    def _numbers(self) -> range:
        return range(len(self.jobs))


class LiveQueue:
    """Batches by program, and the tickets that wait for each."""

    def __init__(self, on_ready: Callable[[Hashable], None] = lambda program: None) -> None:
        """on_ready: called, in another thread, when inversions of a program can begin at once."""
        self._on_ready = on_ready
        self._changed = threading.Condition()
        self._batches: dict[Hashable, LiveBatch] = {}
        self._waiting: dict[Hashable, collections.deque[tuple[Ticket, int]]] = {}
        self._running: dict[Hashable, dict[LiveJob, tuple[Ticket, int]]] = {}
        self._known: dict[Hashable, concurrent.futures.Future[None]] = {}
        self._compiler = concurrent.futures.ThreadPoolExecutor(1, "compile")
        self._closed = False
        self._imaged: dict[Hashable, float] = {}
        self._thread = threading.Thread(target=self._run, name="invert", daemon=True)
        self._thread.start()

    def prepare(self, program: Hashable, make: Callable[[], LiveBatch]) -> None:
        """Has a program compiled in the background, its fewest slots first; once."""
        with self._changed:
            if program not in self._known:
                self._waiting[program] = collections.deque()
                self._running[program] = {}
                self._known[program] = self._compiler.submit(self._compile, program, make)

    @property
    def ready(self) -> list[Hashable]:
        """Programs whose inversions can begin at once."""
        return list(self._batches)

    def submit(self, program: Hashable, ticket: Ticket) -> None:
        """Puts a ticket's jobs into the queue of a program that was prepared."""
        with self._changed:
            ticket.compiling = program not in self._batches
            if program in self._known:
                self._waiting[program] += [(ticket, number) for number in range(len(ticket.jobs))]
            else:
                ticket.failure = "the program could not be compiled: the terminal says why"
            self._changed.notify()
        ticket.told()

    def stop(self, ticket: Ticket) -> None:
        """Ends a ticket's jobs; their slots are free after the step that is being made.

        Nothing of the ticket changes any more: that step's picture is not taken.
        """
        with self._changed:
            ticket.stopped = True
            self._changed.notify()
        ticket.told()

    def counts(self) -> dict[str, int]:
        """Returns the numbers of jobs that run and that wait."""
        with self._changed:
            running = sum(map(len, self._running.values()))
            waiting = sum(not ticket.ended for q in self._waiting.values() for ticket, _ in q)
        return {"running": running, "waiting": waiting}

    def close(self) -> None:
        """Ends the threads; what runs is given up."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._compiler.shutdown(wait=False, cancel_futures=True)
        self._thread.join()

    def _compile(self, program: Hashable, make: Callable[[], LiveBatch]) -> None:
        try:
            batch = make()
            for size in batch.sizes:
                if self._closed:
                    return
                batch.compile(size)
                with self._changed:
                    self._batches[program] = batch
                    told = [ticket for ticket, _ in self._waiting[program]]
                    for ticket in told:
                        ticket.compiling = False
                    self._changed.notify()
                for ticket in told:
                    ticket.told()
                self._on_ready(program)
        except Exception as error:
            if program in self._batches:  # of more slots: those that there are go on
                _LOG.exception("more slots for %s", program)
            else:
                self._give_up(program, error)

    def _give_up(self, program: Hashable, error: Exception) -> None:
        """Tells all who wait for a program that cannot be run; the next one to ask tries again."""
        if not isinstance(error, InputError):
            _LOG.exception("inversions of %s", program)
        with self._changed:
            self._batches.pop(program, None)
            self._known.pop(program, None)
            lost = [*self._waiting.pop(program, ()), *self._running.pop(program, {}).values()]
        for ticket, _ in lost:
            ticket.failure = one_line(error)
            ticket.told()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._has_work())
                if self._closed:
                    return
                batches = dict(self._batches)
            for program, batch in batches.items():
                try:
                    self._round(program, batch)
                except Exception as error:  # of this program: the others go on
                    self._give_up(program, error)

    def _has_work(self) -> bool:
        return any(self._running.get(p) or self._waiting.get(p) for p in self._batches)

    def _round(self, program: Hashable, batch: LiveBatch) -> None:
        """Frees the slots of stopped jobs, fills free slots, and makes a step."""
        self._free_stopped(program, batch)
        self._fill(program, batch)
        now = time.monotonic()
        images = now - self._imaged.get(program, 0.0) >= _BETWEEN_IMAGES
        if images:
            self._imaged[program] = now
        told = set()
        for seen in batch.step(images=images):
            with self._changed:
                ticket, number = self._running[program][seen.job]
                if seen.ended:
                    del self._running[program][seen.job]
                if ticket.stopped:
                    continue
                ticket.curves.setdefault(number, []).append((seen.steps, seen.relative_loss))
                if seen.image is not None:
                    ticket.images[number] = seen
                    told.add(ticket)
                ticket.latest[number] = seen  # last: whoever reads that it ended finds the picture
        for ticket in told:
            ticket.told()

    def _free_stopped(self, program: Hashable, batch: LiveBatch) -> None:
        for job, (ticket, _) in list(self._running[program].items()):
            if ticket.stopped:
                batch.remove(job)
                with self._changed:
                    del self._running[program][job]

    def _fill(self, program: Hashable, batch: LiveBatch) -> None:
        with self._changed:
            waiting = collections.deque(e for e in self._waiting[program] if not e[0].ended)
            self._waiting[program] = waiting
            begun = [waiting.popleft() for _ in range(min(batch.free, len(waiting)))]
            for ticket, number in begun:
                self._running[program][ticket.jobs[number]] = ticket, number
            moved = {ticket: place for place, (ticket, _) in enumerate(waiting)}
        for ticket, number in begun:
            batch.add(ticket.jobs[number])
            moved.setdefault(ticket, 0)
        for ticket, place in moved.items():
            if ticket.ahead != place:
                ticket.ahead = place
                ticket.told()
