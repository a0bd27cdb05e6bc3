"""Pairs of 3D_Street_View images: matching ones, others, and what training takes from a pair.

Conventions are those of `street_view`. P pairs.
"""

import collections
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from posenet_jax.data.geodesy import east_north_up
from posenet_jax.data.street_view import StreetViewImage
from posenet_jax.data.text_lines import read_lines
from posenet_jax.errors import InputError, shown
from posenet_jax.images.image_files import MAX_PIXELS, read_image
from posenet_jax.images.preprocessing import Preprocessing


class Pair(NamedTuple):
    """Two images; the first one's target point is the origin of their common frame."""

    first: StreetViewImage
    second: StreetViewImage


class PairArrays(NamedTuple):
    """Part of a pair that training takes; the fields of `training_pairs.Pairs`, unbatched."""

    image: np.ndarray  # [2, size, size, 3] uint8 RGB
    rotation: np.ndarray  # [2, 3, 3] float32, camera to world
    centre: np.ndarray  # [2, 3] float32 metres
    normal: np.ndarray  # [3] float32, unit, at the first's target, toward its camera, in its frame


class PairList(NamedTuple):
    """Pairs of a list that could be read.

    names: [P] the two images' names, as written.
    matching: [P] bool, whether both show the same target.
    failures: one error for each line left out.
    """

    names: list[tuple[str, str]]
    matching: np.ndarray
    failures: list[InputError]


def relative_cameras(
    first: StreetViewImage, second: StreetViewImage
) -> tuple[np.ndarray, np.ndarray]:
    """Rotations [2, 3, 3] (camera to world) and centres [2, 3] (metres) in one frame, float64.

    The origin is the first's target point, also where the second writes slightly different
    coordinates for the same target. The two places' norths are taken as parallel, which within
    100 m holds to a thousandth of a degree.
    """
    centre = east_north_up(second.camera_location, first.target_location)
    return np.stack([first.rotation, second.rotation]), np.stack([first.centre, centre])


def rotation_angle(first: np.ndarray, second: np.ndarray) -> float:
    """Angle in [0, pi] of the rotation between two rotations [3, 3].

    From the chord, ‖R1 - R2‖_F = 2√2 sin(angle/2), which is accurate near zero.
    """
    chord = float(np.linalg.norm(first - second))
    return 2.0 * math.asin(min(chord / (2.0 * math.sqrt(2.0)), 1.0))


def positive_pairs(
    images: Iterable[StreetViewImage], largest_rotation: float | None = None
) -> Iterator[Pair]:
    """Every two images of one target taken from different places, once each.

    Targets come in the order of their first image. With `largest_rotation` (radians) only pairs
    between whose cameras the rotation is smaller.
    """
    views: dict[str, list[StreetViewImage]] = collections.defaultdict(list)
    for image in images:
        views[image.target_name].append(image)
    for same in views.values():
        for first, second in itertools.combinations(same, 2):
            if first.street_view == second.street_view:
                continue
            if (
                largest_rotation is None
                or rotation_angle(first.rotation, second.rotation) < largest_rotation
            ):
                yield Pair(first, second)


def negative_pairs(
    images: Sequence[StreetViewImage], seed: int, count: int, *, same_dataset: bool = False
) -> list[Pair]:
    """`count` pairs of images of different targets, drawn with replacement.

    The first image is uniform among those that have a partner, the second among its partners: all
    images of other targets, with `same_dataset` those of its own dataset, the same part of a town.
    The same images and seed give the same pairs, whatever the order of the images.

    Raises InputError where no two images can form such a pair.
    """
    ordered = sorted(images, key=lambda image: (image.dataset, image.target, image.path))
    datasets = [image.dataset if same_dataset else 0 for image in ordered]
    pool_start, pool_stop = _runs(datasets)
    own_start, own_stop = _runs([(image.dataset, image.target) for image in ordered])
    partners = (pool_stop - pool_start) - (own_stop - own_start)
    candidates = np.flatnonzero(partners)
    if not candidates.size:
        where = " within a dataset" if same_dataset else ""
        raise InputError(f"{len(ordered)} images hold no two of different targets{where}")
    generator = np.random.default_rng(seed)
    first = generator.choice(candidates, count)
    # A number among the partners alone, then past the run of the first image's own target.
    second = pool_start[first] + generator.integers(0, partners[first])
    own = own_stop[first] - own_start[first]
    second = np.where(second >= own_start[first], second + own, second)
    return [Pair(ordered[i], ordered[j]) for i, j in zip(first, second, strict=True)]


def load_pair(
    pair: tuple[StreetViewImage, StreetViewImage],
    preprocessing: Preprocessing,
    *,
    max_pixels: int = MAX_PIXELS,
) -> PairArrays:
    """Images, poses and normal of a pair; the images whole, resized and never cropped.

    Raises ImageError, which names the file, if an image cannot be read.
    """
    first, second = pair
    images = [
        preprocessing.resize(read_image(image.path, max_pixels=max_pixels))
        for image in (first, second)
    ]
    rotation, centre = relative_cameras(first, second)
    return PairArrays(
        np.stack(images),
        rotation.astype(np.float32),
        centre.astype(np.float32),
        camera_normal(first).astype(np.float32),
    )


def camera_normal(image: StreetViewImage) -> np.ndarray:
    """[3] unit normal at the target, in the camera's frame, on the side the camera sees."""
    toward_camera = image.centre - image.target_point
    normal = image.normal if image.normal @ toward_camera >= 0.0 else -image.normal
    return image.rotation.T @ normal


def read_matching_list(path: str | Path) -> PairList:
    """A list of test pairs for matching: on each line two image names and a label, 1 or 0.

    The README does not describe the test set's lists; this layout is assumed. Empty lines are
    passed over. Raises InputError if the file cannot be opened or holds no pair.
    """
    return _read_list(path, labelled=True)


def read_pose_list(path: str | Path) -> PairList:
    """A list of test pairs for relative pose: on each line two image names. All are matching.

    The README does not describe the test set's lists; this layout is assumed. Empty lines are
    passed over. Raises InputError if the file cannot be opened or holds no pair.
    """
    return _read_list(path, labelled=False)


def _read_list(path: str | Path, *, labelled: bool) -> PairList:
    count, wanted = (3, "two image names and a label") if labelled else (2, "two image names")
    names, labels, failures = [], [], []
    for where, words in read_lines(path):
        if len(words) != count:
            failures.append(InputError(f"{where}: expected {wanted}; found {len(words)} words"))
        elif labelled and words[2] not in ("0", "1"):
            failures.append(InputError(f"{where}: the label is {words[2][:20]!r}; expected 0 or 1"))
        else:
            names.append((words[0], words[1]))
            labels.append(not labelled or words[2] == "1")
    if not names:
        raise InputError(
            f"{shown(path)}: no line of {count} words, {wanted}"
            + "".join(f"; first failure: {failure}" for failure in failures[:1])
        )
    return PairList(names, np.array(labels, bool), failures)


def _runs(keys: Sequence[object]) -> tuple[np.ndarray, np.ndarray]:
    """For each element the start and stop [N] of the run of equal keys it lies in."""
    lengths = [len(list(run)) for _, run in itertools.groupby(keys)]
    stops = np.cumsum(lengths, dtype=int)
    starts = stops - lengths
    return np.repeat(starts, lengths), np.repeat(stops, lengths)
