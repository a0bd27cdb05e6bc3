"""Files in the format of 3D_Street_View for tests, and earth-centred coordinates as their oracle.

Places are given in metres about a target; their latitude and longitude come from ECEF, by other
formulas than the reader's.
"""

import math
from pathlib import Path

import numpy as np
from PIL import Image

# Latitude and longitude in degrees, height in metres.
CITIES = {
    "New York": (40.7484, -73.9857, 15.0),
    "Amsterdam": (52.3676, 4.9041, 3.0),
    "Las Vegas": (36.1147, -115.1728, 620.0),
    "Sydney": (-33.8688, 151.2093, 40.0),
    "equator": (0.0, 179.9999, 0.0),
}
ALIGNMENT = [float(n) for n in range(40)]

_A, _B = 6_378_137.0, 6_356_752.314245


def _ecef(latitude: float, longitude: float, height: float) -> np.ndarray:
    """[3] metres, of radians and metres."""
    c, s = math.cos(latitude), math.sin(latitude)
    normal = _A**2 / math.hypot(_A * c, _B * s)
    radius = (normal + height) * c
    up = ((_B / _A) ** 2 * normal + height) * s
    return np.array([radius * math.cos(longitude), radius * math.sin(longitude), up])


def _axes(latitude: float, longitude: float) -> np.ndarray:
    """[3, 3] rows east, north, up in ECEF."""
    c, s = math.cos(latitude), math.sin(latitude)
    cl, sl = math.cos(longitude), math.sin(longitude)
    return np.array([[-sl, cl, 0.0], [-s * cl, -s * sl, c], [c * cl, c * sl, s]])


def offset_by_ecef(place, origin) -> np.ndarray:
    """[3] metres east, north, up of `origin`; both (latitude, longitude, height) in radians."""
    return _axes(*origin[:2]) @ (_ecef(*place) - _ecef(*origin))


def moved(origin_degrees, offset) -> np.ndarray:
    """[3] degrees, degrees, metres of the place `offset` metres east, north, up of a place."""
    latitude, longitude = np.radians(origin_degrees[:2])
    point = _ecef(latitude, longitude, origin_degrees[2]) + offset @ _axes(latitude, longitude)
    # Each round leaves about a hundredth of the error: the radii are not quite the equator's.
    guess = np.array([latitude, longitude, origin_degrees[2]])
    for _ in range(20):
        east, north, up = _axes(*guess[:2]) @ (point - _ecef(*guess))
        guess += [north / _A, east / (_A * math.cos(guess[0])), up]
    return np.array([*np.degrees(guess[:2]), guess[2]])


def metadata(
    dataset: int = 6,
    target: int = 20,
    patch: int = 3,
    street_view: int = 4,
    city=CITIES["New York"],
    place=(0.0, -20.0, -2.0),
    normal=(0.0, -1.0, 0.0),
    alignment=None,
    aim=(0.0, 0.0),
) -> str:
    """The text of a file: a camera `place` metres about its target that looks at it.

    `aim`: degrees by which heading and pitch differ from that.
    """
    camera = moved(city, np.asarray(place))
    if camera[1] > 180.0:
        camera[1] -= 360.0
    east, north, up = -np.asarray(place)
    distance = float(np.linalg.norm(place))
    heading = math.degrees(math.atan2(east, north)) % 360.0 + aim[0]
    pitch = math.degrees(math.asin(up / distance)) + aim[1]
    ids = [dataset, target, patch, street_view]
    measures = [*city, *normal, *camera.tolist(), distance, heading, pitch, 0.0]
    text = "d " + " ".join(map(str, [*ids, *measures]))
    return text if alignment is None else text + "\na " + " ".join(map(str, alignment))


def write_view(folder: Path, *, view: int = 1, picture: bool | np.ndarray = True, **fields) -> Path:
    """Writes an image (grey, or the one given) and its text; the image's path.

    `fields` are those of `metadata`; the view is its street-view id unless they name one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fields = {"street_view": view} | fields
    dataset, target = fields.get("dataset", 6), fields.get("target", 20)
    path = folder / f"{dataset:04d}_1_{view}_{target:04d}.jpg"
    path.with_suffix(".txt").write_text(metadata(**fields) + "\n")
    if isinstance(picture, np.ndarray):
        Image.fromarray(picture).save(path, quality=95)
    elif picture:
        Image.new("RGB", (8, 8), (90, 120, 150)).save(path)
    return path
