"""Invented textures: facades and the street's materials. Pictures are [S, S, 3] float, 0-255."""

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

Array = jax.Array


def value_noise(key: Array, size: int, cells: int) -> Array:
    """[S, S] smooth noise in [0, 1] with about `cells` blobs a side."""
    lattice = jax.random.uniform(key, (cells, cells))
    return jax.image.resize(lattice, (size, size), "linear")


def grain(key: Array, size: int, *, coarsest: int = 4) -> Array:
    """[S, S] noise of several octaves, mean about 0, mostly within +-1."""
    octaves = [cells for cells in (4, 8, 16, 32, 64, 128, 256) if coarsest <= cells <= size]
    keys = jax.random.split(key, len(octaves))
    total = sum(value_noise(k, size, cells) - 0.5 for k, cells in zip(keys, octaves, strict=True))
    return 2.0 * total / jnp.sqrt(len(octaves))


def inside(position: Array, low: ArrayLike, high: ArrayLike) -> Array:
    """1 where position lies between the bounds, else 0."""
    return ((position > low) & (position < high)).astype(jnp.float32)


def paint(picture: Array, mask: Array, colour: Array) -> Array:
    """A picture [S, S, 3] with a colour over it where mask [S, S] is 1."""
    return picture + mask[..., None] * (jnp.broadcast_to(colour, picture.shape) - picture)


def coloured(grey: Array, colour: Array) -> Array:
    """[S, S] brightness times one colour [3]."""
    return grey[..., None] * colour[None, None]


def _wall(key: Array, size: int) -> Array:
    """Plaster or brick of one colour, with courses."""
    base_key, brick_key, grain_key = jax.random.split(key, 3)
    level, warmth, green = jax.random.uniform(base_key, (3,))
    base = 90.0 + 130.0 * level
    colour = base * jnp.stack([1.0 + 0.12 * warmth, 0.94 + 0.08 * green, 0.98 - 0.3 * warmth])
    y, x = jnp.mgrid[:size, :size]
    course = size / 48.0
    mortar = (jnp.mod(y, course) < 0.3 * course) | (
        jnp.mod(x + course * jnp.floor(y / course), 2.0 * course) < 0.2 * course
    )
    brick = (jax.random.uniform(brick_key) < 0.4) * jnp.where(mortar, -0.1, 0.05)
    return coloured(1.0 + brick + 0.09 * grain(grain_key, size), colour)


def _windows(key: Array, picture: Array, u: Array, v: Array) -> Array:
    """Rows of framed, mullioned windows; u rightward and v upward in [0, 1]."""
    shape_key, glass_key, frame_key = jax.random.split(key, 3)
    r = jax.random.uniform(shape_key, (6,))
    columns, storeys = jnp.floor(3.0 + 4.0 * r[0]), jnp.floor(3.0 + 3.0 * r[1])
    x, y = jnp.mod(u * columns, 1.0) - 0.5, jnp.mod(v * storeys, 1.0) - 0.52
    half_x, half_y = 0.17 + 0.17 * r[2], 0.24 + 0.12 * r[3]
    frame = 0.04 + 0.05 * r[4]
    tone = jax.random.uniform(frame_key, (), minval=40.0, maxval=245.0)
    sill = inside(jnp.abs(x), -1.0, half_x + 0.1) * inside(-y, half_y, half_y + 0.12)
    surround = inside(jnp.abs(x), -1.0, half_x + frame) * inside(jnp.abs(y), -1.0, half_y + frame)
    glass = inside(jnp.abs(x), -1.0, half_x) * inside(jnp.abs(y), -1.0, half_y)
    mullion = jnp.maximum(inside(jnp.abs(x), -1.0, 0.025), inside(jnp.abs(y - 0.08), -1.0, 0.02))
    panes = jax.random.uniform(glass_key, (8, 8))[
        (v * storeys).astype(int), (u * columns).astype(int)
    ]
    pane = coloured(35.0 + 70.0 * panes + 50.0 * y, jnp.array([0.92, 1.0, 1.08]))
    picture = paint(picture, sill, 0.75 * picture)
    picture = paint(picture, surround, tone * jnp.array([1.0, 0.99, 0.96]))
    picture = paint(picture, glass, pane)
    picture = paint(picture, glass * mullion * (r[5] < 0.8), tone * jnp.ones(3))
    band = inside(jnp.mod(v * storeys, 1.0), 0.0, 0.05)
    return paint(picture, band, 0.8 * picture + 30.0 * (r[5] < 0.4))


def _shop_front(key: Array, picture: Array, u: Array, v: Array) -> Array:
    """Ground floor of wide dark windows under a coloured sign board."""
    colour_key, shape_key = jax.random.split(key)
    r = jax.random.uniform(shape_key, (3,))
    storey = 0.24
    bays = jnp.floor(2.0 + 3.0 * r[0])
    x = jnp.abs(jnp.mod(u * bays, 1.0) - 0.5)
    sign_colour = jax.random.uniform(colour_key, (3,), minval=20.0, maxval=220.0)
    here = (r[1] < 0.65).astype(jnp.float32)
    picture = paint(picture, here * inside(v, -1.0, storey), 0.55 * sign_colour + 40.0)
    picture = paint(picture, here * inside(v, 0.19, 0.23), sign_colour)
    window = inside(x, -1.0, 0.4) * inside(v, 0.03, 0.17)
    dark = coloured(30.0 + 60.0 * r[2] + 150.0 * v, jnp.array([0.95, 1.0, 1.05]))
    return paint(picture, here * window, dark)


@functools.partial(jax.jit, static_argnums=1)
@functools.partial(jax.vmap, in_axes=(0, None))
def draw_facades(key: Array, size: int) -> Array:
    """Key -> one facade [S, S, 3] float 0-255; batched over keys."""
    wall_key, window_key, shop_key = jax.random.split(key, 3)
    steps = (jnp.arange(size) + 0.5) / size
    v, u = jnp.meshgrid(1.0 - steps, steps, indexing="ij")
    picture = _windows(window_key, _wall(wall_key, size), u, v)
    picture = paint(picture, inside(v, 0.97, 1.1), 0.7 * picture)
    return jnp.clip(_shop_front(shop_key, picture, u, v), 0.0, 255.0)


@functools.partial(jax.jit, static_argnums=1)
def draw_materials(key: Array, size: int) -> Array:
    """[4, S, S, 3] asphalt, paving, foliage and cloud, in the order of `Material`.

    Cloud is a cover, not a colour: 0 clear, 255 cloud.
    """
    asphalt_key, paving_key, leaf_key, cloud_key = jax.random.split(key, 4)
    asphalt = 105.0 * (1.0 + 0.16 * grain(asphalt_key, size))
    y, x = jnp.mgrid[:size, :size]
    joint = (jnp.mod(x, size // 8) < 1) | (jnp.mod(y, size // 8) < 1)
    paving = 150.0 * (1.0 + 0.1 * grain(paving_key, size)) * jnp.where(joint, 0.72, 1.0)
    leaves = 112.0 * (1.0 + 0.55 * grain(leaf_key, size, coarsest=8))
    cloud = 255.0 * jnp.clip(
        0.5 + 0.9 * jax.image.resize(grain(cloud_key, 32, coarsest=4), (size, size), "cubic"),
        0.0,
        1.0,
    )
    colours = jnp.array([[1.0, 1.0, 1.01], [1.0, 0.98, 0.95], [0.85, 1.0, 0.62], [1.0, 1.0, 1.0]])
    grey = jnp.stack([asphalt, paving, leaves, cloud])
    return jnp.clip(grey[..., None] * colours[:, None, None, :], 0.0, 255.0)
