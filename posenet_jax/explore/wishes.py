"""Requests of a person on the page, checked: a value may be anything that JSON can say."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from posenet_jax.errors import InputError
from posenet_jax.explore.catalogue import Catalogue, Program
from posenet_jax.inversion.recipes import Recipe, with_steps

MOST_STEPS = 1000
MOST_RESTARTS = 4


@dataclasses.dataclass(frozen=True)
class Wish:
    """One inversion, or a few restarts of it."""

    program: Program
    recipe: Recipe
    seed: int
    restarts: int
    operation: str = ""  # on the descriptor before the inversion; none where empty
    amount: float = 0.0

    def record(self) -> dict[str, Any]:
        """Returns the wish as plain values."""
        return self.program._asdict() | {
            "steps": int(self.recipe.steps),
            "seed": self.seed,
            "restarts": self.restarts,
            "operation": self.operation or None,
            "amount": self.amount if self.operation else None,
        }


def wish(catalogue: Catalogue, asked: Mapping[str, Any]) -> Wish:
    """Returns the wish that a message says; InputError for values that there cannot be."""
    program = program_of(catalogue, asked)
    recipe = catalogue.recipe(program.recipe)
    steps = whole(asked, "steps", 1, MOST_STEPS, int(recipe.steps))
    return Wish(
        program,
        with_steps(recipe, steps),
        whole(asked, "seed", 0, 2**31 - 1, 0),
        whole(asked, "restarts", 1, MOST_RESTARTS, 1),
        word(asked, "operation", ""),
        number(asked, "amount", 0.0, 1e6, 0.0),
    )


def program_of(catalogue: Catalogue, asked: Mapping[str, Any]) -> Program:
    """Returns encoder, layer and recipe of a message; InputError where one is not offered."""
    default = catalogue.default
    name = word(asked, "encoder", default.encoder)
    layer = word(asked, "layer", default.layer)
    catalogue.encoder(name).tap(layer)
    recipe = word(asked, "recipe", default.recipe)
    catalogue.recipe(recipe)
    return Program(name, layer, recipe)


def word(asked: Mapping[str, Any], name: str, default: str) -> str:
    """Returns a text of a message; InputError for anything else."""
    value = asked.get(name, default)
    if not isinstance(value, str) or len(value) > 200:
        raise InputError(f"{name} must be a word")
    return value


def whole(asked: Mapping[str, Any], name: str, least: int, most: int, default: int) -> int:
    """Returns a whole number of a message; InputError for anything else, or beyond its bounds."""
    value = asked.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InputError(f"{name} must be a whole number from {least} to {most}")
    return value


def number(asked: Mapping[str, Any], name: str, least: float, most: float, default: float) -> float:
    """Returns a number of a message; InputError for anything else, or beyond its bounds."""
    value = asked.get(name, default)
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    if not usable or not math.isfinite(value) or not least <= value <= most:
        raise InputError(f"{name} must be a number from {least:g} to {most:g}")
    return float(value)
