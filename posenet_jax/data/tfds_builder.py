"""TensorFlow Datasets of rendered scenes, of photographs and of 3D_Street_View.

Written as ArrayRecord, without TensorFlow. Once this module is imported,
`tfds.data_source("rendered_scenes/cities", split="train", data_dir=DIR, download=False)` reads
one; `tfds.builder_from_directory(FOLDER).as_data_source("train")` needs no import.

Splits are by target (see `splits`); a split that would hold nothing is left out. TFDS writes into a
folder of another name and renames it at the end, so that a data set is there whole or not at all.
Angles are radians, lengths metres, images RGB.
"""

import io
import itertools
import math
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import tensorflow_datasets as tfds

from posenet_jax.data.dataset_metadata import dataset_builder, dataset_recipe
from posenet_jax.data.rendered_examples import RenderedExamples
from posenet_jax.data.sources import TRACES
from posenet_jax.data.splits import Split, split_of
from posenet_jax.data.street_view import FIELD_OF_VIEW, StreetViewImage, listed_files, scan_folder
from posenet_jax.data.street_view_pairs import camera_normal
from posenet_jax.data.traces import Tracer, read_traces
from posenet_jax.errors import ImageError, InputError, shown
from posenet_jax.images.image_files import MAX_PIXELS, decode_image, is_plain_jpeg
from posenet_jax.images.image_list import ImageList, as_list
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.io import whole_files
from posenet_jax.io.files import png
from posenet_jax.scenes import KINDS
from posenet_jax.threads import map_in_threads

Example = tuple[str | int, dict[str, Any]]

VERSION = "1.0.0"


class _Builder(
    tfds.core.GeneratorBasedBuilder,
    skip_registration=True,  # type: ignore[call-arg]
):
    """Base of the builders. `report` is told of each file left out, `progress` of each one done.

    `recipe` is kept in the data set's metadata: the same recipe over the same files makes the same
    bytes. `files` are those that it is made of; their traces are kept in sources.npy.
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
        try:
            super().__init__(file_format="array_record", **kwargs)
        except Exception as error:  # what TFDS raises on what stands there, damaged, is anything
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            there = shown(Path(kwargs.get("data_dir") or "~/tensorflow_datasets", self.name))
            raise InputError(
                f"{there} holds a data set that cannot be read ({reason}); remove that folder"
            ) from error

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


def _tensor(*shape: int | None, dtype: type = np.float32) -> Any:
    return tfds.features.Tensor(shape=shape, dtype=dtype)


class RenderedScenes(_Builder):
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
            raise InputError("rendered scenes are written by experiments.build_dataset")
        return self._scenes.of_split(split)


class Photographs(_Builder):
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


class StreetView(_Builder):
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
        self._folder = Path(images).expanduser() if images else None
        if self._folder and not self._folder.is_dir():
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


def build(builder: _Builder, *, restart: bool = False) -> bool:
    """Writes the builder's data set; False if it was there already, whole.

    Raises InputError where a data set of another recipe is, or one half-written (by a run that was
    killed or still goes on), unless `restart`, which removes either first; OutputError where it
    cannot be written.
    """
    folder = Path(builder.data_dir)
    halves = sorted(folder.parent.glob(f"incomplete.*_{folder.name}"))
    if restart:
        for path in (*halves, folder):
            shutil.rmtree(path, ignore_errors=True)
    elif halves:
        raise InputError(
            f"{shown(halves[0])} is a data set half-written; if no other run is writing it,"
            " --restart removes it and begins anew"
        )
    elif folder.is_dir():
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
    return True


def _same_recipe(builder: _Builder, folder: Path) -> bool:
    """False; InputError if what is in the folder was made otherwise."""
    dataset_builder(folder)  # what cannot be read is not there
    written = dataset_recipe(folder)
    for name, value in builder.recipe.items():
        if written.get(name, value) != value:  # what an older version did not write is not compared
            raise InputError(
                f"{shown(folder)} holds a data set with {name} {written[name]!r}, not"
                f" {value!r}; choose another folder, or --restart"
            )
    _same_files(builder, folder)
    return False


def _same_files(builder: _Builder, folder: Path) -> None:
    """Raises InputError if the data set in the folder was made of files of other contents."""
    path = folder / TRACES
    if builder.files is None or builder.tracer is None or not path.is_file():
        return
    found = builder.tracer.check(range(len(builder.files)), read_traces(path))
    if found.changed:
        others = f" and {len(found.changed) - 1} more" if len(found.changed) > 1 else ""
        raise InputError(
            f"{shown(builder.files.path(found.changed[0]))}{others}: not what {shown(folder)} was"
            " made of any more; choose another folder, or --restart"
        )


def _encoded(path: Path, size: int, max_pixels: int) -> bytes | ImageError:
    """The bytes to store for an image file.

    Those of the file where any decoder makes of them what `read_image` does: plain JPEG. Else PNG.
    """
    try:
        content = path.read_bytes()
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
