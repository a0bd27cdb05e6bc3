"""TensorFlow Datasets of rendered scenes, of photographs and of 3D_Street_View.

`dataset_writing.build` writes one. Once this module is imported,
`tfds.data_source("rendered_scenes/cities", split="train", data_dir=DIR, download=False)` reads
one; `tfds.builder_from_directory(FOLDER).as_data_source("train")` needs no import.

Splits are by target (see `splits`). Angles are radians, lengths metres, images RGB.
"""

import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from posenet_jax.data.dataset_writing import DatasetBuilder, Example
from posenet_jax.data.rendered_examples import RenderedExamples
from posenet_jax.data.splits import Split, split_of
from posenet_jax.data.street_view import FIELD_OF_VIEW, StreetViewImage, listed_files, scan_folder
from posenet_jax.data.street_view_pairs import camera_normal
from posenet_jax.errors import ImageError, InputError, shown
from posenet_jax.images.image_files import (
    MAX_PIXELS,
    bucket_content,
    decode_image,
    is_plain_jpeg,
)
from posenet_jax.images.image_list import ImageList, as_list
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.io import storage
from posenet_jax.io.files import png
from posenet_jax.scenes import KINDS
from posenet_jax.threads import map_in_threads


def _tensor(*shape: int | None, dtype: type = np.float32) -> Any:
    return tfds.features.Tensor(shape=shape, dtype=dtype)


class RenderedScenes(DatasetBuilder):
    """Two views of a target in a rendered scene: configurations cities, cars, indoor."""

    DESCRIPTION = "Pairs of views of one target in rendered scenes, with exact geometry."
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=kind.written) for kind in KINDS.values()]

    def __init__(
        self, *, scenes: RenderedExamples | None = None, config: Any = "cities", **kwargs: Any
    ) -> None:
        """`scenes` make the examples; they are needed to write a data set, not to read one."""
        self._scenes = scenes
        recipe = scenes.recipe if scenes else {}
        super().__init__(recipe=recipe, config=scenes.kind if scenes else config, **kwargs)

    def features(self) -> dict[str, Any]:
        return {
            "image": tfds.features.Sequence(tfds.features.Image(), length=2),
            "name": tfds.features.Text(doc="of the scene, which has one target"),
            "rotation": _tensor(2, 3, 3),  # camera to world
            "centre": _tensor(2, 3),
            "field_of_view": np.float32,  # horizontal, of both views
            "target": _tensor(3),
            "normal": _tensor(3),  # of the target's surface, unit, world
            "camera_normal": _tensor(2, 3),
            "visible": _tensor(2, dtype=np.bool_),  # nothing stands before the target
            "vanishing": _tensor(2, 3, 3),  # rows: homogeneous pixels of the scene's axes
        }

    def examples(self, split: Split) -> Iterator[Example]:
        if self._scenes is None:
            raise InputError("rendered scenes are written by posenet-jax build_dataset")
        return self._scenes.of_split(split)


class Photographs(DatasetBuilder):
    """Photographs of a folder; each is a target of its own."""

    DESCRIPTION = "Photographs of a folder."

    def __init__(
        self,
        *,
        images: ImageList | str | Path | None = None,
        size: int = 0,
        max_pixels: int = MAX_PIXELS,
        **kwargs: Any,
    ) -> None:
        """`images`: folder, glob or list. `size`: pixels a side after resizing; 0: as they are."""
        self._images = as_list(images) if images else None
        self._size, self._max_pixels = size, max_pixels
        recipe = {"images": self._images.fingerprint, "size": size} if self._images else {}
        super().__init__(recipe=recipe, files=self._images, **kwargs)

    def __len__(self) -> int:
        return len(self._images or ())

    def features(self) -> dict[str, Any]:
        return {"image": tfds.features.Image(), "name": tfds.features.Text()}

    def examples(self, split: Split) -> Iterator[Example]:
        images, tracer = self._images, self.tracer
        if images is None or tracer is None:
            raise InputError("a data set of photographs is written from a folder of them")

        def encode(position: int) -> tuple[str, bytes | ImageError]:
            tracer.note(position)
            encoded = _encoded(images.path(position), self._size, self._max_pixels)
            return images.name(position), encoded

        positions = (i for i in range(len(images)) if split_of(images.name(i)) == split)
        for name, encoded in map_in_threads(encode, positions):
            if isinstance(encoded, ImageError):
                self.leave_out(encoded)
            else:
                yield name, {"image": io.BytesIO(encoded), "name": name}


class StreetView(DatasetBuilder):
    """3D_Street_View: images with their cameras and targets."""

    DESCRIPTION = "Images of 3D_Street_View (Zamir et al., ECCV 2016), their cameras and targets."

    def __init__(
        self,
        *,
        images: str | Path | None = None,
        size: int = 0,
        max_pixels: int = MAX_PIXELS,
        **kwargs: Any,
    ) -> None:
        """`images`: the data set's folder. `size`: pixels a side after resizing; 0: as they are."""
        self._folder = storage.path(images).expanduser() if images else None
        if self._folder and not storage.is_folder(self._folder):
            raise InputError(f"{shown(self._folder)}: no such folder")
        self._size, self._max_pixels = size, max_pixels
        if self._folder:
            files = listed_files(self._folder)
            recipe = {"images": self._folder.name, "size": size, "files": files.fingerprint}
            super().__init__(recipe=recipe, files=files, **kwargs)
        else:
            super().__init__(recipe={}, **kwargs)

    def features(self) -> dict[str, Any]:
        # A longitude in float32 is good to a few metres only, and TFDS's own float64 is float32.
        exact = tfds.features.Tensor(shape=(3,), dtype=np.float64, encoding="bytes")
        return {
            "image": tfds.features.Image(),
            "name": tfds.features.Text(),
            "target_name": tfds.features.Text(),
            **dict.fromkeys(("dataset", "target", "patch", "street_view"), np.int64),
            "target_location": exact,  # latitude, longitude (radians), height
            "camera_location": exact,
            "rotation": _tensor(3, 3),  # camera to world: east, north, up of the target
            "centre": _tensor(3),
            "normal": _tensor(3),  # as written: either side may face the camera
            "camera_normal": _tensor(3),  # the side the camera sees, in its frame
            **dict.fromkeys(("field_of_view", "distance", "heading", "pitch", "roll"), np.float32),
            "patch_centre": _tensor(2),  # pixels of the original; NaN where not aligned
        }

    def examples(self, split: Split) -> Iterator[Example]:
        for image, encoded in map_in_threads(self._encode, self._of_split(split)):
            if isinstance(encoded, ImageError):
                self.leave_out(encoded)
            else:
                name = shown(image.path.relative_to(self._folder or "/"))
                record = _street_view_record(image) | {"name": name}
                yield name, record | {"image": io.BytesIO(encoded)}

    def _download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        if self.files and self.tracer:
            for _ in map_in_threads(self.tracer.note, range(len(self.files))):
                pass
        super()._download_and_prepare(*args, **kwargs)

    def _of_split(self, split: Split) -> Iterator[StreetViewImage]:
        for outcome in scan_folder(self._folder or ""):
            if not isinstance(outcome, InputError):
                if split_of(outcome.target_name) == split:
                    yield outcome
            elif split == "train":  # every split scans all; a file is named once
                self.leave_out(outcome)

    def _encode(self, image: StreetViewImage) -> tuple[StreetViewImage, bytes | ImageError]:
        return image, _encoded(image.path, self._size, self._max_pixels)


def _encoded(path: Path, size: int, max_pixels: int) -> bytes | ImageError:
    """The bytes to store for an image file.

    Those of the file where any decoder makes of them what `read_image` does: plain JPEG. Else PNG.
    """
    try:
        content = bucket_content(path) if storage.is_bucket(path) else path.read_bytes()
        image = decode_image(content, path, max_pixels=max_pixels)
    except ImageError as error:
        return error
    except OSError as error:
        return ImageError(f"{shown(path)}: cannot be opened ({error.strerror})")
    if not size and is_plain_jpeg(content):
        return content
    return png(_resized(image, size))


def _resized(image: np.ndarray, size: int) -> np.ndarray:
    return Preprocessing(means=(0.0, 0.0, 0.0), size=size).resize(image) if size else image


def _street_view_record(image: StreetViewImage) -> dict[str, Any]:
    aligned = image.alignment
    centre = aligned.patch_centre if aligned else np.full(2, math.nan)
    return {
        "target_name": image.target_name,
        "dataset": image.dataset,
        "target": image.target,
        "patch": image.patch,
        "street_view": image.street_view,
        "target_location": np.array(image.target_location, np.float64),
        "camera_location": np.array(image.camera_location, np.float64),
        "rotation": image.rotation.astype(np.float32),
        "centre": image.centre.astype(np.float32),
        "normal": image.normal.astype(np.float32),
        "camera_normal": camera_normal(image).astype(np.float32),
        "field_of_view": np.float32(FIELD_OF_VIEW),
        "distance": np.float32(image.distance),
        "heading": np.float32(image.heading),
        "pitch": np.float32(image.pitch),
        "roll": np.float32(image.roll),
        "patch_centre": centre.astype(np.float32),
    }
