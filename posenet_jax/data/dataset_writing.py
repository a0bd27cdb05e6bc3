"""Writing of TensorFlow Datasets as ArrayRecord, without TensorFlow: `build`, of any builder.

A split that would hold nothing is left out. TFDS writes into a folder of another name and renames
it at the end, so that a data set is there whole or not at all. One for a bucket is written to a
temporary folder and uploaded, dataset_info.json last: without that it is no data set.
"""

import itertools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import tensorflow_datasets as tfds

from posenet_jax.data import bucket_dataset
from posenet_jax.data.dataset_metadata import INFO, dataset_recipe
from posenet_jax.data.sources import TRACES
from posenet_jax.data.splits import Split
from posenet_jax.data.traces import Tracer, read_traces
from posenet_jax.errors import InputError, shown
from posenet_jax.images.image_list import ImageList
from posenet_jax.io import storage, whole_files

Example = tuple[str | int, dict[str, Any]]

VERSION = "1.0.0"


class DatasetBuilder(
    tfds.core.GeneratorBasedBuilder,
    skip_registration=True,  # type: ignore[call-arg]
):
    """Base of the builders. `report` is told of each file left out, `progress` of each one done.

    `recipe` is kept in the data set's metadata: the same recipe over the same files makes the same
    examples in the same order (not the same bytes: TFDS writes an example's features in any order).
    `files` are those that it is made of; their traces are kept in sources.npy. `data_dir` may lie
    in a bucket: TFDS is given a temporary one then, and `folder` is the data set's place.
    """

    VERSION = tfds.core.Version(VERSION)
    DESCRIPTION: ClassVar[str]
    # TFDS looks for checksums of downloads beside the code, through a package it does not require.
    code_path = None

    def __init__(
        self,
        *,
        recipe: dict[str, Any],
        files: ImageList | None = None,
        report: Callable[[InputError], None] | None = None,
        progress: Callable[[int], None] | None = None,
        **kwargs: Any,
    ) -> None:
        self.recipe = recipe
        self.files = files
        self.tracer = Tracer(files) if files else None
        self.left_out = 0
        self._report = report
        self._progress = progress
        top = kwargs.get("data_dir") or "~/tensorflow_datasets"
        if storage.is_bucket(top):
            kwargs["data_dir"] = os.fspath(storage.scratch(self))
        try:
            super().__init__(file_format="array_record", **kwargs)
        except Exception as error:  # what TFDS raises on what stands there, damaged, is anything
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputError(
                f"{shown(Path(top, self.name))} holds a data set that cannot be read ({reason});"
                " remove that folder"
            ) from error
        self.folder = Path(self.data_dir)
        if storage.is_bucket(top):
            self.folder = storage.path(top) / self.folder.relative_to(kwargs["data_dir"])

    def features(self) -> dict[str, Any]:
        raise NotImplementedError

    def examples(self, split: Split) -> Iterable[Example]:
        """(key, example) of one split; keys are unique within it."""
        raise NotImplementedError

    def leave_out(self, error: InputError) -> None:
        self.left_out += 1
        if self._report:
            self._report(error)
        if self._progress:
            self._progress(1)

    def _info(self) -> Any:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.DESCRIPTION,
            features=tfds.features.FeaturesDict(self.features()),
            metadata=tfds.core.MetadataDict(self.recipe),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Example]]:
        """Those that yield anything: TFDS refuses to write an empty split."""
        generators: dict[str, Iterator[Example]] = {}
        for split in get_args(Split):
            examples = self._generate_examples(split)
            for first in itertools.islice(examples, 1):
                generators[split] = itertools.chain([first], examples)
        if not generators:
            raise InputError(f"nothing to write: {self.left_out} files were left out, none is left")
        return generators

    def _generate_examples(self, split: Split) -> Iterator[Example]:
        for example in self.examples(split):
            yield example
            if self._progress:
                self._progress(1)

    def _download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        super()._download_and_prepare(*args, **kwargs)
        self.info.metadata["left_out"] = self.left_out
        if self.files and self.tracer:
            np.save(Path(self.data_dir) / TRACES, self.tracer.take(range(len(self.files))))

    # TFDS prints here; the library prints nothing.
    def _log_download_bytes(self) -> None: ...
    def _log_download_done(self) -> None: ...


def build(builder: DatasetBuilder, *, restart: bool = False) -> bool:
    """Writes the builder's data set; False if it was there already, whole.

    Raises InputError where a data set of another recipe is, or one half-written (by a run that was
    killed or still goes on), unless `restart`, which removes either first; OutputError where it
    cannot be written.
    """
    folder = builder.folder
    halves = _halves(folder)
    if restart:
        for path in (*halves, folder):
            storage.remove_folder(path)
    elif halves:
        raise InputError(
            f"{shown(halves[0])} is a data set half-written; if no other run is writing it,"
            " --restart removes it and begins anew"
        )
    elif storage.is_folder(folder):
        return _same_recipe(builder, folder)
    with tempfile.TemporaryDirectory() as downloads:  # TFDS wants one, and nothing is downloaded
        try:
            builder.download_and_prepare(download_dir=downloads)
        except Exception as error:
            refused = None if isinstance(error, InputError) else whole_files.refusal(error)
            if refused is None:
                raise
            remedy = f"{whole_files.remedy(refused)} or choose another folder"
            advice = f"nothing of it stays; {remedy}, and run again"
            raise whole_files.not_written(folder, refused, advice) from error
    if storage.is_bucket(folder):
        _upload(Path(builder.data_dir), folder)
    return True


def _halves(folder: Path) -> list[Path]:
    """Returns the folders that hold a data set half-written; in a bucket its own, undescribed."""
    if not storage.is_bucket(folder):
        return sorted(folder.parent.glob(f"incomplete.*_{folder.name}"))
    return [folder] if storage.is_folder(folder) and not storage.is_file(folder / INFO) else []


def _upload(local: Path, folder: Path) -> None:
    """Puts the files of a data set into a bucket, its description last. Raises OutputError."""
    for file in sorted(local.iterdir(), key=lambda file: (file.name == INFO, file.name)):
        try:
            storage.upload(file, folder / file.name)
        except OSError as error:
            advice = f"{whole_files.remedy(error)} or choose another folder, and run again"
            advice = f"what is there is no data set yet; {advice} with --restart"
            raise whole_files.not_written(folder / file.name, error, advice) from error


def _same_recipe(builder: DatasetBuilder, folder: Path) -> bool:
    """False; InputError if what is in the folder was made otherwise."""
    bucket_dataset.Description(folder)  # what cannot be read is not there
    written = dataset_recipe(folder)
    for name, value in builder.recipe.items():
        if written.get(name, value) != value:  # what an older version did not write is not compared
            raise InputError(
                f"{shown(folder)} holds a data set with {name} {written[name]!r}, not"
                f" {value!r}; choose another folder, or --restart"
            )
    _same_files(builder, folder)
    return False


def _same_files(builder: DatasetBuilder, folder: Path) -> None:
    """Raises InputError if the data set in the folder was made of files of other contents."""
    path = folder / TRACES
    if builder.files is None or builder.tracer is None or not storage.is_file(path):
        return
    found = builder.tracer.check(range(len(builder.files)), read_traces(path))
    if found.changed:
        others = f" and {len(found.changed) - 1} more" if len(found.changed) > 1 else ""
        raise InputError(
            f"{shown(builder.files.path(found.changed[0]))}{others}: not what {shown(folder)} was"
            " made of any more; choose another folder, or --restart"
        )
