"""Recipes: the settings of an inversion, of its objective (see `objective`) and of its steps.

A recipe is a pytree. Its numbers are leaves: scalars that hold for all images, or arrays [N] that
give each image its own, in one compiled program. What changes the program is static. Images are in
grey levels about the mean colour (`grey_levels`): network space, where the encoder's scale is 1.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

import jax
import numpy as np
from flax import struct

from posenet_jax.errors import InputError
from posenet_jax.inversion import transforms
from posenet_jax.inversion.data_terms import DATA_TERMS
from posenet_jax.inversion.diversity import FEATURES
from posenet_jax.inversion.parameterisations import PARAMETERISATIONS, Parameterisation
from posenet_jax.inversion.priors import PRIORS, Weights, shown
from posenet_jax.inversion.transforms import Amounts

Array = jax.Array

SCHEDULES = ("constant", "cosine")
STARTS = ("noise", "image", "generator")
TRANSFORMED_SHARE = 0.5


def _static(default: Any) -> Any:
    return struct.field(pytree_node=False, default=default)


# How to write what were fields of a recipe.
_NOW_PRIORS = {
    "tv_weight": '{"tv": …}',
    "l6_weight": '{"l6": …}',
    "tv_beta": '{"tv_squared": …} for β = 2',
    "l6_form": '{"l6_norm": …} for the norm',
}


@struct.dataclass(kw_only=True)
class Recipe:
    """Hyper-parameters of one inversion; the defaults are Table 1 of the paper.

    steps: iterates evaluated. patience: so many steps without the loss falling by a thousandth end
    an image; 0: none do.

    data_term: a name of `data_terms.DATA_TERMS`, or a function of (descriptor, target) to a number.

    priors: weights by the names of `priors.PRIORS`, or by functions of an image to a number; those
    not named are not computed. A weight multiplies the penalty as it stands if the data term is
    `norm`; with all others it multiplies the penalty of x / 127.5 over the number of pixels, so
    that neither the encoder's scale nor the image's size matters; of C channels, 3 / C times that.
    `{**recipe.priors, "tv": 0.1}` changes one of them.

    leaf_weights: of an encoder whose descriptor is a pytree of several arrays: a weight for each of
    their data terms, in a pytree like it; None: all are 1. A function weighs as it likes.

    parameterisation: what the descent moves, a name of `parameterisations.PARAMETERISATIONS` or a
    `Parameterisation`. Rates and deviations stay in grey levels. Clipping is of pixels alone.

    transforms: how far, at most, the image is moved, enlarged or turned before the encoder, anew in
    every step: amounts by the names of `transforms.TRANSFORMS`, or by functions of (image, key,
    amount) to an image, in the order in which they are applied. Priors see the image itself.
    transformed_share: share of the steps that do so; None: `TRANSFORMED_SHARE`. The rest, the last
    step at least, does not, and results are the best of its iterates: losses are always those of
    the image as it is, and no image converges or stalls before.

    group: inversions of each target, from as many starts, which repel each other: see `groups`.
    diverse: how much they do, of a group alone: the most that its optimum loses of the objective.
    diverse_in: what they are to differ in, a name of `diversity.FEATURES` or a function of an image
    to any array, a second encoder; where two differ by 1 in the root mean square, half is reached.

    low_precision_share: share of the steps, the first ones, whose products are in the device's
    fastest precision (`precision`); those of the others, the last step at least, are in full
    precision. As with transforms results are the best of the others' iterates, losses are those in
    full precision, and no image converges or stalls before. None: all steps are in JAX's
    `default_matmul_precision`, which is the fastest where the caller has not set it. Worth it on
    GPUs and TPUs, with a fixed number of steps.

    tolerance: the relative loss (eq. 3) at which an image counts as converged; with `stop_early`
    its steps end there. warmup: steps in which the learning rate rises to its full size, linearly:
    at a full first step all pixels move alike, and units of a steep encoder may fall silent for
    good. final_rate: the last step's learning rate as a fraction of the full one (`cosine`).
    first_decay: steps after which the rate has decayed for a first time and is full again, from
    where it decays over all others (Loshchilov and Hutter 2017); None: it decays once.
    start: the first image, noise or an image given, a decoder's, with noise added; `generator`: a
    generator's of the target, by `decoders.generator_space`.
    start_deviation: standard deviation of the noise, in grey levels.

    Raises ValueError, naming the option and the value received.
    """

    learning_rate: float = 26.60
    beta1: float = 0.90
    beta2: float = 0.99
    epsilon: float = 1e-8
    priors: Mapping[str | Callable[..., Any], float | Array] = dataclasses.field(
        default_factory=lambda: Weights(l6=1.95e-15, tv=4.00e-6)
    )
    clip_percentile: float = 21.40
    warmup: int = 0
    final_rate: float = 1.0
    first_decay: float | Array | None = None
    start_deviation: float = 10.0
    tolerance: float = 0.08
    steps: int = 200
    patience: int = 0
    leaf_weights: Any = None
    transforms: Mapping[str | Callable[..., Any], float | Array] = dataclasses.field(
        default_factory=Amounts
    )
    transformed_share: float | Array | None = None
    diverse: float | Array | None = None
    low_precision_share: float | Array | None = None

    name: str = _static("custom")
    data_term: str | Callable[..., Any] = _static("norm")
    schedule: Literal["constant", "cosine"] = _static("constant")
    start: Literal["noise", "image", "generator"] = _static("noise")
    clipping: bool = _static(True)
    stop_early: bool = _static(False)
    parameterisation: str | Parameterisation = _static("pixels")
    group: int = _static(1)
    diverse_in: str | Callable[..., Any] = _static("light_and_dark")

    def __new__(cls, **fields: Any) -> Self:
        for name in fields.keys() & _NOW_PRIORS.keys():
            raise TypeError(f"{name} is now a prior: write priors={_NOW_PRIORS[name]}")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for field, choices in (
            ("data_term", tuple(DATA_TERMS)),
            ("schedule", SCHEDULES),
            ("start", STARTS),
            ("parameterisation", tuple(PARAMETERISATIONS)),
            ("diverse_in", tuple(FEATURES)),
        ):
            functions = field in ("data_term", "diverse_in")
            own = callable(getattr(self, field)) if functions else False
            own = own or isinstance(getattr(self, field), Parameterisation)
            if not own and getattr(self, field) not in choices:
                raise ValueError(
                    f"{field} must be one of {', '.join(choices)}, "
                    f"received {getattr(self, field)!r}"
                )
        if isinstance(self.steps, int | float) and self.steps < 1:
            raise ValueError(f"steps must be at least 1, received {self.steps!r}")
        if self.clipping and self.parameterisation != "pixels":
            raise ValueError("clipping sets pixels to zero: it needs the parameterisation pixels")
        named = {prior for prior in self.priors if not callable(prior)}
        if unknown := named - PRIORS.keys():
            names = f"{', '.join(PRIORS)}; received {', '.join(map(repr, sorted(unknown)))}"
            raise ValueError(f"priors must be among {names}")
        share = self.low_precision_share
        if isinstance(share, int | float) and not 0.0 <= share <= 1.0:
            raise ValueError(f"low_precision_share must lie between 0 and 1, received {share!r}")
        if self.first_decay is not None and self.schedule != "cosine":
            raise ValueError(f"first_decay needs the schedule cosine, received {self.schedule!r}")
        self._check_group()
        if self.leaf_weights is not None and callable(self.data_term):
            raise ValueError(
                "leaf_weights are for data terms by name: weigh in the function itself"
            )
        object.__setattr__(self, "priors", Weights(self.priors))
        object.__setattr__(self, "transforms", transforms.checked(self.transforms))

    def _check_group(self) -> None:
        if self.group < 1 or (self.group == 1) != (self.diverse is None):
            raise ValueError(
                "diverse is for a group of at least 2, and a group needs it; received diverse "
                f"{self.diverse!r}, group {self.group!r}"
            )
        alike = isinstance(self.start_deviation, int | float) and self.start_deviation == 0
        if self.group > 1 and alike:
            raise ValueError("members of a group differ by noise: start_deviation must be above 0")


PAPER = Recipe(name="paper")
"""Table 1, literally: eq. 2 in pixels, constant rate, clipping."""

PAPER_NO_PRIOR = dataclasses.replace(
    PAPER,
    name="paper_no_prior",
    learning_rate=2.0,
    priors={"tv": 0.0, "l6": 0.0},
    clipping=False,
)
"""The paper's first search: both λ zero, no clipping; faithful descriptors, pictures of noise."""

CALIBRATED = Recipe(
    name="calibrated",
    learning_rate=40.0,
    priors={"tv": 0.03, "l6": 0.03},
    warmup=10,
    final_rate=0.02,
    start_deviation=2.0,
    tolerance=0.05,
    steps=300,
    data_term="relative_square",
    schedule="cosine",
    clipping=False,
)
"""The default: eq. 2 in its scale-free form, with a rate that soon is high and decays.

`posenet-jax invert --images=PHOTOS --limit=32 --layer=fc5,conv4` takes about a minute on
two cores; expect a relative loss near 0.014 at fc5 and 0.020 at conv4.
"""

WARM = dataclasses.replace(
    CALIBRATED,
    name="warm",
    start="image",
    start_deviation=0.0,
    learning_rate=8.0,
    priors={"tv": 0.03, "l6": 0.1},
    warmup=0,
    steps=120,
)
"""Calibrated, but started from a decoder's image, at a rate that does not wipe it out.

As low a relative loss in less than half the steps. What it shows is no longer the descriptor's
alone: the decoder adds what it learnt of street photographs.
"""

QUICK = dataclasses.replace(
    CALIBRATED,
    name="quick",
    parameterisation="fourier",
    learning_rate=14.0,
    beta1=0.7,
    beta2=0.9,
    warmup=1,
    first_decay=48,
    steps=200,
)
"""Calibrated, in waves with the amplitudes of photographs: large shapes come in the first steps.

About half the steps to a relative loss of 0.05, and a picture there nearer to the original in a
judge; after its 200 steps nearly the same as `calibrated` after 300.
"""

NATURAL = dataclasses.replace(
    WARM,
    name="natural",
    start="generator",
    learning_rate=3.0,
    priors={"sparse": 0.075, "l6": 0.1},
    steps=36,
)
"""Begun in a generator's picture, at a low rate, with edges as sparse as in photographs.

See docs/natural.md. What it shows is not the descriptor's alone: the generator adds what it learnt
of street photographs.
"""

RECIPES = {
    recipe.name: recipe for recipe in (PAPER, PAPER_NO_PRIOR, CALIBRATED, WARM, QUICK, NATURAL)
}
"""The recipes by name."""


def with_steps(recipe: Recipe, steps: int | None) -> Recipe:
    """The recipe with another number of steps; None: as it is."""
    return recipe if steps is None else dataclasses.replace(recipe, steps=steps)


def broadcast(recipe: Recipe, count: int) -> Recipe:
    """Returns the recipe with every leaf [count], on the host.

    Raises ValueError, naming a leaf of another length.
    """

    def column(path: tuple[Any, ...], value: float | Array) -> np.ndarray:
        array = np.asarray(value, np.float32)
        if array.ndim > 1 or (array.ndim == 1 and array.shape[0] != count):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise ValueError(
                f"{name} must be a number or one number an image [{count}], received shape "
                f"{array.shape}"
            )
        return np.broadcast_to(array, (count,))

    return jax.tree_util.tree_map_with_path(column, recipe)


_VARIATIONS = {"tv": 1.0, "tv_squared": 2.0}
_SIXTHS = {"l6": "power", "l6_norm": "norm"}


def record(recipe: Recipe) -> dict[str, Any]:
    """Returns {option: value} for a file; of an array, which may be long, a fingerprint.

    Raises InputError for a function, which a file cannot tell from another.

    One total variation and one sixth power are written as versions without `priors` wrote them, so
    that folders of theirs can be resumed: tv_weight, tv_beta, l6_weight, l6_form.
    """
    moved = recipe.parameterisation
    if isinstance(moved, Parameterisation) and not moved.name:
        raise InputError(
            "the recipe's own parameterisation has no name that a file could hold: give it one in "
            "parameterisations.PARAMETERISATIONS"
        )
    chosen = recipe.data_term, recipe.diverse_in, *recipe.priors, *recipe.transforms
    for function in filter(callable, chosen):
        raise InputError(
            f"{shown(function)} has no name that a file could hold: give it one in "
            "data_terms.DATA_TERMS, priors.PRIORS, transforms.TRANSFORMS or diversity.FEATURES"
        )
    values = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}
    if recipe.parameterisation == "pixels":  # as records were before there were others
        del values["parameterisation"]
    elif isinstance(moved, Parameterisation):
        values["parameterisation"] = moved.name
    weights, further = values.pop("leaf_weights"), _of_transforms(recipe)
    del values["transforms"], values["transformed_share"]
    for name in ("low_precision_share", "first_decay"):
        if values[name] is None:
            del values[name]
    if recipe.group == 1:
        del values["group"], values["diverse"], values["diverse_in"]
    if weights is not None:
        further["leaf_weights"] = {
            jax.tree_util.keystr(path): _recorded(weight)
            for path, weight in jax.tree_util.tree_leaves_with_path(weights)
        }
    priors = {name: _recorded(weight) for name, weight in values.pop("priors").items()}
    options = {name: _recorded(value) for name, value in values.items()} | further
    variations, sixths = priors.keys() & _VARIATIONS.keys(), priors.keys() & _SIXTHS.keys()
    if len(priors) != 2 or not variations or not sixths:
        return options | {"priors": priors}
    (variation,), (sixth,) = variations, sixths
    return options | {
        "tv_weight": priors[variation],
        "tv_beta": _VARIATIONS[variation],
        "l6_weight": priors[sixth],
        "l6_form": _SIXTHS[sixth],
    }


def _of_transforms(recipe: Recipe) -> dict[str, Any]:
    """Returns what a record says of transforms, as pairs, for their order counts; none: nothing."""
    if not recipe.transforms:
        return {}
    share = TRANSFORMED_SHARE if recipe.transformed_share is None else recipe.transformed_share
    amounts = [[name, _recorded(amount)] for name, amount in recipe.transforms.items()]
    return {"transforms": amounts, "transformed_share": _recorded(share)}


def _recorded(value: Any) -> Any:
    if not np.ndim(value):
        return value
    return hashlib.sha256(np.float32(value).tobytes()).hexdigest()[:16]
