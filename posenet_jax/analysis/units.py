"""Images that single units of a descriptor respond to most: activation maximisation.

Erhan et al. 2009, *Visualizing higher-layer features of a deep network*. A unit is one number of a
descriptor, counted through the flattened array. Its response is given as a multiple of the highest
one to any of N reference images, so that units can be compared and priors have one scale.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from posenet_jax.encoders.encoder import Tap
from posenet_jax.errors import InputError
from posenet_jax.inversion import engine, recipes
from posenet_jax.inversion.recipes import Recipe

Array = jax.Array

RECIPE: Recipe = dataclasses.replace(
    recipes.CALIBRATED,
    name="maximise",
    data_term="maximise",
    priors={"tv": 3.0, "l6": 0.3},
    steps=150,
)
"""Priors weigh a hundred times as much as where there is a target to reach: with less of them a
response is a tenth higher, and its image is noise.
"""


class Responses(NamedTuple):
    """K units, what they respond to and how strongly."""

    unit: np.ndarray  # [K] places in the flattened descriptor
    picture: np.ndarray  # [K, H, W, C] uint8, the maximising image
    response: np.ndarray  # [K] of the unit to that picture
    reference: np.ndarray  # [K] place of the reference image with the highest response
    highest: np.ndarray  # [K] that response
    active: np.ndarray  # [K] fraction of the reference images with a response above 0
    silent: np.ndarray  # [K] whether the unit has no response to the mean colour

    @property
    def multiple(self) -> np.ndarray:
        """Responses to the pictures over the highest to a reference image; NaN where that is 0."""
        return np.divide(
            self.response, self.highest, out=np.full(len(self.unit), np.nan), where=self.highest > 0
        )

    def table(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Returns a row a unit. names: of the reference images."""
        return [
            {
                "unit": int(self.unit[k]),
                "response": float(self.response[k]),
                "highest": float(self.highest[k]),
                "multiple": float(self.multiple[k]),
                "image": names[self.reference[k]],
                "active": float(self.active[k]),
                "begun_from": names[self.reference[k]] if self.silent[k] else "noise",
            }
            for k in range(len(self.unit))
        ]


def chosen(tap: Tap, units: Sequence[int]) -> list[int]:
    """Returns the units that are asked for; none: all. Raises InputError for one there is not."""
    image = jnp.zeros(tap.preprocessing.shape, jnp.float32)
    count = jax.eval_shape(tap, image).size
    if outside := [unit for unit in units if not 0 <= unit < count]:
        raise InputError(f"{tap.layer} has the units 0 to {count - 1}; received {outside[0]}")
    return list(units) or list(range(count))


def maximised(
    tap: Tap,
    references: np.ndarray,
    *,
    key: Array,
    units: Sequence[int] = (),
    recipe: Recipe = RECIPE,
    slots: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Responses:
    """Returns what each unit responds to most, all in one run of the engine.

    The ascent begins with noise about the mean colour. A unit that is silent there has no gradient
    (it ends in a ReLU): its ascent begins with noise about the reference image that it responds to
    most.

    references: [N, H, W, C] uint8. units: none: all. progress: told of image·steps done.
    """
    unit = np.asarray(chosen(tap, units))
    described = tap.describe(references)
    responses = described.reshape((len(described), -1))
    own = responses[:, unit]
    highest = own.max(axis=0)
    # A unit that no reference image excites may still be excited: it has the others' scale.
    scale = np.where(highest > 0, highest, responses.max(axis=0).mean() or 1.0)
    rows = np.arange(len(unit))
    targets = np.zeros((len(unit), responses.shape[1]), np.float32)
    targets[rows, unit] = 1.0 / scale
    space = tap.preprocessing
    grey = space.from_levels(jnp.zeros((1, *space.shape), jnp.float32))
    silent = np.asarray(tap(grey)).reshape(-1)[unit] <= 0
    reference = own.argmax(axis=0)
    begun = np.where(silent[:, None, None, None], space.to_network(references[reference]), grey)
    result = engine.invert(
        tap,
        targets.reshape((-1, *described.shape[1:])),
        key=key,
        recipe=dataclasses.replace(recipe, start="image"),
        start=begun,
        slots=slots,
        positions=unit.tolist(),
        progress=progress,
    )
    pictures = np.asarray(space.to_image(result.image))
    reached = tap.describe(pictures).reshape((len(unit), -1))[rows, unit]
    active = np.mean(own > 0, axis=0)
    return Responses(unit, pictures, reached, reference, highest, active, silent)


def summary(responses: Responses) -> list[str]:
    """Returns lines to print."""
    never, silent = int(np.sum(responses.highest == 0)), int(np.sum(responses.silent))
    low, middle, high = np.nanquantile(responses.multiple, (0.05, 0.5, 0.95))
    return [
        f"response over the highest to a given image: {middle:.1f} in the median, {low:.1f} to "
        f"{high:.1f} between 5 and 95 %",
        f"{silent} units are silent at the mean colour and began with the given image that they "
        f"respond to most; {never} respond to no given image",
    ]
