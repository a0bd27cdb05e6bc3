"""Vision transformers (Dosovitskiy et al. 2020) as timm and DINOv2 have them, at 224 pixels.

Weights are brought into one form (`ViT.rearranged`): the scale of each residual branch (layer
scale) is part of the dense layer before it, the class token's position and the registers' of the
tokens, and positions are those of the image's own grid of patches.
"""

import functools
import itertools
import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from posenet_jax.encoders.network import IMAGENET, Network
from posenet_jax.errors import InputError

Array = jax.Array

_HEAD_SIZE = 64
_HEADS = {1280: 16, 1408: 16, 1664: 16}  # by width, where a head has other than 64 numbers
_COUNT = range(1, 2**15)

_dense = functools.partial(nn.Dense, kernel_init=nn.initializers.truncated_normal(0.02))
_norm = functools.partial(nn.LayerNorm, epsilon=1e-6, use_fast_variance=False)


class PatchEmbedding(nn.Module):
    """Tokens [..., h, w, D] of an image's patches; kernel [p, p, 3, D].

    A convolution whose stride is its size, as a product of matrices: on a CPU XLA would find the
    image's gradient by a convolution with p² times as many products, all but one in p² with zero.
    """

    patch: int
    width: int

    @nn.compact
    def __call__(self, images: Array) -> Array:
        side, channels = self.patch, images.shape[-1]
        # Images are in grey levels; those of PyTorch's weights are divided by their deviation.
        init = nn.initializers.variance_scaling(1 / 58.0**2, "fan_in", "normal")
        kernel = self.param("kernel", init, (side, side, channels, self.width), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.width,), jnp.float32)
        *lead, height, width, _ = images.shape
        rows = images.reshape((-1, height // side, side, width // side, side, channels))
        patches = rows.transpose((0, 1, 3, 2, 4, 5)).reshape((-1, side * side * channels))
        x = patches @ kernel.reshape((-1, self.width)) + bias.reshape((1, -1))
        return x.reshape((*lead, height // side, width // side, self.width))


class Block(nn.Module):
    """Attention among tokens [..., T, D], then two dense layers for each token."""

    heads: int
    hidden: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        width = x.shape[-1]
        y = _dense(3 * width, name="attn.qkv")(_norm(name="norm1")(x))
        y = y.reshape((*y.shape[:-1], 3, self.heads, -1))
        query, key, value = (y[..., part, :, :] for part in range(3))
        scores = jnp.einsum("...qhd,...khd->...hqk", query, key) / math.sqrt(query.shape[-1])
        y = jnp.einsum("...hqk,...khd->...qhd", nn.softmax(scores), value)
        x = x + _dense(width, name="attn.proj")(y.reshape(x.shape))
        y = _dense(self.hidden, name="mlp.fc1")(_norm(name="norm2")(x))
        return x + _dense(width, name="mlp.fc2")(nn.gelu(y, approximate=False))


_BLOCK_LAYERS = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")


class ViT(Network):
    """ViT-S/14 as in DINOv2, 21.6 M parameters; the fields make the others.

    patch: pixels of a patch's side. hidden: width of the dense layers inside a block. registers:
    tokens beside the class token and the patches'. classes: 0 where the weights have no layer of
    classes.

    Taps: `block0`, `block1`, … [..., h, w, D], the patches' tokens after a block, and
    `block0.class`, … [..., D], the class token; after the last block and its normalisation
    `patches` [..., h, w, D] and `features` [..., D], the class token; and `scores` of the classes.
    """

    patch: int = 14
    width: int = 384
    depth: int = 12
    heads: int = 6
    hidden: int = 1536
    registers: int = 0
    classes: int = 0

    architecture = "vit"
    image_space = IMAGENET.space(224)
    saved_fields: ClassVar = {
        "patch": _COUNT,
        "width": _COUNT,
        "depth": range(1, 200),
        "heads": _COUNT,
        "hidden": range(1, 2**17),
        "registers": range(1000),
        "classes": range(2**20),
    }
    first = "patch_embed"
    flattens = False
    signature = frozenset(
        ["cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"]
    )

    @property
    def taps(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the layers, from the image on."""
        blocks = ((f"block{i}", f"block{i}.class") for i in range(self.depth))
        scores = ("scores",) if self.classes else ()
        return (*itertools.chain(*blocks), "patches", "features", *scores)

    @property
    def foreign(self) -> Mapping[str, str]:  # type: ignore[override]
        """timm's and DINOv2's names of layers and tokens."""
        ends = {"norm": "norm"} | ({"head": "head"} if self.classes else {})
        tokens = {"tokens": "cls_token", "positions": "pos_embed"}
        return (
            {"patch_embed": "patch_embed.proj"}
            | tokens
            | ends
            | {
                f"blocks.{i}/{layer}": f"blocks.{i}.{layer}"
                for i in range(self.depth)
                for layer in _BLOCK_LAYERS
            }
        )

    @classmethod
    def for_arrays(cls, shapes: Mapping[str, tuple[int, ...]]) -> Self:
        """Returns the network of the arrays' shapes; its heads have 64 numbers each as a rule."""
        dense = [f"blocks.0.mlp.{name}.weight" for name in ("fc1", "fc2")]
        if "blocks.0.mlp.w12.weight" in shapes or _is_gated(*map(shapes.get, dense)):
            raise InputError("its blocks have gated dense layers (SwiGLU), which are not read")
        for name in (*sorted(cls.signature), *dense):
            if name not in shapes:
                raise InputError(f"{name} is missing")
        width = shapes["patch_embed.proj.weight"][0]
        heads, rest = _HEADS.get(width, width // _HEAD_SIZE), width % _HEAD_SIZE
        if rest and width not in _HEADS:
            raise InputError(
                f"its tokens have {width} numbers, not a multiple of a head's {_HEAD_SIZE}: give "
                "the network, posenet_jax.encoders.vit.ViT(heads=...)"
            )
        return cls(
            patch=shapes["patch_embed.proj.weight"][-1],
            width=width,
            depth=sum(bool(re.fullmatch(r"blocks\.\d+\.norm1\.weight", name)) for name in shapes),
            heads=heads,
            hidden=shapes["blocks.0.mlp.fc1.weight"][0],
            registers=next((shapes[n][1] for n in _REGISTERS if n in shapes), 0),
            classes=shapes["head.weight"][0] if "head.weight" in shapes else 0,
        )

    def rearranged(self, arrays: Mapping[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
        """Returns the arrays with layer scale, tokens and positions in this network's form."""
        found = {name: array for name, array in arrays.items() if name != "mask_token"}
        of_dinov2 = "mask_token" in arrays or _REGISTERS[0] in arrays
        registers = next((found.pop(n) for n in _REGISTERS if n in found), None)
        _scale_branches(found)
        for name in ("cls_token", "pos_embed"):
            if name not in found or found[name].ndim != 3:
                raise InputError(f"{name} is missing or not of three axes")
        tokens = found["cls_token"][0]
        if registers is not None and registers.ndim == 3:
            tokens = np.concatenate([tokens, registers[0]])
        own, grid = _own_positions(found["pos_embed"][0], 1 if of_dinov2 else len(tokens))
        # What has no position of its own is added to none.
        own = np.pad(own, ((0, len(tokens) - len(own)), (0, 0)))
        found["cls_token"] = tokens + own
        # DINOv2 without registers enlarges by a factor that it adds 0.1 patches to.
        historical = of_dinov2 and registers is None
        found["pos_embed"] = resized(
            grid, size // self.patch, offset=0.1 if historical else 0.0, antialias=not historical
        )
        return found

    def at_size(self, params: Any, size: int) -> Any:
        """Returns the parameters with positions on the grid of images of `size` pixels."""
        grid = np.asarray(params["positions"])
        there = resized(grid, size // self.patch, offset=0.0, antialias=True)
        return {**params, "positions": jnp.asarray(there)}

    @nn.compact
    def __call__(self, images: Array) -> dict[str, Array]:
        height, width = (side // self.patch for side in images.shape[-3:-1])
        if (height * self.patch, width * self.patch) != images.shape[-3:-1]:
            raise InputError(f"a side is not a multiple of a patch's {self.patch} pixels")
        x = PatchEmbedding(self.patch, self.width, name="patch_embed")(images)
        small = nn.initializers.truncated_normal(0.02)
        tokens = self.param("tokens", small, (1 + self.registers, self.width), jnp.float32)
        places = self.param("positions", small, (height, width, self.width), jnp.float32)
        lead = x.shape[:-3]
        x = (x + _like(places, x)).reshape((*lead, height * width, self.width))
        x = jnp.concatenate([jnp.broadcast_to(tokens, (*lead, *tokens.shape)), x], axis=-2)
        taps = {}
        for number in range(self.depth):
            x = Block(self.heads, self.hidden, name=f"blocks.{number}")(x)
            taps[f"block{number}"], taps[f"block{number}.class"] = self._parts(x, height)
        taps["patches"], taps["features"] = self._parts(_norm(name="norm")(x), height)
        if self.classes:
            taps["scores"] = _dense(self.classes, name="head")(taps["features"])
        return taps

    def _parts(self, tokens: Array, height: int) -> tuple[Array, Array]:
        """Returns the patches' tokens [..., h, w, D] and the class token [..., D]."""
        patches = tokens[..., 1 + self.registers :, :]
        shape = (*patches.shape[:-2], height, -1, patches.shape[-1])
        return patches.reshape(shape), tokens[..., 0, :]


_REGISTERS = ("register_tokens", "reg_token")  # DINOv2's name, timm's


def _is_gated(first: tuple[int, ...] | None, second: tuple[int, ...] | None) -> bool:
    """Whether the first dense layer makes twice what the second reads."""
    return first is not None and second is not None and first[0] == 2 * second[-1]


def _like(x: Array, batch: Array) -> Array:
    return jnp.broadcast_to(x, batch.shape)


def _scale_branches(arrays: dict[str, np.ndarray]) -> None:
    """Multiplies each branch's last dense layer by its scale, which is no array of its own then."""
    for name in [name for name in arrays if re.fullmatch(r"blocks\.\d+\.ls[12]\.gamma", name)]:
        block, scale, _ = name.rsplit(".", 2)
        dense = f"{block}.{'attn.proj' if scale == 'ls1' else 'mlp.fc2'}"
        gamma = arrays.pop(name)
        for part in (f"{dense}.weight", f"{dense}.bias"):
            if part not in arrays:
                raise InputError(f"{part} is missing")
            if gamma.shape != arrays[part].shape[:1]:
                raise InputError(f"{name} has shape {gamma.shape}, {part} {arrays[part].shape}")
            arrays[part] = arrays[part] * gamma.reshape((-1,) + (1,) * (arrays[part].ndim - 1))


def _own_positions(positions: np.ndarray, tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the positions [T, D] of tokens, none or so many, and the patches' [h, w, D]."""
    for own in (tokens, 0) if tokens == 1 else (0, tokens):
        side = math.isqrt(max(len(positions) - own, 0))
        if side and side**2 + own == len(positions):
            return positions[:own], positions[own:].reshape((side, side, -1))
    raise InputError(f"pos_embed has {len(positions)} positions, no square of patches")


# Positions on another grid ----------------------------------------------------------------------


def resized(grid: np.ndarray, size: int, *, offset: float, antialias: bool) -> np.ndarray:
    """[size, size, D] of positions [M, M, D], by PyTorch's bicubic interpolation.

    offset: added to `size` where the interpolation's step is computed. antialias: whether the
    cubic widens with the step (and is Keys' with a = -0.5, else -0.75).
    """
    if len(grid) == size:
        return grid
    shares = _antialiased(len(grid), size) if antialias else _cubic(len(grid), size, offset)
    wide = np.asarray(grid, np.float64)
    return np.einsum("ip,jq,pqd->ijd", shares, shares, wide, optimize=True).astype(np.float32)


def _keys(x: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic, zero from two on."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _cubic(length: int, size: int, offset: float) -> np.ndarray:
    """[size, length] shares; beyond the border its own number is repeated."""
    shares = np.zeros((size, length))
    for row, at in enumerate((np.arange(size) + 0.5) * length / (size + offset) - 0.5):
        places = np.floor(at) + np.arange(-1, 3)
        inside = np.clip(places, 0, length - 1).astype(int)
        np.add.at(shares[row], inside, _keys(places - at, -0.75))
    return shares


def _antialiased(length: int, size: int) -> np.ndarray:
    """[size, length] shares of what lies inside."""
    step = length / size
    centres = (np.arange(size) + 0.5) * step - 0.5
    distances = np.arange(length)[None] - centres[:, None]
    shares = _keys(distances / max(step, 1.0), -0.5)
    return shares / shares.sum(axis=1, keepdims=True)
