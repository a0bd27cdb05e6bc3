"""Files of a bulk inversion: shards with their tables and pictures, results.csv, the manifest."""

import functools
import hashlib
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posenet_jax.evaluation import results_table
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.io import files, storage
from posenet_jax.io.run_files import file_sha256, schema_fault
from posenet_jax.shards import reconstruction_shards
from posenet_jax.shards.folder import ShardFolder
from posenet_jax.shards.plan import Failure, ShardPlan
from posenet_jax.shards.reconstruction_shards import InvertedImage, shard_file, table_file
from posenet_jax.threads import map_in_threads

_FACTS = {"figures": {str: ("int", "float", "str")}}


def pending(
    folder: ShardFolder, plan: ShardPlan, shards: Iterable[int]
) -> tuple[list[int], dict[int, dict[str, Any]]]:
    """Returns `ShardFolder.pending` of these shards; one with another table is not done."""

    def is_whole(shard: int, record: dict[str, Any]) -> bool:
        if record["images"] + len(record["left_out"]) != len(plan.positions(shard)):
            return False
        if not record["images"]:
            return True
        try:
            digest = file_sha256(folder.path / table_file(record["file"]))
        except storage.Unanswered:
            raise
        except OSError:
            return False
        # Records of earlier versions have no digest.
        return record.get("table_sha256", digest) == digest and not schema_fault(record, _FACTS)

    return folder.pending({shard: shard_file(shard, plan.shards) for shard in shards}, is_whole)


def write_images(
    folder: ShardFolder,
    plan: ShardPlan,
    number: int,
    layer: str,
    images: list[InvertedImage],
    left_out: list[Failure],
    traces: np.ndarray | None = None,
) -> None:
    """Writes a shard's table, its file and, last, its record."""
    file = shard_file(number, plan.shards)
    facts: dict[str, Any] = {"left_out": left_out}
    if images:
        table = files.csv_text(_table_rows(layer, images)).encode()
        folder.write_file(table_file(file), functools.partial(Path.write_bytes, data=table))
        first = images[0].figures[0]
        facts["table_sha256"] = hashlib.sha256(table).hexdigest()
        facts["figures"] = {name: type(value).__name__ for name, value in first.items()}
    write = functools.partial(reconstruction_shards.write_shard, images=images)
    folder.write_shard(file, write, len(images), facts, traces)


def _table_rows(layer: str, images: Iterable[InvertedImage]) -> list[dict[str, Any]]:
    """Returns a line of results.csv for each image and restart."""
    return [
        results_table.line(
            position=image.position,
            image=image.name,
            layer=layer,
            restart=restart,
            figures=figures,
        )
        for image in images
        for restart, figures in enumerate(image.figures)
    ]


def write_pictures(
    folder: ShardFolder,
    positions: range,
    images: Sequence[InvertedImage],
    left_out: Sequence[Failure],
    restarts: int,
) -> None:
    """Writes PNG files of a shard's images.

    Removed are those of images that could be read when the shard was written before, and now not.
    positions: of all the shard's images, in the order of which the others are left out.
    """
    inverted = {image.position for image in images}
    missing = (position for position in positions if position not in inverted)
    for position, failure in zip(missing, left_out, strict=True):
        for name in reconstruction_shards.picture_names(position, failure["name"], restarts):
            storage.remove(folder.path / "images" / name)

    def write(file: tuple[str, bytes]) -> None:
        name, content = file
        folder.write_file(f"images/{name}", functools.partial(Path.write_bytes, data=content))

    pictures = itertools.chain(*map(reconstruction_shards.picture_files, images))
    for _ in map_in_threads(write, pictures, threads=folder.at_once):
        pass


def write_end(
    folder: ShardFolder, identity: dict[str, Any], records: Sequence[dict[str, Any]]
) -> None:
    """Writes results.csv, the metadata of the data set and the manifest of all shards.

    identity: the folder's description of itself. records: of all shards, in order.
    """
    filled = [record for record in records if record["images"]]
    folder.write_file(
        "results.csv",
        functools.partial(
            reconstruction_shards.join_tables,
            [folder.path / table_file(record["file"]) for record in filled],
            columns=results_table.header(),
            absent={"layer": identity["layer"]},
        ),
    )
    shape = Preprocessing.from_json(identity["preprocessing"]).picture_shape
    features = reconstruction_shards.features(shape, identity["restarts"], _common(filled))
    reconstruction_shards.write_tfds_metadata(folder.path, records, features)
    counts = {"inverted": sum(record["images"] for record in filled), "left_out": failures(records)}
    folder.write_manifest(identity | counts, records)


def failures(records: Iterable[dict[str, Any]]) -> list[Failure]:
    """Returns the images that the records say were left out."""
    return list(itertools.chain(*(record["left_out"] for record in records)))


def _common(records: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Returns the figures, and their types, that all shards have: of measures added since, none."""
    first, *others = (record["figures"] for record in records)
    return {
        name: kind
        for name, kind in first.items()
        if all(figures.get(name) == kind for figures in others)
    }
