"""Cameras of a COLMAP model written as text: `cameras.txt` and `images.txt`.

The format is COLMAP's (documentation, "Output Format"). A camera is a line
`CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]`; an image is two lines, of which the first is
`IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME` and the second its points, which are not needed.
Quaternion and translation take world to camera: x = R X + t; the camera's centre is -Rᵀ t. Pixels
count from the image's corner. Distortion is ignored, as it is of other cameras here.
"""

import math
from pathlib import Path

import numpy as np

from posenet_jax.data.photograph_cameras import PhotographCamera, checked
from posenet_jax.data.text_lines import Line, read_lines
from posenet_jax.errors import InputError, shown
from posenet_jax.io import storage

MODEL = "images.txt"
"""The file by which a folder is known to hold a model."""

# Model -> number of its parameters, and where focal lengths (x, y) and the principal point stand.
_MODELS = {
    "SIMPLE_PINHOLE": (3, (0, 0), (1, 2)),
    "PINHOLE": (4, (0, 1), (2, 3)),
    "SIMPLE_RADIAL": (4, (0, 0), (1, 2)),
    "RADIAL": (5, (0, 0), (1, 2)),
    "OPENCV": (8, (0, 1), (2, 3)),
    "FULL_OPENCV": (12, (0, 1), (2, 3)),
}
_MOST_BYTES = 2**30


def _numbers(line: Line, words: list[str]) -> list[float]:
    try:
        # Python reads 1_5 as fifteen.
        numbers = [float(word.replace("_", "?")) for word in words]
    except ValueError as error:
        raise InputError(f"{line.where}: {str(error)[:80]}") from error
    if not all(map(math.isfinite, numbers)):
        raise InputError(f"{line.where}: a number is not finite")
    return numbers


def _intrinsics(path: Path) -> dict[str, tuple[np.ndarray, int, int]]:
    """Returns {camera's id: (calibration [3, 3], width, height)} of `cameras.txt`."""
    cameras = {}
    for line in read_lines(path, _MOST_BYTES):
        if line.words[0].startswith("#"):
            continue
        if len(line.words) < 5 or line.words[1] not in _MODELS:
            known = ", ".join(_MODELS)
            raise InputError(f"{line.where}: no camera of a known model ({known})")
        identity, model, *rest = line.words
        count, focal, centre = _MODELS[model]
        numbers = _numbers(line, rest)
        if len(numbers) != 2 + count:
            raise InputError(f"{line.where}: {model} has {count} parameters, not {len(rest) - 2}")
        (width, height), values = numbers[:2], numbers[2:]
        if width % 1.0 or height % 1.0:
            raise InputError(f"{line.where}: width and height are not whole numbers")
        calibration = np.array(
            [
                [values[focal[0]], 0.0, values[centre[0]]],
                [0.0, values[focal[1]], values[centre[1]]],
                [0.0, 0.0, 1.0],
            ]
        )
        cameras[identity] = calibration, int(width), int(height)
    return cameras


def _rotation(line: Line, quaternion: list[float]) -> np.ndarray:
    """Returns the rotation [3, 3] of a unit quaternion (w, x, y, z)."""
    length = math.hypot(*quaternion)
    if abs(length - 1.0) > 1e-2:
        raise InputError(f"{line.where}: QW to QZ are not a rotation")
    w, x, y, z = (value / length for value in quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def read_model(folder: str | Path) -> dict[str, PhotographCamera]:
    """Returns the cameras of a model's images, by the images' names.

    Raises InputError, naming file and line, for what is not a model.
    """
    folder = storage.path(folder)
    intrinsics = _intrinsics(folder / "cameras.txt")
    cameras = {}
    for line in read_lines(folder / MODEL, _MOST_BYTES):
        if line.words[0].startswith("#") or not _is_image(line, intrinsics):
            continue
        pose = _numbers(line, line.words[1:8])
        rotation = _rotation(line, pose[:4])
        calibration, width, height = intrinsics[line.words[8]]
        centre = -rotation.T @ np.array(pose[4:])
        camera = PhotographCamera(calibration, rotation.T, centre, width, height)
        cameras[" ".join(line.words[9:])] = checked(camera, line.where)
    if not cameras:
        raise InputError(f"{shown(folder / MODEL)} holds no image of a camera in cameras.txt")
    return cameras


def _is_image(line: Line, intrinsics: dict[str, tuple[np.ndarray, int, int]]) -> bool:
    """Does a line say where an image was taken, rather than the points in one?

    Points are triples of numbers; an image without any has an empty line, which is not among these.
    """
    if len(line.words) % 3 == 0 and all(_is_number(word) for word in line.words):
        return False
    if len(line.words) < 10 or line.words[8] not in intrinsics:
        raise InputError(f"{line.where}: neither an image of a camera in cameras.txt nor points")
    return True


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
