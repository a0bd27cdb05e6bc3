"""Inversions that begin in a generator (recipe `natural`), and those that move its features.

A generator is a decoder of the layer that is inverted, most often one that was trained against a
discriminator and reads noise (`streetnet-fc5-adversarial`). An inversion begins with its picture of
the target, of a draw of half the noise that follows from the job's key, and moves the picture's
pixels, or the generator's inner features and pixels on top of its image:

    image = G(φ0 and noise; coarse maps + their changes) + pixels

Changes and pixels are zero at first. Unbatched; images are in grey levels.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from posenet_jax.decoders.decoding import Decoder, bundled_generator, decoder_for, value_range
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.errors import InputError
from posenet_jax.inversion.parameterisations import Parameterisation
from posenet_jax.inversion.recipes import Recipe
from posenet_jax.inversion.shapes import Image

Array = jax.Array
Maps = dict[str, Array]

# Of the noise that training drew (truncation; Marchesi 2017; Brock et al. 2019): less of it shows
# less of what is invented, and none of it would begin all restarts of a descriptor in one picture.
_NOISE = 0.5

_LITTLE = 1e-2  # change of which a derivative is taken

# Maps of at most so many pixels a side are moved: finer ones could make any pattern, as pixels can.
_COARSE = 8
# A step of size one moves the image, by each of its groups, by so many grey levels.
_STEP = {"noise": 0.1, "maps": 0.3, "pixels": 1.0}


def recipe_in(recipe: Recipe, decoder: Decoder | None, *, features: bool = False) -> Recipe:
    """Returns the recipe with the generator that it begins in; another recipe as it is.

    features: whether its inner features are moved too, not pixels alone. Raises InputError where
    one is needed and there is none.
    """
    if recipe.start != "generator":
        return recipe
    if decoder is None:
        raise InputError(f"recipe {recipe.name!r} begins in a generator: give a decoder")
    if recipe.parameterisation != "pixels":
        raise InputError(
            f"recipe {recipe.name!r} begins in a generator, which decides what is moved: it "
            "takes no parameterisation besides"
        )
    return dataclasses.replace(recipe, parameterisation=parameterisation(decoder, features))


def generator_for(encoder: Encoder, layer: str, name: str | None = None) -> Decoder:
    """Returns the generator of an encoder's layer: the bundled adversarial decoder, or another.

    name: a bundled decoder, or a .safetensors file. Raises InputError where there is none.
    """
    name = name or bundled_generator(encoder, layer)
    if name is None:
        raise InputError(
            f"no generator is bundled for {layer} of encoder {encoder.name!r}: name a decoder of "
            "this layer (--decoder), or take a recipe that needs none, such as calibrated"
        )
    return decoder_for(encoder, layer, name)


def parameterisation(decoder: Decoder, features: bool = False) -> Parameterisation:
    """Returns what an inversion in a generator moves; the same record for the same weights."""
    return (_of_features if features else _of_pixels)(_ByWeights(decoder))


class _ByWeights:
    """A decoder, told from others by its weights: a second load of a file compiles nothing."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.key = (decoder.name, decoder.fingerprint, decoder.preprocessing)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByWeights) and self.key == other.key


@functools.lru_cache(maxsize=8)
def _of_pixels(held: _ByWeights) -> Parameterisation:
    decoder = held.decoder

    def begin(key: Array, target: Array) -> Image:
        return generated(decoder, _drawn(decoder, key, target))

    name = f"pixels, begun in {decoder.name} {decoder.fingerprint}, noise {_NOISE}"
    return Parameterisation(_needs_a_target, lambda pixels, _: pixels, begin, name)


def _drawn(decoder: Decoder, key: Array, target: Array) -> Array:
    """Returns what the decoder's network reads of a target, with the noise of a job's key."""
    drawn = jax.random.normal(key, decoder.noise, jnp.float32)
    return decoder.inputs(target, _NOISE * drawn)


def _needs_a_target(_: Image) -> Any:
    raise InputError("a generator begins with a target, not with an image")


@functools.lru_cache(maxsize=8)
def _of_features(held: _ByWeights) -> Parameterisation:
    decoder = held.decoder
    units = step_units(decoder)
    no_change = _no_change(decoder)

    def begin(key: Array, target: Array) -> dict[str, Any]:
        return {
            "inputs": _drawn(decoder, key, target),
            "noise": jnp.zeros(decoder.noise or 0, jnp.float32),
            "maps": jax.tree.map(jnp.zeros_like, no_change),
            "pixels": jnp.zeros(decoder.preprocessing.shape, jnp.float32),
        }

    def image(parameters: Mapping[str, Any], _: Any) -> Image:
        inputs = jax.lax.stop_gradient(parameters["inputs"])
        if decoder.noise:
            moved = units["noise"] * parameters["noise"]
            inputs = _with_noise_moved(decoder, inputs, moved)
        maps = {name: units[name] * own for name, own in parameters["maps"].items()}
        return generated(decoder, inputs, maps) + _STEP["pixels"] * parameters["pixels"]

    name = f"features of {decoder.name} {decoder.fingerprint}, noise {_NOISE}"
    return Parameterisation(_needs_a_target, image, begin, name)


def _with_noise_moved(decoder: Decoder, inputs: Array, moved: Array) -> Array:
    return inputs.at[..., -decoder.noise[-1] :].add(moved)


def generated(decoder: Decoder, inputs: Array, changes: Maps | None = None) -> Image:
    """Returns the image [H, W, C], in grey levels, of inputs and of changes added to inner maps."""
    changes = changes or {}

    def added(function: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        out = function(*args, **kwargs)
        name = _map_name(context)
        return out + changes[name] if name in changes else out

    # The weights are constants of the program; XLA would take minutes to fold them.
    variables = jax.lax.optimization_barrier(decoder.variables)
    with nn.intercept_methods(added):
        decoded: Any = decoder.module.apply(variables, inputs)
    space = decoder.preprocessing
    return space.to_levels(decoded * value_range(space))


def _no_change(decoder: Decoder) -> dict[str, np.ndarray]:
    """Returns zeros like the feature maps of at most `_COARSE` pixels a side, by their layers."""
    found: dict[str, np.ndarray] = {}

    def kept(function: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        out = function(*args, **kwargs)
        name = _map_name(context)
        if name is not None and out.ndim == 3 and out.shape[0] <= _COARSE:
            found[name] = np.zeros(out.shape, np.float32)
        return out

    def traced(descriptor: Array) -> Any:
        with nn.intercept_methods(kept):
            return decoder.module.apply(decoder.variables, decoder.inputs(descriptor))

    jax.eval_shape(traced, jax.ShapeDtypeStruct(decoder.descriptor_shape, jnp.float32))
    return found


def _map_name(context: nn.module.InterceptorContext) -> str | None:
    """Returns the name of a decoder's layer where its normalised output is computed."""
    path = context.module.path
    of_layer = context.method_name == "__call__" and len(path) == 1 and path[0].endswith("_norm")
    return path[0].removesuffix("_norm") if of_layer else None


def step_units(decoder: Decoder) -> dict[str, float]:
    """Returns by how much a step of one moves noise and maps, so that all move the image alike.

    Small changes of signs at random move the image of no descriptor by `_STEP` grey levels for each
    one, in the root mean square. Two digits: rounding must not count.
    """
    zeros = {"noise": np.zeros(decoder.noise or 0, np.float32), **_no_change(decoder)}
    zeros = {name: zero for name, zero in zeros.items() if zero.size}

    def image(changes: Maps) -> Image:
        read = decoder.inputs(jnp.zeros(decoder.descriptor_shape, jnp.float32))
        maps = dict(changes)
        if decoder.noise:
            read = _with_noise_moved(decoder, read, maps.pop("noise"))
        return generated(decoder, read, maps)

    @jax.jit
    def moved(signs: Maps) -> Array:
        # A difference: convolutions with gradients by hand have no forward derivative.
        little = jax.tree.map(lambda own: _LITTLE * own, signs)
        change = image(little) - image(jax.tree.map(jnp.zeros_like, signs))
        return jnp.sqrt(jnp.mean(jnp.square(change))) / _LITTLE

    random, units = np.random.default_rng(0), {}
    for name, zero in zeros.items():
        still = jax.tree.map(np.zeros_like, zeros)
        signs = still | {name: random.choice(np.array([-1, 1], np.float32), zero.shape)}
        group = _STEP["noise" if name == "noise" else "maps"]
        units[name] = float(f"{group / max(float(moved(signs)), 1e-6):.1e}")
    return units
