"""Inversions of the images of shards, through one run of the engine in order.

Slots never wait for a shard to end: images of the next are inverted beside the last of one.
"""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from posenet_jax import numerics
from posenet_jax.bulk.inversion_batches import Entry, InversionBatch
from posenet_jax.decoders.decoding import Decoder, decode
from posenet_jax.encoders.encoder import Tap
from posenet_jax.inversion import engine
from posenet_jax.inversion.job_queues import Finished, Job
from posenet_jax.inversion.recipes import Recipe
from posenet_jax.shards.plan import Failure


def tell(failures: Sequence[Failure], report: Callable[[str], None] | None) -> None:
    """Reports the reasons of images left out."""
    if report:
        for failure in failures:
            report(failure["reason"])


class InvertedShard(NamedTuple):
    """A shard of which all images are inverted."""

    number: int
    entries: list[Entry]
    inversions: list[list[Finished]]  # of each entry, one a restart
    left_out: list[Failure]


@dataclasses.dataclass(frozen=True)
class Inversions:
    """Inversions of a run, with the settings that they have in common."""

    tap: Tap
    recipe: Recipe  # arrays [images], on the host
    decoder: Decoder | None
    restarts: int
    seed: int
    slots: int
    mesh: Mesh
    fewer_slots: Callable[[int, str], None]

    def own_recipe(self, position: int) -> Recipe:
        """Returns an image's own recipe."""
        return jax.tree.map(lambda column: column[position], self.recipe)

    def starts(self, batch: InversionBatch) -> np.ndarray | list[None]:
        """Returns the start image of each entry, or None."""
        if not self.decoder or not batch.entries or self.recipe.start == "generator":
            return [None] * len(batch.entries)
        return decode(self.decoder, np.stack([entry.target for entry in batch.entries]))

    def of_shards(
        self,
        batches: Iterator[InversionBatch],
        progress: Callable[[int], None] | None,
        report: Callable[[str], None] | None,
    ) -> Iterator[InvertedShard]:
        """Yields the shards in order, each when the last of its images is done."""
        restarts = self.restarts
        jobs_of_each = restarts // self.recipe.group
        awaited: collections.deque[Entry] = collections.deque()
        # Shards whose last image was read: (images submitted up to there, number, images left out).
        ends: collections.deque[tuple[int, int, list[Failure]]] = collections.deque()

        def jobs() -> Iterator[Job]:
            submitted = 0
            left_out: list[Failure] = []
            for batch in batches:
                submitted += len(batch.entries)
                left_out = left_out + batch.failures
                tell(batch.failures, report)
                for entry, start in zip(batch.entries, self.starts(batch), strict=True):
                    awaited.append(entry)
                    own = self.own_recipe(entry.position)
                    for restart in range(jobs_of_each):
                        # Counted over all images, not over those that this run inverts.
                        number = entry.position * jobs_of_each + restart
                        yield Job(entry.position, entry.target, restart, own, start, number)
                if batch.last:
                    ends.append((submitted, batch.shard, left_out))
                    left_out = []

        def ended() -> Iterator[InvertedShard]:
            while ends and ends[0][0] == finished:
                _, number, left_out = ends.popleft()
                yield InvertedShard(number, entries.copy(), inversions.copy(), left_out)
                entries.clear()
                inversions.clear()

        steps = int(self.recipe.steps[0])  # type: ignore[index]
        finished = 0
        entries: list[Entry] = []
        inversions: list[list[Finished]] = []
        done = engine.run(
            self.tap,
            jobs(),
            key=numerics.seed_key(self.seed),
            recipe=self.own_recipe(0),
            slots=self.slots,
            mesh=self.mesh,
            progress=progress,
            fewer_slots=self.fewer_slots,
        )
        while one := list(itertools.islice(done, restarts)):
            yield from ended()  # a shard may have ended since, or have no readable image
            finished += 1
            entries.append(awaited.popleft())
            inversions.append(one)
            if progress:  # of the steps that it did not need, too
                progress(sum(max(0, steps - result.steps) for result in one))
            yield from ended()
        yield from ended()
