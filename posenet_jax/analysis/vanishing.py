"""Vanishing points of a photograph, estimated from its edges alone.

Streets, rooms and their furniture have edges along three perpendicular axes, one of them upright
(the Manhattan world of Coughlan & Yuille, 2003): how the camera is turned and its focal length
decide all three points at once. Every turn and focal length of a grid is tried; the one under which
most edges run toward one of its three points is taken.

Points are homogeneous pixels (x, y, w), as `scenes.vanishing_points` gives them.
"""

import hashlib
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

from posenet_jax import geometry
from posenet_jax.analysis import structure
from posenet_jax.io import storage, tensors
from posenet_jax.numerics import own_dtypes

Array = jax.Array

_NEAR = np.sin(np.radians(3.0))  # sine of the angle between an edge and the line to its point
_ASTRAY = 0.1  # an edge that runs toward no point, beside one that does exactly
_EDGES = 2000  # number used of each image, the strongest
_PART = 64  # photographs that progress is counted in
_FIELDS = (44.0, 56.0, 71.0)  # degrees across
_CAMERA_FIELDS = (*_FIELDS, 90.0)  # where the field of view is asked for too
_HEADINGS = np.arange(0.0, 90.0, 2.0)  # after 90° the axes change places
_PITCHES = np.arange(-16.0, 16.1, 4.0)
_ROLLS = np.arange(-8.0, 8.1, 2.0)


@own_dtypes
def candidates(size: int, fields: tuple[float, ...] = _FIELDS) -> np.ndarray:
    """[P, 3, 3] the points of two horizontal axes and of the upright one, of images size×size.

    fields: of view that are tried, degrees.
    """
    grid = itertools.product(fields, _HEADINGS, _PITCHES, _ROLLS)
    field, *turn = np.radians(np.array(list(grid), np.float32)).T
    rotations = np.asarray(jax.vmap(geometry.camera_rotation)(*turn))  # its rows: the world's axes
    focal = np.asarray(geometry.focal_length(size, field))
    x, y, ahead = np.moveaxis(rotations, -1, 0)
    scale, centre = focal[:, None], 0.5 * size * ahead
    return np.stack([scale * x + centre, scale * y + centre, ahead], axis=-1)


def estimate(image: Array, tried: Array) -> Array:
    """[3, 3] the points of `tried` [P, 3, 3] that most edges of uint8 RGB [H, W, 3] run toward."""
    right, down = structure.gradients(image)
    strength, strongest = jax.lax.top_k(jnp.hypot(right, down).ravel(), min(_EDGES, right.size))
    rows, columns = (x.ravel()[strongest] for x in structure.places(*right.shape))
    right, down = right.ravel()[strongest], down.ravel()[strongest]
    # Roots, or a few strong edges would decide.
    weight = jnp.sqrt(strength)

    def likelihood(points: Array) -> Array:
        cosine = jnp.max(
            jnp.stack([structure.alignment(right, down, rows, columns, p) for p in points]), axis=0
        )
        nearest = jnp.exp(-0.5 * (1.0 - jnp.square(cosine)) / _NEAR**2)
        return jnp.sum(weight * jnp.log(_ASTRAY + nearest))

    return tried[jnp.argmax(jax.lax.map(likelihood, tried, batch_size=32))]


@jax.jit
def _mapped(images: Array, tried: Array) -> Array:
    return jax.lax.map(lambda image: estimate(image, tried), images)


@own_dtypes
def estimates(images: np.ndarray, fields: tuple[float, ...] = _FIELDS) -> np.ndarray:
    """[N, 3, 3] of images [N, H, W, 3] uint8, H = W: 0.15 s each on two cores."""
    tried = jnp.asarray(candidates(images.shape[1], fields))
    return np.asarray(_mapped(jnp.asarray(images), tried))


def cameras_of(images: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns `cameras` of images [N, H, W, 3] uint8, H = W; kept in a file from the first time.

    A file of other images is written anew. Raises InputError for one that cannot be read.
    """
    tried = np.array(_CAMERA_FIELDS).tobytes()
    digest = hashlib.sha256(images.tobytes() + tried).hexdigest()
    if storage.is_file(path):
        arrays, metadata = tensors.read_tensors(path)
        if metadata.get("of") == digest:
            return arrays["rotation"], arrays["field_of_view"]
    parts = np.array_split(images, -(-len(images) // _PART))
    bar = tqdm(parts, unit=f"{_PART} photographs", desc="vanishing points", leave=False)
    points = np.concatenate([estimates(part, _CAMERA_FIELDS) for part in bar])
    rotation, field_of_view = cameras(points, images.shape[1])
    found = {"rotation": rotation, "field_of_view": field_of_view}
    tensors.write_tensors(path, found, {"of": digest}, "float32")
    return rotation, field_of_view


@own_dtypes
def cameras(points: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(rotations [N, 3, 3] camera to the scene's axes, fields of view [N] in radians) of points.

    points: [N, 3, 3] of `estimates`, of images size×size. Rows are K R^T of unit axes, so that the
    focal length is the length of a column about the image's centre.
    """
    ahead = points[..., 2]
    right, down = (points[..., i] - 0.5 * size * ahead for i in (0, 1))
    focal = np.sqrt(0.5 * np.sum(right**2 + down**2, axis=-1))
    rotation = np.stack([right / focal[:, None], down / focal[:, None], ahead], axis=-1)
    return rotation.astype(np.float32), (2.0 * np.arctan(0.5 * size / focal)).astype(np.float32)
