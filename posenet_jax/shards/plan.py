"""Division of a run over many images into shards (files) and batches (inputs of a program)."""

from typing import NamedTuple

from posenet_jax.errors import InputError

Failure = dict[str, str]
"""Record of an image left out: its `name` and, a sentence, the `reason`."""


class ShardPlan(NamedTuple):
    """Grouping of images: shards are dealt out to processes, batches are of one shape."""

    images: int
    batch_size: int
    shard_size: int

    def check(self, devices: int) -> "ShardPlan":
        """The plan itself. Raises InputError where batches do not divide over so many devices, or
        shards into batches.
        """
        if self.batch_size % devices:
            sizes = f"{self.batch_size} for {devices} devices"
            raise InputError(f"batch_size must be a multiple of the devices' number; it is {sizes}")
        if self.shard_size % self.batch_size:
            sizes = f"{self.shard_size} for {self.batch_size}"
            raise InputError(f"shard_size must be a multiple of batch_size; it is {sizes}")
        return self

    @property
    def shards(self) -> int:
        return -(-self.images // self.shard_size)

    def positions(self, shard: int) -> range:
        """The positions of a shard's images."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, self.images))

    def batches(self, shard: int) -> list[range]:
        """The positions of a shard's batches; only the last of all may be short."""
        own = self.positions(shard)
        starts = range(own.start, own.stop, self.batch_size)
        return [range(start, min(start + self.batch_size, own.stop)) for start in starts]
