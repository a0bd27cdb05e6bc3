"""Where images come from: folders and TFDS data sets, by position, one interface for both.

A source has a length, an item for each position, and a fingerprint that another set of items would
not have. It is what `grain.MapDataset.source` takes. Items are `NamedImage`s, or for data sets
whole examples; images are uint8 RGB [H, W, 3]. A position whose image cannot be used raises
ImageError. Reading happens at the moment of asking, from any thread.
"""

import hashlib
import operator
import threading
from pathlib import Path
from typing import Any, NamedTuple, Protocol, SupportsIndex

import numpy as np
import tensorflow_datasets as tfds

from posenet_jax.data import bucket_dataset
from posenet_jax.data.dataset_metadata import INFO, check_lengths
from posenet_jax.errors import ImageError, InputError, shown
from posenet_jax.images.image_files import MAX_PIXELS, bucket_content, decode_image, read_image
from posenet_jax.images.image_list import DIGEST_BYTES, ImageList, as_list
from posenet_jax.io import storage

TRACES = "sources.npy"
"""Beside a data set that was made of files: what they were."""

_POSSIBLE_VIEWS = range(1, 1025)


class NamedImage(NamedTuple):
    """An image and what results about it are called after."""

    name: str
    image: np.ndarray  # [H, W, 3] uint8 RGB


class ImageSource(Protocol):
    """Images by position, in an order that does not change."""

    @property
    def fingerprint(self) -> str:
        """Differs between sources of different images."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, position: SupportsIndex) -> NamedImage: ...

    def name(self, position: int) -> str:
        """Name of an image, also of one that cannot be read."""
        ...


class FirstImages:
    """The first `count` images of a source that has more."""

    def __init__(self, source: ImageSource, count: int) -> None:
        self._source, self._count = source, count
        text = f"{source.fingerprint} {count}"
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return self._count

    def name(self, position: int) -> str:
        """That of the source."""
        return self._source.name(position)

    def __getitem__(self, position: SupportsIndex) -> NamedImage:
        index = operator.index(position)
        if not 0 <= index < self._count:
            raise IndexError(f"position {index} of the first {self._count} images")
        return self._source[index]


class FolderImages:
    """The images of a folder, a glob, one file or a list, by their paths in the folder.

    Those of more than `max_pixels` pixels cannot be used.
    """

    def __init__(self, images: ImageList | str | Path, *, max_pixels: int = MAX_PIXELS) -> None:
        self._list = as_list(images)
        self._max_pixels = max_pixels
        # What this thread was sent for a digest, and will want for the image: {position: content}.
        self._fetched = threading.local() if storage.is_bucket(self._list.folder) else None

    @property
    def fingerprint(self) -> str:
        """Fingerprint of names and sizes."""
        return self._list.fingerprint

    @property
    def times(self) -> np.ndarray:
        """[N, 2] when the files, and their entries, last changed: see `traces`."""
        return self._list.times

    def digest(self, position: int) -> bytes:
        """16 bytes that another content would not have; zeros where it cannot be read."""
        if self._fetched is None:
            return self._list.digest(position)
        try:
            content = bucket_content(self._list.path(position))
        except ImageError:
            return bytes(DIGEST_BYTES)
        self._fetched.last = {position: content}
        return hashlib.sha256(content).digest()[:DIGEST_BYTES]

    def __len__(self) -> int:
        return len(self._list)

    def name(self, position: int) -> str:
        """Its path in the folder."""
        return self._list.name(position)

    def __getitem__(self, position: SupportsIndex) -> NamedImage:
        index = operator.index(position)
        path, fetched = self._list.path(index), None
        if self._fetched is not None:
            fetched = getattr(self._fetched, "last", {}).get(index)
            self._fetched.last = {}
        if fetched is None:
            image = read_image(path, max_pixels=self._max_pixels)
        else:
            image = decode_image(fetched, path, max_pixels=self._max_pixels)
        return NamedImage(self.name(index), image)

    def __repr__(self) -> str:
        return f"FolderImages({self._list.folder!r}, {self.fingerprint})"


class _AsStored(tfds.decode.SkipDecoding):
    """The bytes of image files, of sequences of them too, where TFDS's own lacks the method.

    `image_files` decodes them: with its care for sizes and modes, and one view where one is wanted.
    """

    def decode_batch_example_np(self, serialized_example: Any) -> Any:
        return serialized_example


class DatasetExamples:
    """The examples of a TFDS data set written as ArrayRecord, as dictionaries.

    Text is str; the feature `image` is a list of uint8 arrays, one for each of the example's views.
    """

    def __init__(
        self, folder: str | Path, split: str = "all", *, max_pixels: int = MAX_PIXELS
    ) -> None:
        """`split` in TFDS's language: train, train[:10%], train+test, all.

        Images of more than `max_pixels` pixels cannot be used.

        Raises InputError if there is no such data set or split, or no feature `image` in it.
        """
        self._folder = dataset_folder(folder)
        self._max_pixels = max_pixels
        self._description = bucket_dataset.Description(self._folder)
        builder = self._description.builder
        features = builder.info.features
        named = dict(features.items()) if isinstance(features, tfds.features.FeaturesDict) else {}
        feature = named.get("image")
        self.views = _views(feature)
        if not self.views:
            names = ", ".join(sorted(named)) or "none"
            raise InputError(f"{shown(self._folder)}: no feature `image`; its features are {names}")
        self._single = isinstance(feature, tfds.features.Image)
        try:
            instructions = builder.info.splits[split].file_instructions
            decoders = {"image": _AsStored()}
            self._source = self._description.examples(split, instructions, decoders)
            self._length = len(self._source)
        except Exception as error:
            splits = ", ".join(sorted(builder.info.splits))
            reason = " ".join(str(error).split())[:200]
            problem = f"no split {split!r} to be read; there are {splits} ({reason})"
            raise InputError(f"{shown(self._folder)}: {problem}") from error
        if not storage.is_bucket(self._folder):  # where that would read all shards
            check_lengths(self._folder, instructions)
        self.fingerprint = _dataset_fingerprint(self._folder, split)
        self.times = _dataset_times(self._folder)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, position: SupportsIndex) -> dict[str, Any]:
        example = self.encoded(position)
        views = range(len(example["image"]))
        return example | {"image": [self.decoded(position, example, view) for view in views]}

    def encoded(self, position: SupportsIndex) -> dict[str, Any]:
        """The example with `image` as the bytes of its files."""
        index = operator.index(position)
        try:
            example = dict(self._source[index])
        except storage.Unanswered as error:
            raise storage.unreachable(error) from error
        except Exception as error:
            reason = " ".join(str(error).split())
            raise ImageError(f"{self.where(index)}: cannot be read ({reason})") from error
        if self._single:
            example["image"] = [example["image"]]
        return {
            name: value.decode(errors="replace") if isinstance(value, bytes) else value
            for name, value in example.items()
        }

    def decoded(self, position: SupportsIndex, example: dict[str, Any], view: int) -> np.ndarray:
        """One view of an example from `encoded`."""
        name = self.where(position, example)
        return decode_image(example["image"][view], name, max_pixels=self._max_pixels)

    def where(self, position: SupportsIndex, example: dict[str, Any] | None = None) -> str:
        """Beginning of an error about an example."""
        name = f" ({example['name']})" if example and "name" in example else ""
        return f"{self._folder}, example {operator.index(position)}{name}"

    def __repr__(self) -> str:
        return f"DatasetExamples({str(self._folder)!r}, {self.fingerprint})"


class DatasetImages:
    """Every view of every example of a data set as an image of its own; the first `limit` of them.

    Its name is the feature `name`, or the example's position where there is none, and the view's
    number where an example has several.
    """

    def __init__(self, examples: DatasetExamples, limit: int | None = None) -> None:
        count = len(examples) * examples.views
        self._examples = examples
        self._length = min(count, limit or count)
        self.fingerprint = examples.fingerprint

    def __len__(self) -> int:
        return self._length

    @property
    def times(self) -> np.ndarray:
        """[N, 2] when any file of the data set last changed: see `traces`."""
        return np.broadcast_to(self._examples.times, (len(self), 2))

    def digest(self, position: int) -> bytes:
        """16 bytes that another name or image would not have; zeros where it cannot be read."""
        index, view = divmod(position, self._examples.views)
        try:
            example = self._examples.encoded(index)
        except ImageError:
            return bytes(DIGEST_BYTES)
        named = self._name(example, index, view).encode() + b"\0"
        return hashlib.sha256(named + example["image"][view]).digest()[:DIGEST_BYTES]

    def name(self, position: int) -> str:
        """Reads the example, as the name is in it."""
        index, view = divmod(position, self._examples.views)
        try:
            return self._name(self._examples.encoded(index), index, view)
        except ImageError:
            return self._name({}, index, view)

    def __getitem__(self, position: SupportsIndex) -> NamedImage:
        index, view = divmod(operator.index(position), self._examples.views)
        example = self._examples.encoded(index)
        image = self._examples.decoded(index, example, view)
        return NamedImage(self._name(example, index, view), image)

    def _name(self, example: dict[str, Any], index: int, view: int) -> str:
        name = str(example.get("name", index))
        return name if self._examples.views == 1 else f"{name}/{view}"

    def __repr__(self) -> str:
        return f"DatasetImages({self._examples!r})"


def dataset_folder(folder: str | Path) -> Path:
    """The one TFDS data set in or below a folder. Raises InputError where there is not just one."""
    top = storage.path(folder).expanduser()
    if storage.is_bucket(top):
        return bucket_dataset.dataset_folder(top)
    if not top.is_dir():
        raise InputError(f"{shown(top)}: no such folder")
    if (top / INFO).is_file():
        return top
    # Name, configuration, version: no data set lies deeper.
    found = sorted(
        info.parent
        for depth in ("*", "*/*", "*/*/*")
        for info in top.glob(f"{depth}/{INFO}")
        if not info.parent.name.startswith("incomplete.")
    )
    if len(found) != 1:
        several = f"{len(found)} data sets below: " + ", ".join(shown(f) for f in found)
        raise InputError(f"{shown(top)}: {several if found else 'no data set in or below it'}")
    return found[0]


def _views(feature: Any) -> int:
    """Images an example has; 0 for a feature that is none."""
    if isinstance(feature, tfds.features.Image):
        return 1
    inner = getattr(feature, "feature", None)
    length = getattr(feature, "_length", None)
    if not isinstance(inner, tfds.features.Image) or length not in _POSSIBLE_VIEWS:
        return 0
    return int(length)  # type: ignore[arg-type]


def _dataset_fingerprint(folder: Path, part: str) -> str:
    """Digest of the data set's description, with every shard's length, and its files' sizes."""
    digest = hashlib.sha256(part.encode())
    digest.update(storage.content(folder / INFO))
    for file in storage.files_in(folder):
        if file.name != TRACES:  # says nothing of the examples
            digest.update(f"{file.name} {file.size}\0".encode())
    return digest.hexdigest()[:16]


def _dataset_times(folder: Path) -> np.ndarray:
    """[2] int64 that change when any file's times do."""
    digest = hashlib.sha256()
    for file in storage.files_in(folder):
        digest.update(f"{file.name} {file.version}\0".encode())
    return np.frombuffer(digest.digest()[:16], "<i8")
