"""Files of reconstructions: pictures and their measures, as a TFDS data set and a table.

A shard is `inversions-images.array_record-00000-of-00013`, an example an image, and beside it, in
tables/, a CSV file with a line for each of the image's R restarts.
`tfds.builder_from_directory(FOLDER).as_data_source("images")` gives the examples.
"""

import csv
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from posenet_jax.io import storage
from posenet_jax.io.files import png
from posenet_jax.io.run_files import read_csv
from posenet_jax.shards import record_files

_DATASET, _SPLIT = "inversions", "images"
_TABLES = "tables"
_AGAIN = "remove it and run the same command again"
_LONGEST_NAME = 200  # bytes


class InvertedImage(NamedTuple):
    """An image's inversions from R starts.

    position: in the source. figures: numbers and texts by name, one dictionary a restart.
    """

    position: int
    name: str
    pictures: np.ndarray  # [R, H, W, 3] uint8 RGB, or grey [R, H, W, 1]
    figures: Sequence[Mapping[str, Any]]


def shard_file(number: int, count: int) -> str:
    """A shard's file name."""
    return record_files.record_file(_DATASET, _SPLIT, number, count)


def table_file(file: str) -> str:
    """Name of the table that belongs to a shard's file."""
    return f"{_TABLES}/{file}.csv"


def spread(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over R pictures [R, H, W, C], each pixel's: [H, W, C] float32."""
    exact = pictures.astype(np.float64)
    return exact.mean(axis=0).astype(np.float32), exact.std(axis=0).astype(np.float32)


def write_shard(path: Path, images: Iterable[InvertedImage]) -> None:
    """Writes a shard's file; the same images give the same bytes."""
    record_files.write_records(path, (_example(image) for image in images))


def _example(image: InvertedImage) -> bytes:
    fields: dict[str, Any] = {
        "name": image.name,
        "position": np.array(image.position),
        "image": [png(picture) for picture in image.pictures],
    }
    if len(image.pictures) > 1:
        mean, deviation = spread(image.pictures)
        fields |= {"mean": mean.tobytes(), "deviation": deviation.tobytes()}
    for column, first in image.figures[0].items():
        values = [figures[column] for figures in image.figures]
        fields[column] = values if isinstance(first, str) else np.array(values)
    return record_files.serialize(fields)


def features(
    pixels: tuple[int, int, int], restarts: int, figures: Mapping[str, str]
) -> tfds.features.FeaturesDict:
    """Returns the types of an example for TFDS.

    pixels: shape of a picture. figures: `int`, `float` or `str` of each column.
    """
    each = {
        "int": tfds.features.Tensor(shape=(restarts,), dtype=np.int64),
        "float": tfds.features.Tensor(shape=(restarts,), dtype=np.float32),
        "str": tfds.features.Sequence(tfds.features.Text(), length=restarts),
    }
    example: dict[str, Any] = {
        "name": tfds.features.Text(),
        "position": np.int64,
        "image": tfds.features.Sequence(tfds.features.Image(shape=pixels), length=restarts),
    }
    if restarts > 1:
        part = tfds.features.Tensor(shape=pixels, dtype=np.float32, encoding="bytes")
        example |= {"mean": part, "deviation": part}
    example |= {column: each[kind] for column, kind in figures.items()}
    return tfds.features.FeaturesDict(example)


def write_tfds_metadata(
    folder: Path, shards: Sequence[Mapping[str, Any]], features: tfds.features.FeaturesDict
) -> None:
    """Writes the metadata that makes the folder a TFDS data set. shards: their records."""
    description = "Inversions of images' descriptors."
    record_files.write_metadata(folder, _DATASET, _SPLIT, features, shards, description)


def join_tables(
    tables: Iterable[Path],
    path: Path,
    *,
    columns: Sequence[str],
    absent: Mapping[str, str],
) -> None:
    """Writes the lines of several tables under one header, with few of them in memory.

    A table of an earlier version, whose columns are others, is rewritten: cells of columns that it
    lacks are those of `absent`, or empty. Raises InputError where one is no table.
    """
    with open(path, "w", encoding="utf-8", newline="") as joined:
        lines = csv.writer(joined, lineterminator="\n")
        lines.writerow(columns)
        for table in tables:
            with storage.opened(table, "r", encoding="utf-8", newline="") as file:
                same = next(csv.reader([file.readline()]), None) == list(columns)
                if same:
                    shutil.copyfileobj(file, joined)
            if not same:
                for row in read_csv(table, remedy=_AGAIN):
                    cells = {**absent, **row.cells}
                    lines.writerow([cells.get(name, "") for name in columns])


def picture_files(image: InvertedImage) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the PNG files that show an image's inversions."""
    pictures = list(image.pictures)
    if len(pictures) > 1:
        pictures += [np.rint(part).astype(np.uint8) for part in spread(image.pictures)]
    names = picture_names(image.position, image.name, len(image.pictures))
    yield from zip(names, map(png, pictures), strict=True)


def picture_names(position: int, name: str, restarts: int) -> list[str]:
    """Names of those files: of each restart, then of their mean and deviation."""
    # Names come from strangers' files: nothing in them may lead out of the folder, and with what is
    # added, while the file is written too, 255 bytes are all that a file system takes.
    end = re.sub(r"[^\w.-]+", "_", name)[-80:].encode()[-_LONGEST_NAME:]
    stem = f"{position:06d}_" + end.decode(errors="ignore")
    if restarts == 1:
        return [f"{stem}.png"]
    parts = [*map(str, range(restarts)), "mean", "deviation"]
    return [f"{stem}.{part}.png" for part in parts]
