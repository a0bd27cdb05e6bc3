"""Reader of the public data set 3D_Street_View: street-view images of known targets and cameras.

The data set and its README: github.com/amir32002/3D_Street_View (Zamir et al., "Generic 3D
Representation via Pose Estimation and Matching", ECCV 2016). An image is named
DatasetID_ImageID_ViewID_TargetID.jpg and shows its target, a point on a facade, at its centre; a
.txt of the same name beside it holds the letter d and 17 numbers, and where the image was aligned a
second line, the letter a and 40 numbers. Ids are unique within one dataset, a region of the map.

Files write degrees, and headings clockwise from north. Here angles are radians, positions are
metres east, north and up (x, y, z) of the image's own target point, and a camera's axes are x
right, y down, z forward. Differences are taken in float64 before anything becomes metres: a
longitude in float32 is good to a few metres only.
"""

import dataclasses
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from posenet_jax.data.geodesy import Location, east_north_up
from posenet_jax.data.text_lines import Line, read_lines
from posenet_jax.errors import InputError, Unreachable, shown
from posenet_jax.images import bucket_folder
from posenet_jax.images.image_list import ImageList
from posenet_jax.io import storage

FIELD_OF_VIEW = math.radians(89.75)
"""Horizontal, of every image."""

_IDS = ("DatasetID", "TargetID", "PatchID", "StreetViewID")
_MEASURES = (
    *("target latitude", "target longitude", "target height"),
    *("normal x", "normal y", "normal z"),
    *("camera latitude", "camera longitude", "camera height"),
    *("distance", "heading", "pitch", "roll"),
)
# Either side of zero: degrees, and metres of heights and distances on this earth.
_LIMITS = {
    **{"latitude": 90.0, "longitude": 180.0, "pitch": 90.0, "heading": 720.0, "roll": 720.0},
    **{"height": 1e5, "distance": 1e6},
}
# Pixels and scores of an alignment; float32 holds them.
_LARGEST_NUMBER = 1e30
_MOST_BYTES = 2**20
_ALIGNMENT_COUNT = 40
_EXTENSIONS = (".jpg", ".jpeg")


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Alignment:
    """Alignment of an image, in the image's pixels, as the README orders it.

    The README lists 40 numbers; released files are reported to hold more (issue 13 of the data
    set's repository). The further ones are `rest`; where there are any, trust `patch_centre` only.
    """

    patch_centre: np.ndarray  # [2] where the target is seen
    warp: np.ndarray  # [3, 3] makes the target's surface face the viewer
    box: np.ndarray  # [4, 2] corners of a square about the target, of one size for all its views
    registration: np.ndarray  # [3, 3] brings the target to the image's centre
    flow_energy: float  # of SIFT flow in total, low is good
    inlier_ratio: float  # high is good, as the next two
    similarity: float
    distortion: float
    corrected_box: np.ndarray  # [4, 2] `box` after alignment
    rest: np.ndarray  # [N] undocumented


@dataclasses.dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class StreetViewImage:
    """One image and its camera."""

    path: Path  # of the image
    dataset: int
    target: int
    patch: int
    street_view: int  # the place of the camera
    target_location: Location
    camera_location: Location
    normal: np.ndarray  # [3] unit, of the target's surface, as written: either side may face us
    distance: float  # metres from camera to target, as written
    heading: float  # radians, clockwise from north
    pitch: float  # radians, upward
    roll: float  # radians; zero throughout the data set
    alignment: Alignment | None

    @property
    def target_name(self) -> str:
        """Identifies the target among all datasets: what is split, see `splits.split_of`."""
        return f"{self.dataset}/{self.target}"

    @property
    def target_point(self) -> np.ndarray:
        """[3] the origin of the image's frame."""
        return np.zeros(3)

    @property
    def centre(self) -> np.ndarray:
        """[3] metres, of the camera."""
        return east_north_up(self.camera_location, self.target_location)

    @property
    def rotation(self) -> np.ndarray:
        """[3, 3] camera-to-world, float64."""
        return camera_rotation(self.heading, self.pitch, self.roll)


class StreetViewSet(NamedTuple):
    """Images of a folder that could be read.

    images: sorted by their paths.
    failures: one error for each file left out.
    """

    images: list[StreetViewImage]
    failures: list[InputError]


def camera_rotation(heading: float, pitch: float, roll: float) -> np.ndarray:
    """[3, 3] camera-to-world rotation, float64, of the data set's angles in radians.

    It is `geometry.camera_rotation(pi / 2 - heading, pitch, roll)`: heading turns clockwise from
    north, pitch raises the view. No image is rolled, so which way counts as positive is unwritten.
    """
    right = np.array([math.cos(heading), -math.sin(heading), 0.0])
    level = np.array([math.sin(heading), math.cos(heading), 0.0])
    forward = math.cos(pitch) * level + math.sin(pitch) * np.array([0.0, 0.0, 1.0])
    c, s = math.cos(roll), math.sin(roll)
    about_forward = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    return np.stack([right, np.cross(forward, right), forward], axis=1) @ about_forward


def read_metadata(path: str | Path) -> StreetViewImage:
    """The record of an image, given its path or that of its .txt file; pixels are not read.

    Of the four ids in the name only dataset and target are compared with those in the file: the
    README does not say which of the others is the patch and which the street view. The normal's
    axes (web Mercator) are taken as east, north, up, which for upright facades is exact.

    Raises InputError, naming file, line and what is wrong, for anything but a file of this format.
    """
    path = storage.path(path)
    text = path.with_suffix(".txt")
    image = path.with_suffix(".jpg") if path == text else path
    named = _ids_in_name(text)
    lines = read_lines(text, _MOST_BYTES)
    if not lines:
        raise InputError(f"{shown(text)}, line 1: no line that begins with d; the file is empty")
    if len(lines) > 2:
        raise InputError(f"{lines[2].where}: a third line; a file holds one d and at most one a")
    ids, values = _camera_numbers(lines[0])
    if named != (ids["DatasetID"], ids["TargetID"]):
        written = f"dataset {ids['DatasetID']} and target {ids['TargetID']}"
        raise InputError(
            f"{lines[0].where}: {written}, where the file's name says {named[0]} and {named[1]}"
        )
    return StreetViewImage(
        path=image,
        dataset=ids["DatasetID"],
        target=ids["TargetID"],
        patch=ids["PatchID"],
        street_view=ids["StreetViewID"],
        target_location=_location(values, "target"),
        camera_location=_location(values, "camera"),
        normal=_normal(values, lines[0].where),
        distance=values["distance"],
        heading=math.radians(values["heading"]),
        pitch=math.radians(values["pitch"]),
        roll=math.radians(values["roll"]),
        alignment=_alignment(lines[1]) if len(lines) == 2 else None,
    )


def scan_folder(folder: str | Path) -> Iterator[StreetViewImage | InputError]:
    """The images below a folder one by one, in a fixed order; errors for what is left out.

    Left out are malformed files, images without a .txt beside them, and .txt files named like an
    image that is not there. Other files are passed over. Hidden folders are not entered.
    """
    unlisted: list[OSError] = []
    found = _in_bucket(folder) if storage.is_bucket(folder) else _on_disk(folder, unlisted)
    for parent, names in found:
        yield from _scan_files(parent, names)
    for error in unlisted:
        yield InputError(f"{shown(error.filename)}: cannot be listed ({error.strerror})")


def _on_disk(folder: str | Path, unlisted: list[OSError]) -> Iterator[tuple[str, list[str]]]:
    """Yields (folder, sorted names of its files) of all folders that are not hidden."""
    for parent, folders, names in os.walk(folder, onerror=unlisted.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield parent, sorted(name for name in names if name[0] != ".")


def _in_bucket(folder: str | Path) -> Iterator[tuple[str, list[str]]]:
    """Yields the same of a bucket, in the same order."""
    parts = sorted(os.fsdecode(file.path).split("/") for file in _files_in_bucket(folder))
    parts.sort(key=lambda names: names[:-1])
    for within, files in itertools.groupby(parts, lambda names: names[:-1]):
        yield "/".join([os.fspath(folder).rstrip("/"), *within]), [names[-1] for names in files]


def _files_in_bucket(folder: str | Path) -> list[bucket_folder.BucketFile]:
    top = os.fspath(folder).rstrip("/")
    return bucket_folder.files(top, top, ())


def listed_files(folder: str | Path) -> ImageList:
    """The images and .txt files that `scan_folder` looks at, those that it leaves out too."""
    if storage.is_bucket(folder):
        return _listed_in_bucket(folder)
    top, found = os.fsencode(folder), []
    for parent, folders, names in os.walk(top):
        folders[:] = [name for name in folders if not name.startswith(b".")]
        endings = [os.fsdecode(os.path.splitext(name)[1]).lower() for name in names]
        found += [
            os.path.relpath(os.path.join(parent, name), top)
            for name, ending in zip(names, endings, strict=True)
            if ending in (*_EXTENSIONS, ".txt") and not name.startswith(b".")
        ]
    return ImageList(os.fspath(folder), sorted(found))


def _listed_in_bucket(folder: str | Path) -> ImageList:
    listed = [
        file
        for file in sorted(_files_in_bucket(folder))
        if os.path.splitext(os.fsdecode(file.path))[1].lower() in (*_EXTENSIONS, ".txt")
    ]
    facts = np.array([(file.size, *file.times) for file in listed], np.int64)
    top = os.fspath(folder).rstrip("/")
    return ImageList(top, [file.path for file in listed], listed=facts)


def read_folder(folder: str | Path) -> StreetViewSet:
    """All images below a folder, dataset folders within it included.

    A record takes one or two kilobytes; for the whole data set, of 25 million images, see
    `scan_folder`. Raises InputError if nothing can be read.
    """
    result = StreetViewSet([], [])
    for outcome in scan_folder(folder):
        if isinstance(outcome, InputError):
            result.failures.append(outcome)
        else:
            result.images.append(outcome)
    if not result.images:
        first = f"; the first of {len(result.failures)} failures: " if result.failures else ""
        raise InputError(
            f"{shown(folder)}: no image of 3D_Street_View to be read"
            + "".join([first, *map(str, result.failures[:1])])
        )
    result.images.sort(key=lambda image: image.path)
    return result


def _scan_files(parent: str, names: Sequence[str]) -> Iterator[StreetViewImage | InputError]:
    present = set(names)
    pictured = set()
    for name in names:
        stem, extension = os.path.splitext(name)
        if extension.lower() not in _EXTENSIONS:
            continue
        pictured.add(stem)
        path = storage.path(os.path.join(parent, name))
        if f"{stem}.txt" not in present:
            yield InputError(f"{shown(path)}: no {shown(stem)}.txt beside this image")
            continue
        try:
            yield read_metadata(path)
        except Unreachable:
            raise
        except InputError as error:
            yield error
    for name in names:
        stem, extension = os.path.splitext(name)
        # A README or a list of pairs is no metadata.
        if extension == ".txt" and stem not in pictured and stem.count("_") == 3:
            yield InputError(
                f"{shown(os.path.join(parent, name))}: no image of this name beside it"
            )


def _ids_in_name(path: Path) -> tuple[int, int]:
    """Dataset and target of a file's name."""
    parts = path.stem.split("_")
    if len(parts) != 4 or not all(part.isdecimal() for part in (parts[0], parts[3])):
        raise InputError(f"{shown(path)}: not named DatasetID_ImageID_ViewID_TargetID")
    return int(parts[0]), int(parts[3])


def _camera_numbers(line: Line) -> tuple[dict[str, int], dict[str, float]]:
    """Ids and measures of a d line by their names, checked for their ranges."""
    words = _words_after("d", line)
    expected = len(_IDS) + len(_MEASURES)
    if len(words) != expected:
        raise InputError(f"{line.where}: {len(words)} numbers after d; expected {expected}")
    named = list(zip(_IDS + _MEASURES, words, strict=True))
    ids = {name: _whole(word, name, line.where) for name, word in named[: len(_IDS)]}
    values = {name: _number(word, name, line.where) for name, word in named[len(_IDS) :]}
    for name, value in values.items():
        limit = _LIMITS.get(name.split()[-1], math.inf)
        if abs(value) > limit:
            raise InputError(
                f"{line.where}: {name} is {value:g}, out of range (-{limit:g} to {limit:g})"
            )
    if values["distance"] < 0.0:
        raise InputError(f"{line.where}: distance is {values['distance']:g}, which is negative")
    return ids, values


def _words_after(letter: str, line: Line) -> list[str]:
    if line.words[0] != letter:
        raise InputError(f"{line.where}: begins with {line.words[0][:20]!r}; expected {letter}")
    return line.words[1:]


def _number(word: str, name: str, where: str) -> float:
    try:
        # Python reads 1_5 as fifteen.
        value = float(word.replace("_", "?"))
    except ValueError as error:
        raise InputError(f"{where}: {name} is {word[:20]!r}, not a number") from error
    if not math.isfinite(value):
        raise InputError(f"{where}: {name} is {word[:20]}, not finite")
    if abs(value) > _LARGEST_NUMBER:
        raise InputError(f"{where}: {name} is {word[:20]}, larger than any such number")
    return value


def _whole(word: str, name: str, where: str) -> int:
    # Longer ones are no ids, and Python refuses to convert the very long.
    if not word.removeprefix("-").isdecimal() or len(word) > 18:
        raise InputError(f"{where}: {name} is {word[:20]!r}, not a whole number")
    return int(word)


def _location(values: dict[str, float], of: str) -> Location:
    latitude, longitude = (values[f"{of} {axis}"] for axis in ("latitude", "longitude"))
    return Location(math.radians(latitude), math.radians(longitude), values[f"{of} height"])


def _normal(values: dict[str, float], where: str) -> np.ndarray:
    """[3] of length one; as written it is rounded."""
    normal = np.array([values[f"normal {axis}"] for axis in "xyz"])
    length = float(np.linalg.norm(normal))
    if abs(length - 1.0) > 1e-2:
        raise InputError(f"{where}: the normal's length is {length:g}; expected 1")
    return normal / length


def _alignment(line: Line) -> Alignment:
    words = _words_after("a", line)
    if len(words) < _ALIGNMENT_COUNT:
        raise InputError(
            f"{line.where}: {len(words)} numbers after a; expected {_ALIGNMENT_COUNT} or more"
        )
    values = np.array(
        [_number(word, f"number {i} of the line", line.where) for i, word in enumerate(words, 1)]
    )
    centre, warp, box, registration, scores, corrected, rest = np.split(
        values, np.cumsum([2, 9, 8, 9, 4, 8])
    )
    energy, inliers, similarity, distortion = scores.tolist()
    return Alignment(
        patch_centre=centre,
        warp=warp.reshape(3, 3),
        box=box.reshape(4, 2),
        registration=registration.reshape(3, 3),
        flow_energy=energy,
        inlier_ratio=inliers,
        similarity=similarity,
        distortion=distortion,
        corrected_box=corrected.reshape(4, 2),
        rest=rest,
    )
