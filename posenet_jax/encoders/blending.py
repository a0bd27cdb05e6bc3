"""Encoders between two that were trained from one another."""

import dataclasses
from typing import Any

import jax
import numpy as np

from posenet_jax.encoders.encoder import Encoder
from posenet_jax.errors import InputError


def blended(one: Encoder, other: Encoder, share: float, name: str = "") -> Encoder:
    """Returns the encoder whose weights are (1 - share) of one's and `share` of the other's.

    Heads likewise. It is an encoder where the two lie in one basin, as a network and what it
    became in a short further training do (Wortsman et al. 2022, "Robust fine-tuning of zero-shot
    models": it often keeps what both know). Raises InputError for a share outside 0 to 1, and for
    encoders of different networks, sizes, units of pose or heads.
    """
    if not 0.0 <= share <= 1.0:
        raise InputError(f"a share lies between 0 and 1, received {share}")
    trees = [(encoder.params, encoder.head_params) for encoder in (one, other)]
    alike = one.module == other.module and one.preprocessing == other.preprocessing
    if not alike or _shapes(trees[0]) != _shapes(trees[1]):
        raise InputError(
            f"encoders {one.name!r} and {other.name!r} are of different networks, images or heads"
        )
    units, their_units = map(jax.tree.leaves, (one.pose_scale, other.pose_scale))
    if not all(map(np.array_equal, units, their_units)):
        raise InputError(f"poses of {one.name!r} and {other.name!r} have different units")
    params, heads = jax.tree.map(lambda a, b: (1.0 - share) * a + share * b, *trees)
    return dataclasses.replace(one, params=params, head_params=heads, name=name)


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in leaves}
