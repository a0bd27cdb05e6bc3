"""Search of hyper-parameters: a bulk inversion of a few images again and again, in as many ways.

A trial is a recipe, with which every image is inverted; all trials go through the same compiled
step. Trials are ranked by measures of the pictures that see no original's pixels (`Measure`'s
`ranks_trials`): the descriptor in another network, and the spectrum of natural images. T trials, n
images.
"""

import dataclasses
import hashlib
import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, SupportsIndex

import numpy as np
from scipy import stats

from posenet_jax.data.sources import NamedImage
from posenet_jax.errors import InputError, shown
from posenet_jax.evaluation import measures
from posenet_jax.inversion.priors import PRIORS
from posenet_jax.inversion.recipes import PAPER, Recipe
from posenet_jax.io.run_files import read_csv


class Range(NamedTuple):
    """Range from which numbers are drawn.

    scale: evenly (`linear`), in their logarithm (`log`), in that of one less them (`from_one`).
    """

    low: float
    high: float
    scale: Literal["linear", "log", "from_one"] = "log"

    def at(self, fraction: np.ndarray) -> np.ndarray:
        """Returns the numbers at fractions in [0, 1] of the way from low to high."""
        if self.scale == "linear":
            return self.low + (self.high - self.low) * fraction
        if self.scale == "log":
            return self.low * (self.high / self.low) ** fraction
        return 1.0 - (1.0 - self.low) * ((1.0 - self.high) / (1.0 - self.low)) ** fraction


@dataclasses.dataclass(frozen=True)
class Stage:
    """One of the paper's searches (section 5.2): ranges of draws, and the recipe of all the rest.

    ranges: by a number's column in trials.csv (`columns_of`).
    """

    recipe: Recipe
    ranges: Mapping[str, Range]
    trials: int


def columns_of(recipe: Recipe) -> dict[str, Any]:
    """Returns a recipe's numbers by column: its fields, and `tv_weight` for the weight of tv."""
    weights = {f"{name}_weight": weight for name, weight in recipe.priors.items()}
    return vars(recipe) | weights


def second_stage(recipe: Recipe, trials: int) -> Stage:
    """Returns the search of Adam's numbers, the weights of a recipe's priors, and the clipping."""
    priors = {name: prior for name, prior in PRIORS.items() if name in recipe.priors}
    # The paper gives no ranges: these are chosen as those of the priors are.
    ranges = {
        "learning_rate": Range(0.1, 1e3),
        "beta1": Range(0.5, 0.99, "from_one"),
        "beta2": Range(0.9, 0.9999, "from_one"),
        **{f"{name}_weight": Range(*prior.weights) for name, prior in priors.items()},
        "clip_percentile": Range(0.0, 50.0, "linear"),
    }
    return Stage(recipe, ranges, trials)


STAGES = {
    1: Stage(
        dataclasses.replace(
            PAPER, name="stage_1", beta2=0.999, priors={"tv": 0.0, "l6": 0.0}, clipping=False
        ),
        {"learning_rate": Range(1e-10, 1e4)},
        1500,
    ),
    2: second_stage(dataclasses.replace(PAPER, name="stage_2"), 2500),
}
"""Both minimise eq. 2 as printed. Stage 1 has both λ zero, no clipping, and Adam's own β."""


def draw(stage: Stage, trials: int, seed: int) -> dict[str, np.ndarray]:
    """Returns [1 + trials] of each hyper-parameter, and `trial`, their numbers.

    Trial 0 has Table 1's values, to compare with. A trial depends on seed and number alone: the
    first of more trials are the same.
    """
    fractions = np.random.default_rng(seed).random((trials, len(stage.ranges)))
    printed = columns_of(stage.recipe)
    drawn: dict[str, np.ndarray] = {"trial": np.arange(trials + 1)}
    for (name, numbers), column in zip(stage.ranges.items(), fractions.T, strict=True):
        drawn[name] = np.concatenate([[printed[name]], numbers.at(column)])
    return drawn


def recipe_of(
    stage: Stage, drawn: Mapping[str, np.ndarray], images: int, steps: int, patience: int
) -> Recipe:
    """Returns the recipe of a bulk inversion of `RepeatedImages`: arrays [T · n]."""
    own: dict[str, Any] = {name: np.repeat(drawn[name], images) for name in stage.ranges}
    priors = {
        name: own.pop(f"{name}_weight", weight) for name, weight in stage.recipe.priors.items()
    }
    return dataclasses.replace(stage.recipe, steps=steps, patience=patience, priors=priors, **own)


class RepeatedImages:
    """The same images once for every trial, trial by trial: an `ImageSource`."""

    def __init__(self, images: Sequence[NamedImage], trials: Sequence[int] | np.ndarray) -> None:
        self._images, self._trials = images, trials
        digest = hashlib.sha256(np.asarray(trials).tobytes())
        for name, image in images:
            digest.update(f"{name}{image.shape}".encode() + image.tobytes())
        self.fingerprint = digest.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self._trials) * len(self._images)

    def name(self, position: int) -> str:
        """Name of the trial, and of its image."""
        trial, image = divmod(position, len(self._images))
        return f"trial-{self._trials[trial]}/{self._images[image].name}"

    def __getitem__(self, position: SupportsIndex) -> NamedImage:
        index = operator.index(position)
        if not 0 <= index < len(self):
            raise IndexError(f"position {index} of {len(self)} images")
        return NamedImage(self.name(index), self._images[index % len(self._images)].image)


def measure_names() -> list[str]:
    """Columns of trials.csv that are means over a trial's images: of the loss, and of measures."""
    ranking = (measure for measure in measures.MEASURES if measure.ranks_trials)
    shown = dict.fromkeys(m.name for m in (*measures.shown_in("trials"), *ranking))
    return ["relative_loss", *shown]


def read_measures(results: str | Path, trials: int) -> dict[str, np.ndarray]:
    """[T] means over the images, and how many of them were not finite.

    results: the results.csv of a bulk inversion of `RepeatedImages`. Raises InputError where it is
    none of so many trials.
    """
    remedy = "remove it and run the same command again"
    names = measure_names()
    rows = list(read_csv(results, (*names, "status"), remedy=remedy))
    if not rows or len(rows) % trials:
        lines = f"{len(rows)} lines, not as many for each of {trials} trials"
        raise InputError(f"{shown(results)} has {lines}; {remedy}")
    columns = {name: np.array([row.number(name) for row in rows]) for name in names}
    with np.errstate(over="ignore", invalid="ignore"):
        means = {name: each.reshape(trials, -1).mean(axis=1) for name, each in columns.items()}
    broken = np.array([row.cells["status"] == "not finite" for row in rows])
    return means | {"not_finite": broken.reshape(trials, -1).sum(axis=1)}


def score(measured: Mapping[str, np.ndarray]) -> np.ndarray:
    """[T] mean of a trial's ranks by each measure that `ranks_trials`, 0 to 1 (last).

    The bundled ones are `judge_relative_loss` and `spectral_deviation`: neither looks at an
    original's pixels, and neither unit has to be weighed against the other. Trials with an image
    that was not finite come last.
    """
    ranks = []
    for measure in measures.MEASURES:
        if measure.ranks_trials:
            values = measured[measure.name]
            broken = (measured["not_finite"] > 0) | np.isnan(values)
            loss = values if measure.better == "low" else -values
            ranks.append(stats.rankdata(np.where(broken, np.inf, loss)) - 1)
    return np.mean(ranks, axis=0) / max(len(ranks[0]) - 1, 1)


def table(columns: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Returns a row for each trial, the best first."""
    order = np.argsort(columns["score"], kind="stable")
    return [{name: column[row].item() for name, column in columns.items()} for row in order]


def rungs(steps: int, trials: int, count: int) -> list[tuple[int, int]]:
    """(steps, trials) of each rung of successive halving (Jamieson & Talwalkar 2016).

    A rung has a quarter of the trials of the one before, and four times its steps; one rung is no
    halving.
    """
    return [
        (max(1, steps // 4 ** (count - 1 - rung)), max(1, trials // 4**rung))
        for rung in range(count)
    ]
