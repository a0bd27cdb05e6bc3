"""Recipes: what an inversion minimises, and with which steps.

A recipe is a pytree. Its numbers are leaves: scalars that every image shares, or arrays [N] that
give each image its own, in one compiled program. What changes the program is static. Images are in
mean-subtracted space, 0-255 units.
"""

import dataclasses
from typing import Any, Literal

import numpy as np
from flax import struct

DATA_TERMS = ("norm", "relative_square")
SCHEDULES = ("constant", "cosine")
L6_FORMS = ("power", "norm")
STARTS = ("noise", "image")


def _static(default):
    return struct.field(pytree_node=False, default=default)


@struct.dataclass(kw_only=True)
class Recipe:
    """Hyper-parameters of one inversion; the defaults are Table 1 of the report.

    steps: iterates evaluated. patience: so many steps without the loss falling by a thousandth end
    an image; 0: none do.

    tv_weight multiplies eq. 1 as it stands if the data term is `norm`; with `relative_square` it
    multiplies the mean over pixels of the total variation of x / 127.5, so that neither the
    encoder's scale nor the image's size matters. The same holds for l6_weight.

    tolerance: the relative loss (eq. 3) at which an image counts as converged; with `stop_early`
    its steps end there. warmup: steps in which the learning rate rises to its full size, linearly:
    at a full first step all pixels move alike, and units of a steep encoder may fall silent for
    good. final_rate: the last step's learning rate as a share of the full one (`cosine`). start:
    what the first image is, noise or an image given, a decoder's, with noise added.
    start_deviation: standard deviation of the noise, in grey levels.

    Raises ValueError, naming the option and the value received.
    """

    learning_rate: float = 26.60
    beta1: float = 0.90
    beta2: float = 0.99
    epsilon: float = 1e-8
    tv_weight: float = 4.00e-6
    l6_weight: float = 1.95e-15
    clip_percentile: float = 21.40
    warmup: int = 0
    final_rate: float = 1.0
    start_deviation: float = 10.0
    tolerance: float = 0.08
    steps: int = 200
    patience: int = 0

    name: str = _static("custom")
    data_term: Literal["norm", "relative_square"] = _static("norm")
    schedule: Literal["constant", "cosine"] = _static("constant")
    l6_form: Literal["power", "norm"] = _static("power")
    start: Literal["noise", "image"] = _static("noise")
    tv_beta: float = _static(1.0)
    clipping: bool = _static(True)
    stop_early: bool = _static(False)

    def __post_init__(self):
        for field, choices in (
            ("data_term", DATA_TERMS),
            ("schedule", SCHEDULES),
            ("l6_form", L6_FORMS),
            ("start", STARTS),
        ):
            if getattr(self, field) not in choices:
                raise ValueError(
                    f"{field} must be one of {', '.join(choices)}, "
                    f"received {getattr(self, field)!r}"
                )
        if isinstance(self.steps, int | float) and self.steps < 1:
            raise ValueError(f"steps must be at least 1, received {self.steps!r}")


PAPER = Recipe(name="paper")
"""Table 1, literally: eq. 2 in pixels, constant rate, clipping."""

PAPER_NO_PRIOR = dataclasses.replace(
    PAPER, name="paper_no_prior", learning_rate=2.0, tv_weight=0.0, l6_weight=0.0, clipping=False
)
"""The report's first search: both λ zero, no clipping; faithful descriptors, pictures of noise."""

CALIBRATED = Recipe(
    name="calibrated",
    learning_rate=40.0,
    tv_weight=0.03,
    l6_weight=0.03,
    warmup=10,
    final_rate=0.02,
    start_deviation=2.0,
    tolerance=0.05,
    steps=300,
    data_term="relative_square",
    schedule="cosine",
    clipping=False,
)
"""The default: eq. 2 made scale-free, with a rate that soon is high and decays.

`python -m experiments.invert --images=PHOTOS --limit=32 --layer=fc5,conv4` takes about a minute on
two cores; expect a relative loss near 0.014 at fc5 and 0.020 at conv4.
"""

WARM = dataclasses.replace(
    CALIBRATED,
    name="warm",
    start="image",
    start_deviation=0.0,
    learning_rate=8.0,
    l6_weight=0.1,
    warmup=0,
    steps=120,
)
"""Calibrated, but begun with a decoder's image, at a rate that does not wipe it out.

As low a relative loss in less than half the steps. What it shows is no longer the descriptor's
alone: the decoder adds what it learnt of street photographs.
"""

RECIPES = {recipe.name: recipe for recipe in (PAPER, PAPER_NO_PRIOR, CALIBRATED, WARM)}


def with_steps(recipe: Recipe, steps: int | None) -> Recipe:
    """The recipe with another number of steps; None: as it is."""
    return recipe if steps is None else dataclasses.replace(recipe, steps=steps)


def broadcast(recipe: Recipe, count: int) -> Recipe:
    """The recipe with every leaf [count], on the host; ValueError names one of another length."""
    leaves: dict[str, Any] = {}
    for field, value in recipe.__dict__.items():
        if not recipe.__dataclass_fields__[field].metadata.get("pytree_node", True):
            continue
        array = np.asarray(value, np.float32)
        if array.ndim > 1 or (array.ndim == 1 and array.shape[0] != count):
            raise ValueError(
                f"{field} must be a number or one number an image [{count}], received shape "
                f"{array.shape}"
            )
        leaves[field] = np.broadcast_to(array, (count,))
    return dataclasses.replace(recipe, **leaves)
