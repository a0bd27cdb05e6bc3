"""`posenet_jax.invert`: the engine's, with recipes by name and the generators that some need."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from posenet_jax.decoders import decoding, generator_space
from posenet_jax.decoders.decoding import Decoder
from posenet_jax.encoders.encoder import Tap
from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import engine, recipes
from posenet_jax.inversion.descent import Encode
from posenet_jax.inversion.recipes import Recipe
from posenet_jax.io.tensors import fingerprint


def invert(
    encode: Encode,
    targets: Any,
    *,
    key: jax.Array,
    recipe: Recipe | str = recipes.CALIBRATED,
    generator: Decoder | None = None,
    space: Preprocessing | None = None,
    slots: int | None = None,
    chunk: int | None = None,
    mesh: Mesh | None = None,
    start: jax.Array | np.ndarray | None = None,
    positions: Sequence[int] | None = None,
    progress: Callable[[int], None] | None = None,
) -> engine.Result:
    """Images whose descriptors are `targets` [N, …]: see `engine.invert`.

    recipe: or its name in `recipes.RECIPES`. generator: a decoder of the layer, for a recipe that
    begins in one (`natural`); None: the adversarial one that is bundled for this layer of a bundled
    encoder. Raises InputError where there is none.
    """
    recipe = _named(recipe) if isinstance(recipe, str) else recipe
    if recipe.start == "generator" and isinstance(recipe.parameterisation, str):
        generator = generator or _bundled(encode, recipe)
        shape = tuple(np.shape(targets)[1:]) if hasattr(targets, "shape") else None
        if shape != generator.descriptor_shape:
            raise InputError(
                f"generator {generator.name!r} reads descriptors {list(generator.descriptor_shape)}"
                f", and targets are {'no array' if shape is None else list(shape)}"
            )
        recipe = generator_space.recipe_in(recipe, generator)
    elif generator is not None:
        raise InputError(f"recipe {recipe.name!r} has no use for a generator")
    return engine.invert(
        encode,
        targets,
        key=key,
        recipe=recipe,
        space=space,
        slots=slots,
        chunk=chunk,
        mesh=mesh,
        start=start,
        positions=positions,
        progress=progress,
    )


def _named(name: str) -> Recipe:
    if name not in recipes.RECIPES:
        raise InputError(f"no recipe {name!r}; there are {', '.join(recipes.RECIPES)}")
    return recipes.RECIPES[name]


def _bundled(encode: Any, recipe: Recipe) -> Decoder:
    """Returns the bundled generator of a tap, which is told by its weights."""
    if isinstance(encode, Tap):
        own = fingerprint(encode.params)
        for name in decoding.bundled_names(f"*-{encode.layer}-adversarial"):
            found = decoding.load_decoder(name)
            if found.encoder_fingerprint == own:
                return found
    of = f"layer {encode.layer} of this encoder" if isinstance(encode, Tap) else "this function"
    raise InputError(
        f"recipe {recipe.name!r} begins in a generator, and none is bundled for {of}: give"
        " generator=, a decoder of it, or take a recipe that needs none, such as 'calibrated'"
    )
