"""Measures of reconstructed pictures, each beside its control: `MEASURES`, the one list of them.

N pictures and originals, uint8 RGB [N, H, W, 3]; descriptors [N, …] of the originals. A measure has
one value a picture, and is a column of results.csv, a line of summaries and of the documentation.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from posenet_jax import metrics, numerics
from posenet_jax.encoders.encoder import Encoder, Tap

Array = jax.Array

# Correlations of the same image in another row of a batch may be as far apart.
_ROUNDING = 1e-5
Need = Literal["originals", "judge", "heads"]


@dataclasses.dataclass(frozen=True, eq=False)
class Context:
    """Pictures to measure. What several measures need is computed once, when the first asks.

    tap: the inverted layer. targets: its descriptors of the originals. judge: a layer of an encoder
    that no inversion saw. encoder: the one whose pose heads are asked, if it has any.
    """

    tap: Tap
    targets: np.ndarray
    pictures: np.ndarray
    originals: np.ndarray | None = None
    judge: Tap | None = None
    encoder: Encoder | None = None
    _described: dict[tuple[int, int, str, str], np.ndarray] = dataclasses.field(
        default_factory=dict, init=False, repr=False
    )

    @property
    def available(self) -> frozenset[Need]:
        """Needs of measures that are met."""
        met: dict[Need, bool] = {
            "originals": self.originals is not None,
            "judge": self.judge is not None,
            "heads": self.encoder is not None and self.encoder.predicts_poses,
        }
        return frozenset(need for need, is_met in met.items() if is_met)

    def with_pictures(self, pictures: np.ndarray) -> "Context":
        """Returns the context of other pictures; the same originals are not encoded again."""
        other = dataclasses.replace(self, pictures=pictures)
        known = {key: rows for key, rows in self._described.items() if key[-1] == "originals"}
        other._described.update(known)
        return other

    def described(self, tap: Tap, images: Literal["pictures", "originals"]) -> np.ndarray:
        """Returns the descriptors [N, …] of the pictures or of the originals at a layer."""
        known = (id(tap.params), id(tap.module), tap.layer, images)
        if known not in self._described:
            self._described[known] = tap.describe(getattr(self, images))
        return self._described[known]

    @functools.cached_property
    def correlations(self) -> np.ndarray:
        """[N, N] luminance correlation of every picture (rows) with every original."""
        pair = jnp.asarray(self.pictures), jnp.asarray(self.originals)
        return np.asarray(metrics.luminance_correlations(*pair))

    @functools.cached_property
    def distances(self) -> np.ndarray:
        """[N, N] squared distance of every picture's descriptor (rows) to every target."""
        both = self.described(self.tap, "pictures"), self.targets
        a, b = (x.reshape((len(x), -1)).astype(np.float64) for x in both)
        return np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1) - 2.0 * a @ b.T

    @functools.cached_property
    def pixels(self) -> dict[str, np.ndarray]:
        """Pixel measures of each picture with its original, by their names."""
        return _pixel_measures(self.pictures, self.originals)

    @functools.cached_property
    def other_pixels(self) -> dict[str, np.ndarray]:
        """Pixel measures of each picture with the next original; NaN where there is no other."""
        assert self.originals is not None
        found = _pixel_measures(self.pictures, np.roll(self.originals, -1, axis=0))
        alone = len(self.pictures) == 1
        return {name: np.full(1, np.nan) if alone else x for name, x in found.items()}

    @functools.cached_property
    def head_measures(self) -> dict[str, np.ndarray]:
        """Answers of the pose heads about picture and original, by the measures' names."""
        assert self.encoder is not None
        tap = self.encoder.tap("fc5")
        truth, seen = (self.described(tap, images) for images in ("originals", "pictures"))
        ask = functools.partial(_pose_and_match, jax.device_get(self.encoder))
        following = np.roll(truth, -1, axis=0)
        poses = [ask(first, following)[0] for first in (truth, seen, np.roll(truth, -2, axis=0))]
        matches = [ask(truth, second)[1] for second in (seen, np.roll(seen, -1, axis=0))]
        return {
            "pose_disagreement": metrics.rotation_errors(poses[1], poses[0]),
            "other_pose_disagreement": metrics.rotation_errors(poses[2], poses[0]),
            "match_probability": np.asarray(matches[0]),
            "other_match_probability": np.asarray(matches[1]),
        }


Function = Callable[[Context], np.ndarray]


class Control(NamedTuple):
    """The value of a measure where nothing was reconstructed: a wrong image's, or chance."""

    name: str  # column of results.csv
    function: Function  # gives [N]
    sentence: str
    needs: frozenset[Need] = frozenset()  # beside those of its measure


class Measure(NamedTuple):
    """A number for each picture."""

    name: str  # column of results.csv
    function: Function  # gives [N]
    control: Control | None
    label: str  # of plots and tables
    sentence: str  # of the documentation
    unit: str = ""
    better: Literal["low", "high"] = "low"
    needs: frozenset[Need] = frozenset()


def measured(context: Context, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Returns [N] of every measure whose needs are met, each followed by its control.

    names: of the measures that are wanted; None: all of `MEASURES`.
    """
    found: dict[str, np.ndarray] = {}
    have = context.available
    with numerics.not_finite_allowed():
        for measure in MEASURES:
            if not measure.needs <= have or (names is not None and measure.name not in names):
                continue
            found[measure.name] = np.asarray(measure.function(context))
            control = measure.control
            if control and control.needs <= have and control.name not in found:
                found[control.name] = np.asarray(control.function(context))
    return found


def columns() -> list[str]:
    """Returns the names of all measures, each followed by its control, none twice."""
    names = ([m.name, *([m.control.name] if m.control else [])] for m in MEASURES)
    return list(dict.fromkeys(name for pair in names for name in pair))


def other_mean(matrix: np.ndarray) -> np.ndarray:
    """Returns [N] mean of each row but for its diagonal; NaN where there is no other."""
    count = len(matrix)
    if count == 1:
        return np.full(1, np.nan)
    return (matrix.sum(axis=1) - np.diagonal(matrix)) / (count - 1)


@jax.jit
def _pixels(pictures: Array, originals: Array) -> dict[str, Array]:
    def one(pair: tuple[Array, Array]) -> tuple[Array, Array, Array]:
        picture, original = pair
        square = metrics.mean_squared_error(picture, original)
        return metrics.psnr(picture, original), metrics.ssim(picture, original), square

    psnr, ssim, square = jax.lax.map(one, (pictures, originals))
    return {"psnr": psnr, "ssim": ssim, "mean_squared_error": square}


def _pixel_measures(pictures: np.ndarray, originals: np.ndarray | None) -> dict[str, np.ndarray]:
    assert originals is not None
    return {name: np.asarray(x) for name, x in _pixels(pictures, originals).items()}


@jax.jit
def _pose_and_match(encoder: Encoder, first: Array, second: Array) -> tuple[Array, Array]:
    """Returns relative poses [N, 6] and probabilities [N] of a match of two sets of descriptors."""
    assert encoder.pose_scale is not None
    heads = encoder.heads(first, second)
    return encoder.pose_scale.restore(heads.pose), jax.nn.sigmoid(heads.match)


@jax.jit
def _losses(descriptors: Array, targets: Array) -> Array:
    return jax.vmap(metrics.relative_loss)(descriptors, targets)


def _relative_losses(descriptors: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return np.asarray(_losses(jnp.asarray(descriptors), jnp.asarray(targets)))


def _picture_loss(context: Context) -> np.ndarray:
    return _relative_losses(context.described(context.tap, "pictures"), context.targets)


def _judge_loss(context: Context) -> np.ndarray:
    assert context.judge is not None
    seen, truth = (context.described(context.judge, x) for x in ("pictures", "originals"))
    return _relative_losses(seen, truth)


def _other_judge_loss(context: Context) -> np.ndarray:
    assert context.judge is not None
    return other_mean(metrics.relative_losses(context.described(context.judge, "originals")))


@jax.jit
def _deviations(images: Array) -> Array:
    return jax.lax.map(metrics.spectral_deviation, images)


def _spectral_deviations(images: np.ndarray | None) -> np.ndarray:
    return np.asarray(_deviations(jnp.asarray(images)))


def _pairwise_error(context: Context) -> np.ndarray:
    both = context.described(context.tap, "pictures"), context.targets
    return np.asarray(metrics.pairwise_normalised_errors(*map(jnp.asarray, both)))


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
    ),
    Measure(
        "luminance_rank",
        lambda context: metrics.own_ranks(context.correlations, _ROUNDING),
        _CHANCE,
        "luminance rank",
        "rank of the true original among all originals of the run by that correlation; 1 is best, "
        "and a tie counts against it",
        needs=_ORIGINALS,
    ),
    Measure(
        "spectral_deviation",
        lambda context: _spectral_deviations(context.pictures),
        Control(
            "original_spectral_deviation",
            lambda context: _spectral_deviations(context.originals),
            "control: the original's own",
            needs=_ORIGINALS,
        ),
        "spectral deviation",
        "naturalness: distance of the power spectrum from 1/f², in octaves of power; needs no "
        "original",
        unit="octaves",
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
    ),
    Measure(
        "descriptor_rank",
        lambda context: metrics.own_ranks(-context.distances),
        _CHANCE,
        "descriptor rank",
        "rank of the true target among all targets of the run by distance from the picture's "
        "descriptor; 1 is best, and a tie counts against it",
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
    ),
    Measure(
        "pairwise_normalised_error",
        _pairwise_error,
        None,
        "pairwise-normalised error",
        "distance of the picture's descriptor from the target over the mean distance between "
        "targets, so that a wrong image has about 1",
    ),
    Measure(
        "mean_squared_error",
        _pixel("mean_squared_error"),
        _other_pixel("mean_squared_error"),
        "mean squared error",
        "mean squared difference of pixels from the original; 1: from black to white",
        needs=_ORIGINALS,
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
    ),
    Measure(
        "ssim",
        _pixel("ssim"),
        _other_pixel("ssim"),
        "SSIM",
        "structural similarity with the original (Wang et al. 2004); 1: equal",
        better="high",
        needs=_ORIGINALS,
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
    ),
)
