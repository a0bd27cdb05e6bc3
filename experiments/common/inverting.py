"""Tables, pictures and columns of a page that `invert` makes of layers and restarts.

L layers, R restarts of each image: {layer: R reconstructions}.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from posenet_jax import reconstruction
from posenet_jax.data.loading import LoadedImages
from posenet_jax.inversion.recipes import Recipe
from posenet_jax.reconstruction import Reconstruction

Layers = Mapping[str, list[Reconstruction]]


def recipes(recipe: Recipe, restarts: int) -> list[Recipe]:
    """Returns the recipe to show, and last that of restarts which do not repel each other.

    The two are one where there is nothing to compare.
    """
    if restarts == 1:
        return [recipe]
    independent = dataclasses.replace(recipe, group=restarts, diverse=0.0)
    return [independent] if recipe.diverse is None else [recipe, independent]


def picture_name(stem: str, layer: str, restart: int, shape: tuple[int, int]) -> str:
    """Returns the path of a reconstruction in the output folder. shape: (L, R)."""
    of_layer = f".{layer}" if shape[0] > 1 else ""
    of_restart = f".{restart}" if shape[1] > 1 else ""
    return f"images/{stem}{of_layer}{of_restart}.png"


def names(stems: list[str], layers: list[str], restarts: int) -> list[str]:
    """Returns the names of all pictures."""
    shape = len(layers), restarts
    return [
        picture_name(stem, layer, restart, shape)
        for layer in layers
        for restart in range(restarts)
        for stem in stems
    ]


def pictures(layers: Layers, stems: list[str]) -> dict[str, np.ndarray]:
    """Returns all pictures by their names."""
    members = next(iter(layers.values()))
    images = [image for made in layers.values() for one in made for image in one.image]
    return dict(zip(names(stems, list(layers), len(members)), images, strict=True))


def columns(layers: Layers) -> dict[str, Reconstruction]:
    """Returns the columns of a page by their headings."""
    return {
        f"{layer} {restart}" if len(members) > 1 else layer: made
        for layer, members in layers.items()
        for restart, made in enumerate(members)
    }


def tables(
    layers: Layers, independent: Layers, originals: LoadedImages
) -> dict[str, list[dict[str, Any]]]:
    """Returns results.csv and, of several restarts, groups.csv."""
    rows = [
        row
        for layer, members in layers.items()
        for restart, made in enumerate(members)
        for row in reconstruction.table(
            made, originals.names, layer=layer, positions=originals.positions, restart=restart
        )
    ]
    groups = [
        row
        for layer, members in layers.items()
        if len(members) > 1
        for row in reconstruction.group_table(
            members, independent[layer], originals.names, layer=layer
        )
    ]
    return {"results.csv": rows} | ({"groups.csv": groups} if groups else {})


def sentences(layers: Layers, groups: list[dict[str, Any]]) -> list[str]:
    """Returns lines for a person. groups: rows of groups.csv."""
    lines = []
    for layer, members in layers.items():
        made = reconstruction.together(members)
        lines += [f"{layer}, {len(made.image)} images: {reconstruction.endings(made)}"]
        lines += reconstruction.summary(made)
        if own := [row for row in groups if row["layer"] == layer]:
            lines += [reconstruction.group_sentence(own)]
    return lines
