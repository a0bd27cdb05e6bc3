"""Invented textures of rooms: floors, wallpapers, wood, cloth, books. [S, S, 3] float, 0-255.

Most are factors on a colour, near white; books are coloured. Tiled by mirrored repetition.
"""

import functools

import jax
import jax.numpy as jnp

from posenet_jax.scenes.facades import coloured, grain, inside

Array = jax.Array

_WHITE = 215.0  # the mean of a factor on colours


def _grid(size: int) -> tuple[Array, Array]:
    """[S, S] u rightward and v downward in [0, 1]."""
    steps = (jnp.arange(size) + 0.5) / size
    u, v = jnp.meshgrid(steps, steps)
    return u, v


def _streaks(key: Array, size: int) -> Array:
    """[S, S] noise drawn out along u, mean about 0: the grain of wood."""
    fine_key, coarse_key = jax.random.split(key)
    rows = jax.random.uniform(fine_key, (size, 6), minval=-1.0)
    fine = jax.image.resize(rows, (size, size), "linear")
    return 0.6 * fine + 0.6 * grain(coarse_key, size)


def _planks(key: Array, size: int) -> Array:
    """Eight boards along u, butted at random places."""
    tone_key, end_key, grain_key = jax.random.split(key, 3)
    u, v = _grid(size)
    row = jnp.floor(8.0 * v).astype(jnp.int32)
    shifted = jnp.mod(u + jax.random.uniform(end_key, (8,))[row], 1.0)
    tone = jax.random.uniform(tone_key, (8, 2), minval=-1.0)[row, (shifted > 0.5).astype(int)]
    seam = inside(jnp.mod(8.0 * v, 1.0), -1.0, 0.07) + inside(jnp.mod(2 * shifted, 1.0), -1.0, 0.02)
    return (1.0 + 0.16 * tone + 0.12 * _streaks(grain_key, size)) * (
        1.0 - 0.5 * jnp.minimum(seam, 1.0)
    )


def _tiles(key: Array, size: int) -> Array:
    """Four by four square tiles with pale joints."""
    tone_key, grain_key = jax.random.split(key)
    u, v = _grid(size)
    tone = jax.random.uniform(tone_key, (4, 4), minval=-1.0)
    tone = tone[(4.0 * v).astype(int), (4.0 * u).astype(int)]
    joint = (jnp.mod(4.0 * u, 1.0) < 0.05) | (jnp.mod(4.0 * v, 1.0) < 0.05)
    return jnp.where(joint, 0.7, 1.0 + 0.1 * tone + 0.06 * grain(grain_key, size))


def _stripes(key: Array, size: int) -> Array:
    """Wallpaper in stripes along v."""
    u, _ = _grid(size)
    wide = inside(jnp.mod(4.0 * u, 1.0), 0.0, 0.5)
    thin = inside(jnp.mod(4.0 * u, 1.0), 0.7, 0.78)
    return 1.05 - 0.22 * wide - 0.3 * thin + 0.03 * grain(key, size)


def _damask(key: Array, size: int) -> Array:
    """Wallpaper with staggered round ornaments."""
    u, v = _grid(size)
    column = jnp.floor(4.0 * u)
    x = jnp.mod(4.0 * u, 1.0) - 0.5
    y = jnp.mod(3.0 * v + 0.5 * jnp.mod(column, 2.0), 1.0) - 0.5
    radius, angle = jnp.hypot(1.4 * x, y), jnp.arctan2(y, 1.4 * x)
    petals = inside(radius, 0.08, 0.28 + 0.11 * jnp.cos(6.0 * angle))
    return 1.06 - 0.3 * petals + 0.3 * inside(radius, 0.12, 0.18) + 0.03 * grain(key, size)


def _fabric(key: Array, size: int) -> Array:
    """Woven cloth with soft folds along v."""
    u, v = _grid(size)
    weave = jnp.sin(2 * jnp.pi * 24.0 * u) * jnp.sin(2 * jnp.pi * 24.0 * v)
    folds = jnp.cos(2 * jnp.pi * (5.0 * u + 0.3 * jnp.sin(2 * jnp.pi * u)))
    return 1.0 + 0.05 * weave + 0.1 * folds + 0.06 * grain(key, size)


def _books(key: Array, size: int) -> Array:
    """[S, S, 3] a row of spines, of many colours, heights and widths."""
    colour_key, height_key, level_key = jax.random.split(key, 3)
    u, v = _grid(size)
    number = jnp.floor(22.0 * (u + 0.012 * jnp.sin(2 * jnp.pi * 3.0 * u))).astype(jnp.int32)
    colours = jax.random.uniform(colour_key, (24, 3), minval=0.15, maxval=0.9)
    level = jax.random.uniform(level_key, (24, 1), minval=0.5, maxval=1.1)
    spine = (colours * level)[number]
    top = jax.random.uniform(height_key, (24,), minval=0.05, maxval=0.3)[number]
    label = inside(v, 0.5, 0.58) * (jnp.mod(number, 3) == 0)
    edge = inside(jnp.mod(22.0 * u, 1.0), -1.0, 0.12)
    spine = spine * (1.0 - 0.5 * edge[..., None]) + 0.4 * label[..., None]
    return 255.0 * jnp.where((v > top)[..., None], spine, 0.12)


@functools.partial(jax.jit, static_argnums=1)
def draw_patterns(key: Array, size: int) -> Array:
    """[9, S, S, 3] in the order of `Material`, from PLANKS on."""
    keys = jax.random.split(key, 9)
    factors = [
        _planks(keys[0], size),
        1.0 + 0.2 * grain(keys[1], size, coarsest=min(16, size)),
        _tiles(keys[2], size),
        _stripes(keys[3], size),
        _damask(keys[4], size),
        1.0 + 0.04 * grain(keys[5], size),
        1.0 + 0.16 * _streaks(keys[6], size),
        _fabric(keys[7], size),
    ]
    grey = [coloured(_WHITE * f, jnp.ones(3)) for f in factors]
    return jnp.clip(jnp.stack([*grey, _books(keys[8], size)]), 0.0, 255.0)
