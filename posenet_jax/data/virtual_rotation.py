"""Pairs of views of one photograph under virtual rotation, with the exact relative rotation.

A camera that turns about its centre sees the same light from every heading, so a photograph whose
focal length is known can be resampled into any view inside its frame by the homography K R K⁻¹,
with no knowledge of depth. The focal length of a found photograph is unknown: it is drawn from a
plausible range, and both views have the angular scale that this gives them. Unbatched; uint8 in,
uint8 out (RGB, HWC).
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from posenet_jax import geometry
from posenet_jax.scenes import DevelopmentConfig, photometry

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class VirtualRotation:
    """Ranges of the virtual cameras, in radians."""

    size: int = 100
    photo_field_of_view: tuple[float, float] = (0.9, 1.35)
    view_fraction: tuple[float, float] = (0.45, 0.85)  # of the photograph's field of view
    # Between a pair's two fractions: 0, the same; 1, drawn apart.
    view_difference: float = 0.0
    roll: float = 0.09
    # A photograph keeps most of the exposure it has.
    development: DevelopmentConfig = DevelopmentConfig(automatic=(0.0, 0.3))


@struct.dataclass
class PhotoPair:
    """Two virtual views of one photograph."""

    image: Array  # [2, size, size, 3] uint8
    rotation: Array  # [2, 3, 3] view-to-photograph rotations
    field_of_view: Array  # [2] radians


def resample(photo: Array, rotation: Array, photo_fov: Array, view_fov: Array, size: int) -> Array:
    """[size, size, 3] float32: what a camera turned by `rotation` sees of `photo` [H, W, 3].

    Bilinear; beyond the photograph's frame its edge is repeated.
    """
    height, width = photo.shape[:2]
    rays = geometry.pixel_rays(size, size, view_fov) @ rotation.T
    column, row, _ = projected(rays, width, height, photo_fov)
    return interpolated(photo, column, row)


def projected(
    points: Array, width: int, height: int, field_of_view: Array
) -> tuple[Array, Array, Array]:
    """(column, row, seen) of points [..., 3] in a camera's frame.

    seen: whether they lie before the camera and inside the frame.
    """
    focal = geometry.focal_length(width, field_of_view)
    # Rays that leave backward have no image: the guard only keeps the division finite.
    depth = jnp.maximum(points[..., 2], 1e-3)
    column = focal * points[..., 0] / depth + 0.5 * width - 0.5
    row = focal * points[..., 1] / depth + 0.5 * height - 0.5
    inside = (column > -0.5) & (column < width - 0.5) & (row > -0.5) & (row < height - 0.5)
    return column, row, inside & (points[..., 2] > 1e-3)


def interpolated(photo: Array, column: Array, row: Array) -> Array:
    """[..., 3] colours of `photo` [H, W, 3] between its pixels; beyond its frame the edge's."""
    height, width = photo.shape[:2]
    column, row = jnp.clip(column, 0.0, width - 1.0), jnp.clip(row, 0.0, height - 1.0)
    left = jnp.minimum(column.astype(jnp.int32), width - 2)
    top = jnp.minimum(row.astype(jnp.int32), height - 2)
    right_share, bottom_share = (column - left)[..., None], (row - top)[..., None]
    upper = _mix(photo[top, left], photo[top, left + 1], right_share)
    lower = _mix(photo[top + 1, left], photo[top + 1, left + 1], right_share)
    return _mix(upper, lower, bottom_share)


def _mix(a: Array, b: Array, share: Array) -> Array:
    return a * (1.0 - share) + b * share


def _view_rotation(key: Array, half_margin: Array, roll: float) -> Array:
    """A rotation that keeps the view's axis `half_margin` radians inside the photograph's frame."""
    heading, tilt = half_margin * jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)
    turn = roll * jax.random.uniform(jax.random.fold_in(key, 1), (), minval=-1.0, maxval=1.0)
    return geometry.rotation_from_yaw_pitch_roll(jnp.stack([heading, tilt, turn]))


def _view_fractions(key: Array, share: Array, config: VirtualRotation) -> Array:
    """[2] the views' fields of view as fractions of the photograph's; share in [0, 1] is theirs."""
    low, high = config.view_fraction
    if not config.view_difference:
        return jnp.broadcast_to(low + (high - low) * share, (2,))
    own = jax.random.uniform(jax.random.fold_in(key, 1), (2,))
    return low + (high - low) * (share + config.view_difference * (own - share))


def sample_photo_pair(key: Array, photo: Array, config: VirtualRotation) -> PhotoPair:
    """Two overlapping virtual views of `photo` [H, W, 3] uint8."""
    scale_key, view_key, mirror_key, develop_key = jax.random.split(key, 4)
    shares = jax.random.uniform(scale_key, (2,))
    low, high = config.photo_field_of_view
    photo_fov = low + (high - low) * shares[0]
    view_fov = photo_fov * _view_fractions(scale_key, shares[1], config)
    # A mirrored street is a street; the rotations are drawn afterwards and stay exact.
    photo = jnp.where(jax.random.bernoulli(mirror_key), photo[:, ::-1], photo).astype(jnp.float32)
    rotation = jax.vmap(_view_rotation, (0, 0, None))(
        jax.random.split(view_key, 2), 0.5 * (photo_fov - view_fov), config.roll
    )
    images = jax.vmap(lambda r, f: resample(photo, r, photo_fov, f, config.size))(
        rotation, view_fov
    )
    developments = photometry.sample_developments(develop_key, config.development)
    planes = jnp.moveaxis(images / 255.0, -1, 1)
    developed = jax.vmap(photometry.develop)(
        jax.vmap(photometry.blur)(planes, developments.blur), developments
    )
    image = jnp.moveaxis(developed, 1, -1)
    return PhotoPair(image=image, rotation=rotation, field_of_view=view_fov)
