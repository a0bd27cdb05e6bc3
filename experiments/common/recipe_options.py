"""Flags of the scripts that take a recipe, and the recipe that they say.

Names and defaults of the library are repeated here, as in `options`, and tested.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from absl import flags

from . import options

if TYPE_CHECKING:
    from posenet_jax.inversion.recipes import Recipe

_DATA_TERMS = ["norm", "relative_square", "cosine", "maximise"]  # those that need no masks
_PRIORS = ["tv", "l6", "tv_squared", "l6_norm", "sparse"]
_PARAMETERISATIONS = ["pixels", "fourier", "pyramid"]
_TRANSFORMS = {"jitter": math.inf, "scale": 1.0, "rotation": math.inf}  # amounts are below

RECIPE = options.recipe()
STEPS = options.inversion_steps()
DATA_TERM = flags.DEFINE_enum(
    "data_term",
    None,
    _DATA_TERMS,
    "Data term of the inversion, what its descriptor is to be; the recipe's if not given.",
)
PRIOR = flags.DEFINE_list(
    "prior",
    [],
    f"Weights of priors as NAME:WEIGHT, with commas between, NAME one of {', '.join(_PRIORS)};"
    " those not named are the recipe's.",
)
PARAMETERISATION = flags.DEFINE_enum(
    "parameterisation",
    None,
    _PARAMETERISATIONS,
    "Parameters that the descent moves in place of pixels; the recipe's if not given.",
)
TRANSFORM = flags.DEFINE_list(
    "transform",
    [],
    "Transforms of the image before the encoder as NAME:AMOUNT, with commas between, in their"
    f" order, NAME one of {', '.join(_TRANSFORMS)}: up to so many pixels, a share of the size,"
    " degrees; none if not given.",
)
LOW_PRECISION = flags.DEFINE_float(
    "low_precision_share",
    None,
    "Share of the steps, the first ones, with products in the device's fastest precision; the last"
    " ones have full precision. All are in JAX's default precision if not given.",
    lower_bound=0.0,
    upper_bound=1.0,
)
RESTARTS = flags.DEFINE_integer(
    "restarts", 1, "Inversions of each image, from as many starts.", lower_bound=1
)
DIVERSE = flags.DEFINE_float(
    "diverse",
    None,
    "Weight by which the --restarts of an image repel each other, such as 0.03; the objective never"
    " loses more. They do not if not given.",
    lower_bound=0.0,
)


def _numbers(words: list[str]) -> dict[str, float]:
    """Returns {name: number} of NAME:NUMBER words. Raises ValueError for other words."""
    pairs = [word.partition(":") for word in words]
    return {name.strip(): float(number) for name, _, number in pairs}


def _check(names: list[str]) -> Callable[[list[str]], bool]:
    """Returns a validator of NAME:NUMBER words with these names."""

    def valid(words: list[str]) -> bool:
        try:
            numbers = _numbers(words)
        except ValueError:
            raise flags.ValidationError("write NAME:NUMBER, with commas between") from None
        if unknown := [name for name in numbers if name not in names]:
            raise flags.ValidationError(f"{unknown[0]!r} is none of {', '.join(names)}")
        for name, number in numbers.items():
            below = _TRANSFORMS.get(name, math.inf)
            if not 0.0 <= number < below:
                upper = f" and below {below}" if below < math.inf else ""
                raise flags.ValidationError(f"{name} must be a number, at least 0{upper}")
        return len(numbers) == len(words)

    return valid


_TWICE = "every name once, as NAME:NUMBER, with commas between"
flags.register_validator(PRIOR, _check(_PRIORS), message=_TWICE)
flags.register_validator(TRANSFORM, _check(list(_TRANSFORMS)), message=_TWICE)
flags.register_multi_flags_validator(
    [RESTARTS, DIVERSE],
    lambda given: given["diverse"] is None or given["restarts"] > 1,
    "--diverse is for --restarts=2 and more",
)


def chosen() -> "Recipe":
    """Returns the recipe that the flags say. Raises InputError where they do not go together."""
    from posenet_jax.errors import InputError
    from posenet_jax.inversion.recipes import RECIPES, with_steps

    recipe = with_steps(RECIPES[RECIPE.value], STEPS.value)
    given: dict[str, Any] = {
        "data_term": DATA_TERM.value,
        "priors": dict(recipe.priors) | _numbers(PRIOR.value) if PRIOR.value else None,
        "parameterisation": PARAMETERISATION.value,
        "transforms": _numbers(TRANSFORM.value) or None,
        "low_precision_share": LOW_PRECISION.value,
    }
    if DIVERSE.value is not None:
        given |= {"group": RESTARTS.value, "diverse": DIVERSE.value}
    given = {name: value for name, value in given.items() if value is not None}
    try:
        return dataclasses.replace(recipe, **given)
    except ValueError as error:
        raise InputError(f"recipe {recipe.name}: {error}") from None
