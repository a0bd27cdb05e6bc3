"""Mip-mapped texture atlas: a few materials, then facades.

A texel is RGB8 packed in one uint32 (red in the low byte), so that one lookup is one gather. A
layer is its mip levels laid end to end, largest first: S*S texels, (S/2)*(S/2), ..., 1. Row 0 is
the top of the picture. Colours are display-referred, 0-255. The atlas is an argument of every
program that uses it and never a constant of one.
"""

import enum
import math
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from posenet_jax.errors import ImageError, InputError, shown
from posenet_jax.images.image_files import MAX_PIXELS, read_images
from posenet_jax.images.image_list import ImageList, as_list
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.io import storage
from posenet_jax.numerics import own_dtypes, seed_key
from posenet_jax.scenes import facades, patterns

Array = jax.Array

_BLOCK = 64  # facades drawn together, for which one program serves atlases of many sizes


class Material(enum.IntEnum):
    """The atlas's first layers; facades follow."""

    ASPHALT = 0
    PAVING = 1
    FOLIAGE = 2
    CLOUD = 3
    PLANKS = 4
    CARPET = 5
    TILES = 6
    STRIPES = 7
    DAMASK = 8
    PLASTER = 9
    GRAIN = 10
    FABRIC = 11
    BOOKS = 12


class Atlas(NamedTuple):
    """Textures as one array; see the module."""

    texels: Array  # uint32 [L, (4 S^2 - 1) / 3]

    @property
    def size(self) -> int:
        """S, the side of the largest mip level, in texels."""
        return math.isqrt((3 * self.texels.shape[-1] + 1) // 4)

    @property
    def num_facades(self) -> int:
        return self.texels.shape[0] - len(Material)


class FolderAtlas(NamedTuple):
    """An atlas, and what could not go into it."""

    atlas: Atlas
    failures: tuple[ImageError, ...]  # one for each file that could not be read


def level_offset(size: int, side: Array) -> Array:
    """Where the mip level of `side` texels a side begins in a layer whose largest has `size`.

    The levels before it sum to a geometric series: S^2 + S^2/4 + ... = 4 (S^2 - side^2) / 3.
    """
    return 4 * (size * size - side * side) // 3


def mip_levels(picture: Array) -> list[Array]:
    """[S, S, 3] float picture -> its box averages, S, S/2, ..., 1 texels a side."""
    levels = [picture]
    while levels[-1].shape[0] > 1:
        half = levels[-1].shape[0] // 2
        levels.append(levels[-1].reshape(half, 2, half, 2, 3).mean(axis=(1, 3)))
    return levels


def pack(picture: Array) -> Array:
    """[..., 3] float or integer 0-255 -> [...] packed uint32 texels."""
    r, g, b = jnp.moveaxis(jnp.round(picture).astype(jnp.uint32), -1, 0)
    return r | (g << 8) | (b << 16)


def unpack(texels: Array) -> tuple[Array, Array, Array]:
    """[...] packed texels -> red, green and blue, float32 0-255."""
    channels = (texels & 255, (texels >> 8) & 255, (texels >> 16) & 255)
    red, green, blue = (channel.astype(jnp.float32) for channel in channels)
    return red, green, blue


def _layer(picture: Array) -> Array:
    return jnp.concatenate([pack(level).ravel() for level in mip_levels(picture)])


@jax.jit
def _layers(pictures: Array) -> Array:
    return jax.lax.map(_layer, pictures.astype(jnp.float32))


def _atlas(*blocks: Array) -> Atlas:
    """Blocks of [N, S, S, 3] facades, 0-255, behind the materials (which are always the same)."""
    size = blocks[0].shape[1]
    if size & (size - 1):
        raise ValueError(f"a texture's side must be a power of two, not {size}")
    outside = facades.draw_materials(seed_key(0), size)
    inside = patterns.draw_patterns(seed_key(1), size)
    materials = _layers(jnp.concatenate([outside, inside]))
    return Atlas(jnp.concatenate([materials, *map(_layers, blocks)]))


@own_dtypes
def procedural_atlas(key: Array, num: int = 64, *, size: int = 128) -> Atlas:
    """Atlas of `num` invented facades: storeys, windows, frames, shop fronts, brick or plaster."""
    if num < 1:
        raise ValueError(f"an atlas needs a facade, not {num}")
    keys = jax.random.split(key, num)
    blocks = [keys[start : start + _BLOCK] for start in range(0, num, _BLOCK)]
    return _atlas(*(facades.draw_facades(block, size) for block in blocks))


@own_dtypes
def atlas_from_files(
    paths: Collection[str | Path], *, size: int = 128, max_pixels: int = MAX_PIXELS
) -> FolderAtlas:
    """Atlas of photographs of facades, averaged to `size` squared; unreadable ones are left out.

    Raises InputError, which names the folder, where none can be read.
    """
    files = [storage.path(path) for path in paths]
    square = Preprocessing(means=(0.0, 0.0, 0.0), size=size, resize_filter="area")
    found = read_images(files, square, max_pixels=max_pixels)
    if not found.images:
        where = f" in {shown(files[0].parent)}" if files else ""
        first = "".join(f"; {failure}" for failure in found.failures[:1])
        raise InputError(f"none of the {len(files)} facades{where} can be read{first}")
    return FolderAtlas(_atlas(jnp.asarray(np.stack(found.images))), tuple(found.failures))


def atlas_from_folder(
    images: ImageList | str | Path,
    *,
    size: int = 128,
    limit: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> FolderAtlas:
    """Atlas of the facade photographs of a folder, a glob or a list, `limit` files at most."""
    files = list(as_list(images))[:limit]
    return atlas_from_files(files, size=size, max_pixels=max_pixels)
