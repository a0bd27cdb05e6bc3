"""Targets of a bulk inversion in batches, of images or of an earlier extraction."""

import contextlib
from collections.abc import Generator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posenet_jax.bulk import extraction
from posenet_jax.data.sources import ImageSource
from posenet_jax.encoders.encoder import Encoder, Tap
from posenet_jax.errors import InputError
from posenet_jax.io.run_files import brief
from posenet_jax.shards.batches import load_batches
from posenet_jax.shards.descriptor_shards import Descriptors
from posenet_jax.shards.plan import Failure, ShardPlan


class InversionBatch(NamedTuple):
    """A batch of images to invert."""

    shard: int
    last: bool  # of its shard
    entries: list["Entry"]
    failures: list[Failure]


class Entry(NamedTuple):
    """An image to invert."""

    position: int
    name: str
    target: np.ndarray  # [...]
    original: np.ndarray | None  # [H, W, C] uint8


def encoded(
    tap: Tap,
    source: ImageSource,
    plan: ShardPlan,
    pending: Sequence[int],
    mesh: Mesh,
    threads: int,
) -> Generator[InversionBatch, None, None]:
    """Yields the batches of the pending shards, their targets encoded from images."""
    tap = jax.device_put(tap.prepared(), NamedSharding(mesh, PartitionSpec()))
    loading = load_batches(source, tap.preprocessing, plan, pending, threads=threads)
    with contextlib.closing(loading) as batches:
        for batch in batches:
            descriptors, _ = extraction.encode(tap, batch.images, mesh)
            targets = np.asarray(descriptors)
            rows = np.flatnonzero(batch.good)
            entries = [
                Entry(batch.positions[row], name, targets[row], batch.images[row])
                for row, name in zip(rows, batch.names, strict=True)
            ]
            yield InversionBatch(batch.shard, batch.last, entries, batch.failures)


def extracted(
    source: Descriptors, plan: ShardPlan, pending: Sequence[int]
) -> Generator[InversionBatch, None, None]:
    """Yields the batches of the pending shards, their targets from an earlier extraction."""
    for shard in pending:
        batches = plan.batches(shard)
        for number, positions in enumerate(batches):
            entries = [
                Entry(i, source.names[i], source.descriptors[i].astype(np.float32), None)
                for i in positions
            ]
            yield InversionBatch(shard, number == len(batches) - 1, entries, [])


def check_origin(source: Descriptors, encoder: Encoder, layer: str) -> None:
    """Raises InputError where the descriptors are not this encoder's at this layer."""
    for name, theirs, ours in (
        ("layer", source.layer, layer),
        ("weights", source.weights, encoder.fingerprint),
    ):
        if theirs != ours:
            raise InputError(f"the descriptors come from {name} {brief(theirs)}, not {ours!r}")
    tap = encoder.tap(layer)
    image = jax.ShapeDtypeStruct(tap.preprocessing.shape, np.float32)
    shape = jax.eval_shape(tap.__call__, image).shape
    if source.descriptors.shape[1:] != shape:
        received = list(source.descriptors.shape[1:])
        raise InputError(f"the descriptors have the shape {received}, not {list(shape)}")
