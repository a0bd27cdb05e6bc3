"""Cameras of photographs, one file each, and how a photograph is framed.

NAME.camera stands beside the photograph NAME, in the format of the multi-view stereo benchmark of
Strecha et al. (CVPR 2008): the calibration matrix (3 lines), radial distortion (1), the
camera-to-world rotation (3), the camera's centre (1) and the size of the image that the calibration
is of (1), for images may have been made smaller. The network sees square frames of one field of
view about the principal point: square pixels, the cameras' true angular scale; beyond a photograph
its edge is repeated.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from posenet_jax.data.text_lines import read_lines
from posenet_jax.errors import InputError, shown

# The photographs are 58 degrees wide; fixed before any of them was looked at.
FRAME = np.radians(60.0)

_MOST_BYTES = 2**16
_LARGEST_NUMBER = 1e12
# In longer sides of the image: from a field of view of 179 degrees to one of 6.
_FOCAL = 0.005, 10.0


class PhotographCamera(NamedTuple):
    """Camera of one photograph, as it was taken."""

    calibration: np.ndarray  # [3, 3] pixels
    rotation: np.ndarray  # [3, 3] camera to world
    centre: np.ndarray  # [3] metres
    width: int
    height: int


def read_camera(path: str | Path) -> PhotographCamera:
    """Raises InputError, naming the file, unless it holds a camera of this format."""
    words = [word for line in read_lines(path, _MOST_BYTES) for word in line.words]
    try:
        # Python reads 1_5 as fifteen.
        numbers = np.array([float(word.replace("_", "?")) for word in words])
    except ValueError as error:
        raise InputError(f"{shown(path)} is not a camera file: {str(error)[:80]}") from error
    if len(numbers) != 26:
        raise InputError(f"{shown(path)} holds {len(numbers)} numbers; a camera file holds 26")
    if not (np.abs(numbers) < _LARGEST_NUMBER).all():
        raise InputError(f"{shown(path)} holds numbers that are too large or none at all")
    calibration, rotation = numbers[:9].reshape(3, 3), numbers[12:21].reshape(3, 3)
    turned_back = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if turned_back > 1e-3 or np.linalg.det(rotation) < 0.0:
        raise InputError(f"{shown(path)}: lines 5 to 7 are not a rotation")
    size = numbers[24:]
    if (size < 1.0).any() or (size % 1.0).any():
        raise InputError(f"{shown(path)}: the last line is not an image's width and height")
    camera = PhotographCamera(calibration, rotation, numbers[21:24], *map(int, size))
    return checked(camera, shown(path))


def checked(camera: PhotographCamera, where: str) -> PhotographCamera:
    """Returns the camera. Raises InputError, which begins with `where`, if no camera can be so."""
    calibration, size = camera.calibration, np.array([camera.width, camera.height])
    if (size < 1).any():
        raise InputError(f"{where}: width and height are not those of an image")
    if not (_FOCAL[0] < calibration[0, 0] / size.max() < _FOCAL[1]):
        raise InputError(f"{where}: the focal length is not one of an image of that size")
    if (calibration[:2, 2] < 0.0).any() or (calibration[:2, 2] > size).any():
        raise InputError(f"{where}: the principal point lies outside the image")
    if not (np.abs(camera.centre) < _LARGEST_NUMBER).all():
        raise InputError(f"{where}: numbers that are too large")
    return camera


def square_frame(
    image: np.ndarray, camera: PhotographCamera, field_of_view: float, size: int
) -> np.ndarray:
    """[size, size, 3] uint8: the photograph [H, W, 3] in a frame of `field_of_view` radians."""
    height, width = image.shape[:2]
    scale = width / camera.width
    half = scale * camera.calibration[0, 0] * np.tan(0.5 * field_of_view)
    x, y = scale * camera.calibration[:2, 2]
    margin = int(np.ceil(max(half - min(x, y), half - min(width - x, height - y), 0.0))) + 1
    # Along rows, then along columns, as Pillow itself does it: the frame may be far larger than the
    # photograph, and what is beyond it is not to be held.
    for centre in (x, y):
        padded = Image.fromarray(np.pad(image, [(0, 0), (margin, margin), (0, 0)], "edge"))
        box = (centre - half + margin, 0, centre + half + margin, len(image))
        narrow = padded.resize((size, len(image)), Image.Resampling.BICUBIC, box=box)
        image = np.asarray(narrow).swapaxes(0, 1)
    return np.ascontiguousarray(image)


def check_shape(path: Path, image: np.ndarray, camera: PhotographCamera) -> None:
    """Raises InputError unless the image is the camera's, of any size, whole and unturned."""
    height, width = image.shape[:2]
    if abs(width * camera.height / camera.width - height) > 0.02 * height + 1.0:
        sizes = f"{width}x{height} pixels; its camera file is of {camera.width}x{camera.height}"
        raise InputError(f"{shown(path)}: {sizes}, which is of another shape")
