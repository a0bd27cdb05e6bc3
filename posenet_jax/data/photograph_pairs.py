"""Pairs of photographs with known cameras: of NAME.camera files, or COLMAP models as text."""

import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np

from posenet_jax import errors
from posenet_jax.data import colmap
from posenet_jax.data.photograph_cameras import (
    FRAME,
    PhotographCamera,
    check_shape,
    read_camera,
    square_frame,
)
from posenet_jax.errors import ImageError, InputError, shown
from posenet_jax.images import image_files
from posenet_jax.images.image_list import ImageList, as_list
from posenet_jax.io import storage

# Where a model lies, from the folder that its images are named from or that one is in.
_MODEL_FOLDERS = ("", "sparse", "sparse/0")
_IMAGE_FOLDERS = ("", "images")
Model = dict[str, PhotographCamera]


class PhotographPairs(NamedTuple):
    """Pairs of photographs of one scene. P pairs."""

    image: np.ndarray  # [P, 2, size, size, 3] uint8 RGB
    rotation: np.ndarray  # [P, 2, 3, 3] camera to world
    centre: np.ndarray  # [P, 2, 3]
    names: list[tuple[str, str]]


def camera_of(path: Path, models: dict[Path, Model]) -> PhotographCamera:
    """Returns a photograph's camera, of NAME.camera beside it or of a COLMAP model of its folder.

    A model is looked for in the folder and the two above it, there or in `sparse/0`, and read into
    `models` once. Raises InputError where there is neither.
    """
    beside = path.with_name(f"{path.name}.camera")
    if storage.exists(beside):
        return read_camera(beside)
    for folder in storage.parents(path)[:3]:
        for inner in _MODEL_FOLDERS:
            if not storage.is_file(folder / inner / colmap.MODEL):
                continue
            model = folder / inner
            if model not in models:
                models[model] = colmap.read_model(model)
            cameras = models[model]
            for images in _IMAGE_FOLDERS:
                top = folder / images
                if path.is_relative_to(top) and path.relative_to(top).as_posix() in cameras:
                    return cameras[path.relative_to(top).as_posix()]
            if path.name in cameras:
                return cameras[path.name]
    raise InputError(
        f"{shown(path)}: no {beside.name} beside it, and no COLMAP model that names it"
    )


def read_pairs(
    images: ImageList | str | Path,
    *,
    size: int = 100,
    field_of_view: float = FRAME,
    largest_rotation: float = np.radians(60.0),
    max_pixels: int = image_files.MAX_PIXELS,
) -> tuple[PhotographPairs, list[ImageError]]:
    """(all pairs within a scene that turn less than `largest_rotation`, images left out).

    `images` are those of a scene or of several, each in a folder of its own. Raises InputError
    where there is no pair, and for a photograph without a camera of its own shape.
    """
    scenes: dict[Path, list[tuple[str, np.ndarray, PhotographCamera]]] = {}
    failures: list[ImageError] = []
    models: dict[Path, Model] = {}
    files = as_list(images)
    for path in files:
        try:
            image = image_files.read_image(path, max_pixels=max_pixels)
        except ImageError as error:
            failures.append(error)
            continue
        camera = camera_of(path, models)
        check_shape(path, image, camera)
        frame = square_frame(image, camera, field_of_view, size)
        name = f"{path.parent.name}/{path.name}"
        scenes.setdefault(path.parent, []).append((name, frame, camera))
    pairs = [
        pair
        for views in scenes.values()
        for pair in itertools.combinations(views, 2)
        if _angle(pair[0][2].rotation, pair[1][2].rotation) < largest_rotation
    ]
    if not pairs:
        folder = errors.shown(files.folder)
        raise InputError(f"{folder} holds no two photographs of a scene with known cameras")
    return (
        PhotographPairs(
            np.stack([[v[1] for v in pair] for pair in pairs]),
            np.stack([[v[2].rotation for v in pair] for pair in pairs]).astype(np.float32),
            np.stack([[v[2].centre for v in pair] for pair in pairs]).astype(np.float32),
            [(pair[0][0], pair[1][0]) for pair in pairs],
        ),
        failures,
    )


def _angle(first: np.ndarray, second: np.ndarray) -> float:
    cosine = 0.5 * (np.trace(first.T @ second) - 1.0)
    return float(np.arccos(np.clip(cosine, -1.0, 1.0)))
