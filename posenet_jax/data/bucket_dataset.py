"""TFDS data sets on disk or in a bucket, of which the files of examples are fetched one by one."""

import bisect
import collections
import itertools
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from array_record.python import array_record_module

from posenet_jax.data.dataset_metadata import INFO, dataset_builder
from posenet_jax.errors import InputError, shown
from posenet_jax.io import storage

_DESCRIBING = (".json", ".txt")
_OPEN_FILES = 16


class Description:
    """Description of a data set, as its folder has it. builder: TFDS's."""

    def __init__(self, folder: Path) -> None:
        """Raises InputError as `dataset_builder` does."""
        self._folder = folder
        if not storage.is_bucket(folder):
            self.builder = dataset_builder(folder)
            return
        local = tempfile.mkdtemp()  # TFDS reads it when it likes
        weakref.finalize(self, shutil.rmtree, local, ignore_errors=True)
        for file in storage.files_in(folder):
            if file.name.endswith(_DESCRIBING):
                Path(local, file.name).write_bytes(storage.content(folder / file.name))
        try:
            self.builder = dataset_builder(Path(local))
        except InputError as error:
            raise InputError(str(error).replace(local, shown(folder))) from error

    def examples(
        self, split: str, instructions: Sequence[Any], decoders: Mapping[str, Any]
    ) -> Sequence[Any]:
        """Returns the examples of a split, of which TFDS gave the file instructions."""
        if not storage.is_bucket(self._folder):
            return self.builder.as_data_source(split, decoders=decoders)
        return _FetchedExamples(self._folder, instructions, self.builder.info.features, decoders)


class _FetchedExamples(Sequence[Any]):
    """Examples of files in a bucket; of each file a local copy, of which the last used are kept."""

    def __init__(
        self,
        folder: Path,
        instructions: Sequence[Any],
        features: Any,
        decoders: Mapping[str, Any],
    ) -> None:
        self._files = [folder / os.path.basename(part.filename) for part in instructions]
        self._skipped = [part.skip for part in instructions]
        taken = (part.examples_in_shard if part.take == -1 else part.take for part in instructions)
        self._starts = [0, *itertools.accumulate(taken)]
        self._features, self._decoders = features, decoders
        self._open: collections.OrderedDict[int, Any] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"position {index} of {len(self)} examples")
        file = bisect.bisect_right(self._starts, index) - 1
        row = self._skipped[file] + index - self._starts[file]
        with self._lock:
            (record,) = self._reader(file).read([row])
        return self._features.deserialize_example_np(record, decoders=self._decoders)

    def _reader(self, file: int) -> Any:
        if file not in self._open:
            with storage.local_copy(self._files[file]) as copy:  # which it holds open
                path = os.fspath(copy)
                reader = array_record_module.ArrayRecordReader(path, "readahead_buffer_size:0")
            self._open[file] = reader
            if len(self._open) > _OPEN_FILES:
                self._open.popitem(last=False)
        self._open.move_to_end(file)
        return self._open[file]


def dataset_folder(top: Path) -> Path:
    """The one data set in or below a folder of a bucket.

    Raises InputError where there is not just one.
    """
    if storage.is_file(top / INFO):
        return top
    # Name, configuration, version: no data set lies deeper.
    found = sorted(
        os.path.dirname(file.name)
        for file in storage.objects(os.fspath(top))
        if os.path.basename(file.name) == INFO and file.name.count("/") <= 3
    )
    found = [name for name in found if not os.path.basename(name).startswith("incomplete.")]
    if len(found) != 1:
        folders = ", ".join(shown(top / name) for name in found)
        several = f"{len(found)} data sets below: {folders}"
        raise InputError(f"{shown(top)}: {several if found else 'no data set in or below it'}")
    return top / found[0]
