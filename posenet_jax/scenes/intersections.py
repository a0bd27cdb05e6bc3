"""Where rays meet solids. Unbatched; metres.

A ray's parameter is its z-depth: directions have z component 1 in the camera's frame. A face is
0-2, the axis it is perpendicular to, or 3 + k for the k-th slanted plane of a wedge.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from posenet_jax.scenes.solids import (
    Balls,
    Boxes,
    Crowns,
    Ground,
    Hollow,
    Rollers,
    Solid,
    Turned,
    Wedges,
)
from posenet_jax.scenes.vectors import (
    Vector,
    away_from_zero,
    dot,
    inverse,
    larger,
    smaller,
    triple,
)

Array = jax.Array

FAR = 1e6  # metres: the depth that stands for the sky's
NEAR = 1e-3
SLANTED = 3  # the first face that is not perpendicular to an axis

# A scene asks the same of a hundred solids: it is traced once, in half the time.
_traced_once = functools.partial(jax.jit, inline=True)


class Ray(NamedTuple):
    """Rays in one frame, origin and direction broadcasting."""

    origin: Vector
    direction: Vector
    inverse: Vector  # of the direction


def ray(origin: Vector, direction: Vector) -> Ray:
    """Rays with their directions' inverses, which every box asks for."""
    return Ray(origin, direction, inverse(direction))


class Span(NamedTuple):
    """Where rays are in a convex thing: from entry to leave, if that is later."""

    entry: Array
    leave: Array
    face: Array  # int32: through which they enter


@_traced_once
def box_span(ray: Ray, low: Array, high: Array) -> Span:
    """Entry and exit of one box; low and high are [3]."""
    one = [(low[axis] - ray.origin[axis]) * ray.inverse[axis] for axis in range(3)]
    two = [(high[axis] - ray.origin[axis]) * ray.inverse[axis] for axis in range(3)]
    near = [smaller(a, b) for a, b in zip(one, two, strict=True)]
    far = [larger(a, b) for a, b in zip(one, two, strict=True)]
    side = larger(near[0], near[1])
    upright = jnp.where(near[0] > near[1], 0, 1)
    face = jnp.where(side > near[2], upright, 2)
    return Span(larger(side, near[2]), smaller(smaller(far[0], far[1]), far[2]), face)


@_traced_once
def wedge_span(ray: Ray, low: Array, high: Array, normal: Array, offset: Array) -> Span:
    """Entry and exit of one wedge: a box [3], [3] cut by planes [k, 3], [k]."""
    entry, leave, face = box_span(ray, low, high)
    for k in range(offset.shape[0]):
        # n.(o + t d) = offset; the ray goes into the half-space where n.d < 0.
        along = away_from_zero(dot(normal[k], ray.direction))
        depth = (offset[k] - dot(normal[k], ray.origin)) / along
        enters = along < 0.0
        later = enters & (depth > entry)
        entry, face = jnp.where(later, depth, entry), jnp.where(later, SLANTED + k, face)
        leave = jnp.where(enters, leave, smaller(leave, depth))
    return Span(entry, leave, face)


@_traced_once
def roller_span(ray: Ray, centre: Array, radius: Array, half_width: Array) -> Span:
    """Entry and exit of one cylinder; face 1 is a disc, face 0 the tread."""
    x, y, z = (ray.origin[i] - centre[i] for i in range(3))
    u, _, w = ray.direction
    square = away_from_zero(u * u + w * w)
    middle = -(x * u + z * w) / square
    room = middle * middle - (x * x + z * z - radius * radius) / square
    reach = jnp.sqrt(jnp.maximum(room, 0.0))
    one, two = ((s * half_width - y) * ray.inverse[1] for s in (-1.0, 1.0))
    disc, out = smaller(one, two), larger(one, two)
    tread = jnp.where(room > 0.0, middle - reach, 2.0 * FAR)
    face = jnp.where(disc > tread, 1, 0)
    return Span(larger(disc, tread), smaller(out, middle + reach), face)


class _Sphere(NamedTuple):
    """A ray and an ellipsoid, in coordinates that make the latter a unit sphere."""

    entry: Array
    root: Array  # of the discriminant: how far from grazing
    met: Array  # bool
    place: Vector  # of the entry, on the sphere
    speed: Array  # square of the direction's length


@_traced_once
def _sphere(ray: Ray, centre: Array, radius: Array) -> _Sphere:
    """|o + t d|^2 = 1 solved for the smaller t."""
    o = triple((ray.origin[i] - centre[i]) / radius[i] for i in range(3))
    d = triple(ray.direction[i] / radius[i] for i in range(3))
    dd, od, oo = dot(d, d), dot(o, d), dot(o, o)
    square = od * od - dd * (oo - 1.0)
    root = jnp.sqrt(jnp.maximum(square, 0.0))
    depth = (-od - root) / dd
    place = triple(o[i] + depth * d[i] for i in range(3))
    return _Sphere(depth, root, (square > 0.0) & (depth > NEAR), place, dd)


def _wave(x: Array) -> Array:
    """Triangle wave in [0, 1] of period 1: a sine would do, at ten times the price."""
    return jnp.abs(2.0 * (x - jnp.floor(x)) - 1.0)


def _leaves(p: Vector) -> Array:
    """Ragged pattern in [0, 1] on the unit sphere."""
    x, y, z = p
    coarse = _wave(1.7 * x + 0.9 * z) + _wave(1.5 * y - 1.1 * z + 0.3) + _wave(1.9 * z + x - y)
    fine = _wave(4.3 * x + 3.1 * y + 2.2 * z) + _wave(4.9 * z - 3.7 * x + 1.3 * y)
    return 0.2 * (coarse + fine)


@_traced_once
def _crown_hit(ray: Ray, centre: Array, radius: Array) -> tuple[Array, Array]:
    """Depth of an ellipsoid (FAR if missed) and whether the ray meets leaves there.

    Near the silhouette they are sparse: a ray passes where the cosine of incidence is below the
    leaves' pattern.
    """
    sphere = _sphere(ray, centre, radius)
    dense = sphere.root > 1.1 * _leaves(sphere.place) * jnp.sqrt(sphere.speed)
    return jnp.where(sphere.met, sphere.entry, FAR), sphere.met & dense


@_traced_once
def _hollow_hit(ray: Ray, low: Array, high: Array) -> tuple[Array, Array]:
    """Depth and face where rays that start inside leave the box."""
    one = [(low[axis] - ray.origin[axis]) * ray.inverse[axis] for axis in range(3)]
    two = [(high[axis] - ray.origin[axis]) * ray.inverse[axis] for axis in range(3)]
    x, y, z = (larger(a, b) for a, b in zip(one, two, strict=True))
    side = smaller(x, y)
    face = jnp.where(side < z, jnp.where(x < y, 0, 1), 2)
    return smaller(side, z), face


def _spans(ray: Ray, solid: Solid) -> Iterator[Span]:
    """Distance and face of each box, wedge or cylinder."""
    match solid:
        case Boxes(low, high) | Turned(Boxes(low, high), _):
            yield from (box_span(ray, low[i], high[i]) for i in range(low.shape[0]))
        case Wedges(boxes, normal, offset):
            for i in range(offset.shape[0]):
                yield wedge_span(ray, boxes.low[i], boxes.high[i], normal[i], offset[i])
        case Rollers(centre, radius, half_width):
            for i in range(radius.shape[0]):
                yield roller_span(ray, centre[i], radius[i], half_width[i])


class Meeting(NamedTuple):
    """Where rays meet one thing from outside."""

    depth: Array
    face: Array | int
    met: Array  # bool; if not, depth and face mean nothing


def meetings(ray: Ray, solid: Solid) -> Iterator[Meeting]:
    """One a thing; the ray in the solid's own frame."""
    match solid:
        case Ground():
            # Far away it is the horizon.
            down = -ray.origin[2] * ray.inverse[2]
            yield Meeting(down, 0, (ray.direction[2] < 0.0) & (down < 0.5 * FAR))
        case Hollow(box):
            depth, face = _hollow_hit(ray, box.low[0], box.high[0])
            yield Meeting(depth, face, depth > NEAR)
        case Crowns(centre, radius):
            for i in range(centre.shape[0]):
                depth, met = _crown_hit(ray, centre[i], radius[i])
                yield Meeting(depth, 0, met)
        case Balls(centre, radius):
            for i in range(centre.shape[0]):
                sphere = _sphere(ray, centre[i], radius[i])
                yield Meeting(sphere.entry, 0, sphere.met)
        case _:
            for entry, leave, face in _spans(ray, solid):
                yield Meeting(entry, face, (entry <= leave) & (entry > NEAR))


def crossings(ray: Ray, solid: Solid, length: Array | float) -> Iterator[Array]:
    """bool, one a thing: does it stand on the first `length` of the ray? Ground and walls do not.

    Unlike `meetings`, a ray that starts inside a thing is stopped by it.
    """
    match solid:
        case Ground() | Hollow():
            return
        case Crowns() | Balls():
            for depth, _, met in meetings(ray, solid):
                yield met & (depth < length)
        case _:
            for entry, leave, _ in _spans(ray, solid):
                yield (entry < leave) & (leave > 0.0) & (entry < length)
