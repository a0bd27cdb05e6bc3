"""Inversion of any number of images, streamed to disk in shards.

Images, or the descriptors of an earlier extraction, are cut into shards; their inversions go
through one `engine.run` in order, so that slots never wait for a shard to end. A finished shard is
measured and written in a thread of its own while the devices go on. A killed run resumes, and
several processes divide a run, as in `extraction`: see `shards.folder`.
"""

import contextlib
import dataclasses
import functools
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from jax.sharding import Mesh

from posenet_jax.bulk import extraction, inversion_batches, inversion_shards
from posenet_jax.bulk.inversion_measures import measured_images
from posenet_jax.bulk.inverted_shards import Inversions, InvertedShard, tell
from posenet_jax.data.sources import ImageSource
from posenet_jax.data.traces import TracedSource
from posenet_jax.decoders import generator_space
from posenet_jax.decoders.decoding import Decoder
from posenet_jax.encoders.encoder import Encoder, Tap
from posenet_jax.errors import InputError, shown
from posenet_jax.evaluation.feature_networks import Lpips
from posenet_jax.inversion import engine, recipes
from posenet_jax.inversion.recipes import Recipe
from posenet_jax.io import storage
from posenet_jax.io.run_files import schema_fault
from posenet_jax.shards.descriptor_shards import Descriptors
from posenet_jax.shards.folder import ShardFolder
from posenet_jax.shards.plan import ShardPlan
from posenet_jax.shards.reconstruction_shards import InvertedImage

_LARGEST_SHARD = 1024
# Fact of a folder whose slots were halved for want of memory, since then. The fact "slots" remains,
# with which the same command is compared.
_FITTING = "slots_that_fit"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BulkConfig:
    """Settings of a bulk inversion.

    restarts: inversions of each image, from as many starts. seed: decides the starts, with each
    image's position. slots: inversions computed at once, a multiple of the devices; batch_size:
    images encoded together; shard_size: images a file, a multiple of batch_size; 0: what suits the
    devices, or what the run that is resumed had. threads: that read images; 0: one a core.
    pictures: PNG files too. process_index, process_count: this process has every
    `process_count`-th shard.
    """

    restarts: int = 1
    seed: int = 0
    slots: int = 0
    batch_size: int = 0
    shard_size: int = 0
    threads: int = 0
    pictures: bool = False
    process_index: int = 0
    process_count: int = 1

    def __post_init__(self) -> None:
        if self.restarts < 1:
            raise InputError(f"restarts must be at least 1, not {self.restarts}")
        if not 0 <= self.process_index < self.process_count:
            received = f"{self.process_index} of {self.process_count}"
            raise InputError(f"process_index must lie below process_count, not {received}")


class Summary(NamedTuple):
    """State of the folder."""

    images: int
    inverted: int  # by every process so far
    left_out: int  # likewise
    finished: bool  # whether every process has finished its shards
    new: int  # images that this run inverted


def invert_all(
    encoder: Encoder,
    layer: str,
    source: ImageSource | Descriptors,
    folder: str | Path,
    recipe: Recipe,
    config: BulkConfig,
    *,
    judge: Encoder | None = None,
    lpips: Lpips | None = None,
    decoder: Decoder | None = None,
    mesh: Mesh | None = None,
    progress: Callable[[int], None] | None = None,
    report: Callable[[str], None] | None = None,
) -> Summary:
    """Writes this process's shards of inversions, except those that are there already.

    source: images, or descriptors alone, which must be this encoder's at this layer. recipe: its
    numbers may be arrays, one number an image of the source; `steps` may not. judge: another
    encoder, in whose fc5 each picture is compared with its original. lpips: the network of LPIPS.
    decoder: of this layer, where the recipe begins with a decoder's images or in a generator.
    Where the slots take more memory than a device has, they are halved with a RuntimeWarning, and
    the folder says so: what goes on with it does so in as many.
    mesh: of this process's devices. progress: told of image·steps done, those of earlier runs
    first; report: of each image left out, earlier runs' too.

    Raises InputError for a recipe with a function, which the folder could not tell from another
    when it is resumed, where the folder holds another inversion, where another run writes the same
    shards, and, at the end, where not one image could be read.
    """
    mesh = mesh or Mesh(np.asarray(jax.local_devices()), ("slots",))
    tap = encoder.tap(layer)
    if decoder:
        decoder.check_fits(encoder, layer)
    _check_recipe(recipe, decoder, config)
    recipe = generator_space.recipe_in(recipe, decoder)
    judge_tap = judge.tap("fc5") if judge else None
    if isinstance(source, Descriptors):
        inversion_batches.check_origin(source, encoder, layer)
    engine.groups_in(config.slots, mesh.size, recipe.group)  # before the folder says it has so many
    process = f"{config.process_index}-of-{config.process_count}"
    shards = ShardFolder(storage.path(folder).expanduser(), "inversion", process)
    with shards.locked():
        wanted = _identity(encoder, tap, source, recipe, config, judge, lpips, decoder)
        fitting = config.slots
        if not fitting and not shards.identity():
            batch = _batch_size(config, mesh.size)
            # Refused before the slots are counted, which takes as long as a compilation.
            ShardPlan(0, batch, config.shard_size or batch).check(mesh.size)
            one = jax.tree.map(lambda numbers: np.ravel(numbers)[0], recipe)
            fitting = engine.default_slots(tap, recipe=one, mesh=mesh)
        sizes = _default_sizes(config, mesh.size, recipe.group, fitting)
        identity, plan = shards.agreed(wanted, sizes, mesh)
        own = range(config.process_index, plan.shards, config.process_count)
        pending, done = inversion_shards.pending(shards, plan, own)
        traced = None if isinstance(source, Descriptors) else TracedSource(source)
        for record in shards.checked(traced, plan, done) if traced else done.values():
            tell(record["left_out"], report)
            if progress:
                images = record["images"] + len(record["left_out"])
                progress(images * config.restarts * int(recipe.steps))
        if pending:
            shards.reopened("results.csv")
        if traced:
            batches = inversion_batches.encoded(tap, traced, plan, pending, mesh, config.threads)
        else:
            described = cast(Descriptors, source)
            batches = inversion_batches.extracted(described, plan, pending)
        write = functools.partial(
            _write_shard, shards, plan, encoder, tap, judge_tap, lpips, config, traced
        )

        def fewer(slots: int, sentence: str) -> None:
            identity.update(shards.amended({_FITTING: slots}))
            warnings.warn(sentence, RuntimeWarning, stacklevel=2)

        new = 0
        with contextlib.closing(batches), ThreadPoolExecutor(max_workers=1) as writer:
            writing: Future[None] | None = None
            columns = recipes.broadcast(recipe, plan.images)
            slots = _slots(shards, identity)
            inversions = Inversions(
                tap, columns, decoder, config.restarts, config.seed, slots, mesh, fewer
            )
            for shard in inversions.of_shards(batches, progress, report):
                new += len(shard.entries)
                if writing:
                    writing.result()
                writing = writer.submit(write, shard)
            if writing:
                writing.result()
        return _finish(shards, identity, plan, new)


def _check_recipe(recipe: Recipe, decoder: Decoder | None, config: BulkConfig) -> None:
    if (recipe.start != "noise") != (decoder is not None):
        start = "a decoder's images" if decoder is None else "noise alone"
        raise InputError(f"recipe {recipe.name!r} begins with {start}")
    recipes.record(recipe)  # a function has no record
    if config.restarts % recipe.group:
        raise InputError(f"{config.restarts} restarts are no whole groups of {recipe.group}")
    if recipe.data_term == "masked":
        raise InputError("data term 'masked' needs targets with a mask: use engine.run")


def _write_shard(
    folder: ShardFolder,
    plan: ShardPlan,
    encoder: Encoder,
    tap: Tap,
    judge: Tap | None,
    lpips: Lpips | None,
    config: BulkConfig,
    source: TracedSource | None,
    shard: InvertedShard,
) -> None:
    """Measures a shard's inversions and writes them, its record last."""
    number, left_out, positions = shard.number, shard.left_out, plan.positions(shard.number)
    images: list[InvertedImage] = []
    if shard.entries:
        images = measured_images(encoder, tap, judge, lpips, shard.entries, shard.inversions)
    if config.pictures:
        inversion_shards.write_pictures(folder, positions, images, left_out, config.restarts)
    traces = source.take(positions) if source else None
    inversion_shards.write_images(folder, plan, number, tap.layer, images, left_out, traces)


def _finish(folder: ShardFolder, identity: dict[str, Any], plan: ShardPlan, new: int) -> Summary:
    """Writes the table and manifest of all shards if all are done; returns the folder's state."""
    pending, done = inversion_shards.pending(folder, plan, range(plan.shards))
    records = list(done.values())
    inverted = sum(record["images"] for record in records)
    left_out = len(inversion_shards.failures(records))
    if not pending and not inverted:
        raise InputError(f"none of the {plan.images} images could be read")
    if not pending:
        inversion_shards.write_end(folder, identity, records)
    return Summary(plan.images, inverted, left_out, not pending, new)


def _identity(
    encoder: Encoder,
    tap: Tap,
    source: ImageSource | Descriptors,
    recipe: Recipe,
    config: BulkConfig,
    judge: Encoder | None,
    lpips: Lpips | None,
    decoder: Decoder | None,
) -> dict[str, Any]:
    """Returns the facts that are equal in all runs into one folder; sizes not chosen are 0."""
    return {
        "layer": tap.layer,
        "encoder": encoder.name,
        "weights": encoder.fingerprint,
        "preprocessing": tap.preprocessing.to_json(),
        "judge": judge.fingerprint if judge else None,
        "lpips": lpips.encoder.fingerprint if lpips else None,
        "decoder": decoder.fingerprint if decoder else None,
        "source": source.fingerprint,
        "facades": getattr(source, "facades", None),
        "images": len(source.names if isinstance(source, Descriptors) else source),
        "recipe": recipes.record(recipe),
        "restarts": config.restarts,
        "seed": config.seed,
        "pictures": config.pictures,
        "slots": config.slots,
        "batch_size": config.batch_size,
        "shard_size": config.shard_size,
    }


def _default_sizes(config: BulkConfig, devices: int, group: int, slots: int) -> dict[str, int]:
    """Returns sizes that suit the devices, shards of a few times as many inversions as slots.

    slots: those that fit; 0: not known, where a folder has its own.
    """
    slots = slots or engine.most_slots(devices, group)
    batch = _batch_size(config, devices)
    fitting = min(_LARGEST_SHARD, 4 * slots // config.restarts) // batch * batch
    return {"slots": slots, "batch_size": batch, "shard_size": max(batch, fitting)}


def _batch_size(config: BulkConfig, devices: int) -> int:
    return config.batch_size or extraction.default_batch(devices)


def _slots(folder: ShardFolder, identity: dict[str, Any]) -> int:
    """Returns the slots that a run goes on with: those of the folder, or fewer that fit."""
    slots: int = identity.get(_FITTING, identity["slots"])
    if fault := schema_fault(slots, range(1, identity["slots"] + 1), _FITTING):
        where = shown(folder.path / f"{folder.kind}.json")
        raise InputError(f"{where} cannot be used: {fault}; choose another folder")
    return slots
