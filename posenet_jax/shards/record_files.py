"""ArrayRecord files that TFDS reads: examples as bytes, files of them, the data set's description.

TFDS's own serializer orders an example's features as it happens; here the same example gives the
same bytes.
"""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from tensorflow_datasets.proto import tf_example_pb2

from posenet_jax.io import storage, whole_files


def record_file(dataset: str, split: str, number: int, count: int) -> str:
    """A shard's file name, as TFDS wants it."""
    return f"{dataset}-{split}.array_record-{number:05d}-of-{count:05d}"


def serialize(fields: Mapping[str, Any]) -> bytes:
    """An example: texts, bytes or lists of either, and arrays of floats or of integers, flattened.

    A `tfds.features.Tensor` of encoding `bytes` wants the array's own bytes.
    """
    example = tf_example_pb2.Example()
    for name, value in fields.items():
        feature = example.features.feature[name]
        if isinstance(value, str | bytes):
            value = [value]
        if isinstance(value, list):
            coded = [item.encode() if isinstance(item, str) else item for item in value]
            feature.bytes_list.value.extend(coded)
        elif np.issubdtype(value.dtype, np.floating):
            feature.float_list.value.extend(value.ravel().tolist())
        else:
            feature.int64_list.value.extend(value.ravel().tolist())
    return example.SerializeToString(deterministic=True)


def write_records(path: Path, examples: Iterable[bytes]) -> None:
    """Writes a file of serialized examples, each to be read by itself. Raises OSError."""
    writer = array_record_module.ArrayRecordWriter(os.fspath(path), "group_size:1")
    try:
        for example in examples:
            writer.write(example)
        writer.close()
    except RuntimeError as error:  # so the library reports a full disk
        refused = whole_files.refusal(error) or OSError(errno.EIO, str(error).split(";")[0])
        raise refused from error


def write_metadata(
    folder: Path,
    dataset: str,
    split: str,
    features: tfds.features.FeaturesDict,
    shards: Sequence[Mapping[str, Any]],
    description: str,
) -> None:
    """Writes what makes a folder of such files a data set.

    shards: `file`, `images` and `bytes` of each. Raises OutputError.
    """
    with _uploaded(folder, [shard["file"] for shard in shards]) as local:
        template = tfds.core.ShardedFileTemplate(
            data_dir=local, dataset_name=dataset, split=split, filetype_suffix="array_record"
        )
        info = tfds.core.SplitInfo(
            name=split,
            shard_lengths=[shard["images"] for shard in shards],
            num_bytes=sum(shard["bytes"] for shard in shards),
            filename_template=template,
        )
        try:
            tfds.folder_dataset.write_metadata(
                data_dir=os.fspath(local),
                features=features,
                split_infos=[info],
                filename_template=template.replace(split=None),
                version="1.0.0",
                check_data=False,
                description=description,
            )
        except OSError as error:
            raise whole_files.not_written(local / "dataset_info.json", error) from error


@contextlib.contextmanager
def _uploaded(folder: Path, files: Sequence[str]) -> Iterator[Path]:
    """Yields the folder; for one in a bucket a temporary one, whose JSON files are uploaded.

    In that are empty files of the shards' names, which TFDS looks for.
    """
    if not storage.is_bucket(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory() as local:
        for name in files:
            Path(local, name).touch()
        yield Path(local)
        for file in sorted(Path(local).glob("*.json")):
            try:
                storage.upload(file, folder / file.name)
            except OSError as error:
                raise whole_files.not_written(folder / file.name, error) from error
