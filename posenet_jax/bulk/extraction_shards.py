"""Files of an extraction: its shards of descriptors, their records, and the manifest.

identity: the folder's description of itself (`ShardFolder.agreed`).
"""

import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from posenet_jax.data.traces import TracedSource
from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.io.run_files import schema_fault
from posenet_jax.shards import descriptor_shards
from posenet_jax.shards.descriptor_shards import Shard, shard_file
from posenet_jax.shards.folder import ShardFolder
from posenet_jax.shards.plan import ShardPlan


def file_name(identity: dict[str, Any], plan: ShardPlan, shard: int) -> str:
    """Returns the name of a shard's file."""
    return shard_file(shard, plan.shards, identity["format"])


def pending(
    folder: ShardFolder, identity: dict[str, Any], plan: ShardPlan, shards: Iterable[int]
) -> tuple[list[int], dict[int, dict[str, Any]]]:
    """Returns `ShardFolder.pending` of these shards; one with an impossible record is not done."""
    space = Preprocessing.from_json(identity["preprocessing"])
    pixels = space.height * space.width

    def is_whole(shard: int, record: dict[str, Any]) -> bool:
        count = record["images"]
        sums = range(255 * count * pixels + 1)
        facts = {"pixels": (count * pixels,), "channel_sums": [sums]}
        complete = count + len(record["left_out"]) == len(plan.positions(shard))
        if schema_fault(record, facts) or len(record["channel_sums"]) != space.channels:
            return False
        return complete

    return folder.pending({shard: file_name(identity, plan, shard) for shard in shards}, is_whole)


def write(
    folder: ShardFolder,
    identity: dict[str, Any],
    plan: ShardPlan,
    source: TracedSource,
    number: int,
    shard: Shard,
    facts: dict[str, Any],
) -> None:
    """Writes a shard, and then its record with the facts.

    Raises InputError for descriptors that are not finite in the type that they are written in.
    """
    file, dtype = file_name(identity, plan, number), shard.descriptors.dtype
    if not np.isfinite(shard.descriptors).all():
        raise InputError(f"{file}: descriptors that are not finite in {dtype}; not written")
    write = functools.partial(
        descriptor_shards.write_shard, shard=shard, file_format=identity["format"]
    )
    traces = source.take(plan.positions(number))
    folder.write_shard(file, write, len(shard.names), facts, traces)


def write_manifest(
    folder: ShardFolder, identity: dict[str, Any], records: Sequence[dict[str, Any]]
) -> None:
    """Writes the manifest, which sums up the records of all shards."""
    pixels = sum(record["pixels"] for record in records)
    every = (record["channel_sums"] for record in records)
    sums = [sum(parts) for parts in zip(*every, strict=True)]
    lengths = [record["images"] for record in records]
    if identity["format"] == "array_record":
        descriptor_shards.write_tfds_metadata(
            folder.path, records, identity["shape"], identity["dtype"]
        )
    summary = {
        "extracted": sum(lengths),
        "channel_means": [total / pixels for total in sums],
        "left_out": list(itertools.chain(*(record["left_out"] for record in records))),
    }
    folder.write_manifest(identity | summary, records)
