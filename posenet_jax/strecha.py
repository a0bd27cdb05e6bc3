"""Photographs with exact cameras: the multi-view stereo benchmark of Strecha et al. (CVPR 2008).

A scene is a folder of images, each with NAME.camera beside it: the calibration matrix (3 lines),
radial distortion (1), the camera-to-world rotation (3), the camera's centre (1) and the size of the
image that the calibration is of (1), for images may have been made smaller. The network sees square
frames of one field of view about the principal point: square pixels, the cameras' true angular
scale; beyond a photograph its edge is repeated.
"""

import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from posenet_jax import image_files
from posenet_jax.errors import ImageError, InputError

# The photographs are 58 degrees wide; fixed before any of them was looked at.
FRAME = np.radians(60.0)


class PhotographCamera(NamedTuple):
    """Of one photograph, as it was taken."""

    calibration: np.ndarray  # [3, 3] pixels
    rotation: np.ndarray  # [3, 3] camera to world
    centre: np.ndarray  # [3] metres
    width: int
    height: int


class PhotographPairs(NamedTuple):
    """Pairs of photographs of one scene. P pairs."""

    image: np.ndarray  # [P, 2, size, size, 3] uint8 RGB
    rotation: np.ndarray  # [P, 2, 3, 3] camera to world
    centre: np.ndarray  # [P, 2, 3]
    names: list[tuple[str, str]]


def read_camera(path: str | Path) -> PhotographCamera:
    """Raises InputError, naming the file, unless it holds a camera of this format."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        numbers = [float(word) for word in text.split()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a camera file: {error}") from error
    if len(numbers) != 26:
        raise InputError(f"{path} holds {len(numbers)} numbers; a camera file holds 26")
    rotation = np.asarray(numbers[12:21]).reshape(3, 3)
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3):
        raise InputError(f"{path}: lines 5 to 7 are not a rotation")
    return PhotographCamera(
        np.asarray(numbers[:9]).reshape(3, 3),
        rotation,
        np.asarray(numbers[21:24]),
        int(numbers[24]),
        int(numbers[25]),
    )


def square_frame(
    image: np.ndarray, camera: PhotographCamera, field_of_view: float, size: int
) -> np.ndarray:
    """[size, size, 3] uint8: the photograph [H, W, 3] in a frame of `field_of_view` radians."""
    height, width = image.shape[:2]
    scale = width / camera.width
    half = scale * camera.calibration[0, 0] * np.tan(0.5 * field_of_view)
    x, y = scale * camera.calibration[:2, 2]
    margin = int(np.ceil(max(half - min(x, y), half - min(width - x, height - y), 0.0))) + 1
    padded = Image.fromarray(np.pad(image, [(margin, margin), (margin, margin), (0, 0)], "edge"))
    box = (x - half + margin, y - half + margin, x + half + margin, y + half + margin)
    frame = padded.resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=None)
    return np.asarray(frame)


def read_pairs(
    folder: str | Path,
    *,
    size: int = 100,
    field_of_view: float = FRAME,
    largest_rotation: float = np.radians(60.0),
) -> tuple[PhotographPairs, list[ImageError]]:
    """(all pairs within a scene that turn less than `largest_rotation`, images left out).

    `folder` is a scene or holds scenes. Raises InputError where there is no pair.
    """
    scenes: dict[Path, list[tuple[str, np.ndarray, PhotographCamera]]] = {}
    failures = []
    for path in image_files.find_images(folder):
        try:
            image = image_files.read_image(path)
        except ImageError as error:
            failures.append(error)
            continue
        camera = read_camera(f"{path}.camera")
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
        raise InputError(f"{folder} holds no two photographs of a scene with NAME.camera beside")
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
