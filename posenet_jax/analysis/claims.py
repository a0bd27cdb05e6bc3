"""The paper's claims as rows of a table: a number, its interval, its controls, a verdict.

An image's value is a measure of its reconstruction (`structure`). Two controls: the same picture
against another image (what anything scores), and the reconstruction from the same architecture
untrained (what any network keeps). Intervals are of 95 %, by the bootstrap over images; differences
are paired. A claim that something is kept is

    supported      where it is kept better than a wrong image has it, and better than untrained,
    not supported  where it is kept no better than a wrong image has it,
    undecided      otherwise: kept, but no better than by an untrained network.

A claim that something is lost is supported where it is kept by less than `LITTLE` above a wrong
image's, and less than by the untrained network; not supported where it is kept by more than
`LITTLE`; undecided otherwise. The same of linear probes, whose wrong image is R² = 0, and of forced
choices, whose chance is known exactly and taken instead of a wrong image's score.

Of many claims tested on one network some would pass by accident. `corrected` gives each verdict a
p-value and corrects it for their number (Holm 1979).
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from posenet_jax import metrics
from posenet_jax.analysis import texture
from posenet_jax.analysis.probes import Score
from posenet_jax.errors import InputError
from posenet_jax.io import storage
from posenet_jax.io.run_files import read_csv

LITTLE = 0.1
Measured = Mapping[str, np.ndarray]  # measure -> [N]


class Claim(NamedTuple):
    """A sentence, and the measure that decides it."""

    sentence: str
    measure: str  # "a" or "a-b", a paired difference
    kept: bool  # is the claim that it is kept, or that it is lost?
    chance: float | None = None  # where it is known, instead of what a wrong image scores


CLAIMS = (
    Claim("colour is lost", "chroma", False),
    Claim("fine detail is lost from its place", "octave_4", False),
    Claim("amount and kind of texture are lost", "texture", False),
    Claim("a texture is not told from another", "own_texture", False, texture.CHANCE),
    Claim("edges toward the main vanishing point are kept", "vanishing_edges", True),
    Claim("they are kept better than verticals", "vanishing_edges-vertical_edges", True),
    Claim("the silhouette against the sky is kept", "sky", True),
    Claim("light and dark are kept", "luminance", True),
)
PROBED = (
    Claim("mean colour cannot be read", "mean colour", False),
    Claim("amount of texture cannot be read", "texture energy", False),
    Claim("the main vanishing point can be read", "vanishing point", True),
    Claim("the skyline can be read", "skyline", True),
    Claim("depth can be read", "depth", True),
    Claim("surface normals can be read", "normals", True),
)


def _values(measured: Measured, measure: str) -> np.ndarray:
    first, _, second = measure.partition("-")
    return measured[first] - measured[second] if second else measured[first]


def _interval(values: np.ndarray) -> tuple[float, float, float]:
    """(mean, low, high) of values [N], those that are not numbers left out."""
    known = values[np.isfinite(values)]
    return metrics.bootstrap_interval(known) if len(known) else (float("nan"),) * 3


def columns(named: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns NAMEvalue, NAMElow and NAMEhigh of each values [N]: mean and interval of 95 %."""
    ends = ("value", "low", "high")
    return {
        f"{name}{end}": number
        for name, values in named.items()
        for end, number in zip(ends, _interval(values), strict=True)
    }


def verdict(kept: bool, above: tuple[float, float], untrained: tuple[float, float]) -> str:
    """Returns the verdict, from intervals of the differences to a wrong image and to the untrained
    network.
    """
    if not np.isfinite([*above, *untrained]).all():
        return "undecided"
    if kept:
        if above[0] <= 0:
            return "not supported"
        return "supported" if untrained[0] > 0 else "undecided"
    if above[0] > LITTLE:
        return "not supported"
    return "supported" if above[1] < LITTLE and untrained[1] < 0 else "undecided"


def _decided(
    kept: bool, above: tuple[float, float, float], untrained: tuple[float, float, float]
) -> dict[str, Any]:
    """Verdict and its p-value, of two differences (value, low, high): see `verdict`."""
    said = verdict(kept, above[1:], untrained[1:])
    value, low, high = above
    if kept:
        p = max(_p_value(*above), _p_value(*untrained))
    elif said == "not supported":
        p = _p_value(value - LITTLE, low - LITTLE, high - LITTLE)
    else:
        down = -untrained[0], -untrained[2], -untrained[1]
        p = max(_p_value(LITTLE - value, LITTLE - high, LITTLE - low), _p_value(*down))
    return {"verdict": said, "p": p}


def _p_value(value: float, low: float, high: float) -> float:
    """Two-sided p-value of a difference that should be positive, from its interval of 95 %.

    By the normal distribution that has the interval; 1 where the difference is not positive.
    """
    if not value > 0:
        return 1.0
    deviation = (high - low) / (2 * 1.959964)
    return math.erfc(value / deviation / math.sqrt(2.0)) if deviation > 0 else 0.0


def corrected(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of `table` and `probe_table` with p-values for the number of all of them together.

    p_corrected: Holm's, at least `p`. verdict_corrected: the verdict, but "undecided" where one
    that rests on a difference has none by this p-value at 5 %. That something is kept no better
    than a wrong image has it rests on none, and stays.
    """
    order = np.argsort([row["p"] for row in rows], kind="stable")
    adjusted, reached = np.ones(len(rows)), 0.0
    for place, number in enumerate(order):
        reached = max(reached, min(1.0, rows[number]["p"] * (len(rows) - place)))
        adjusted[number] = reached
    named = {claim.sentence: claim for claim in (*CLAIMS, *PROBED)}
    found = []
    for row, p in zip(rows, adjusted, strict=True):
        absence = row["verdict"] == "not supported" and named[row["claim"]].kept
        said = row["verdict"] if absence or p <= 0.05 else "undecided"
        found.append({**row, "p_corrected": float(p), "verdict_corrected": said})
    return found


def table(
    group: str, trained: Measured, wrong: Measured, untrained: Measured
) -> list[dict[str, Any]]:
    """A row a claim. trained, untrained: of reconstructions; wrong: of the trained ones, against
    other images. group: what the images are of. Images without a sky, or without another texture,
    have no part in that claim.
    """
    rows = []
    for claim in CLAIMS:
        own, other, random = (_values(m, claim.measure) for m in (trained, wrong, untrained))
        if not np.isfinite(own).any():
            continue
        row: dict[str, Any] = {"claim": claim.sentence, "measure": claim.measure, "images": group}
        row["count"] = int(np.isfinite(own).sum())
        row |= columns({"": own, "wrong_image_": other, "untrained_": random})
        chance = other if claim.chance is None else claim.chance
        rows.append(row | _decided(claim.kept, _interval(own - chance), _interval(own - random)))
    return rows


def comparison(
    group: str, ours: tuple[Measured, Measured], theirs: tuple[Measured, Measured]
) -> list[dict[str, Any]]:
    """A row a measure: do inversions of one encoder keep more of it than another's do?

    Each: (trained, the same network untrained), of the same images. The verdict is of two paired
    differences: of what both keep, and of what training added to either; "more" or "less" where
    both say so, else "undecided".
    """
    rows = []
    for measure in dict.fromkeys(claim.measure for claim in CLAIMS):
        (own, random), (other, other_random) = (
            tuple(_values(measured, measure) for measured in pair) for pair in (ours, theirs)
        )
        if not np.isfinite(own - other).any():
            continue
        row: dict[str, Any] = {"measure": measure, "images": group}
        row["count"] = int(np.isfinite(own - other).sum())
        gain = (own - random) - (other - other_random)
        row |= columns(
            {"": own, "other_": other, "difference_": own - other, "gain_difference_": gain}
        )
        lows, highs = (
            [row[f"{name}{end}"] for name in ("difference_", "gain_difference_")]
            for end in ("low", "high")
        )
        said = "more" if min(lows) > 0 else "less" if max(highs) < 0 else "undecided"
        rows.append(row | {"verdict": said})
    return rows


def probe_table(
    group: str, count: int, trained: Mapping[str, Score], untrained: Mapping[str, Score]
) -> list[dict[str, Any]]:
    """A row a claim on what can be read off fc5, as in `table`; `count` test scenes.

    Both networks see the same scenes, but their intervals are apart: what overlaps is undecided.
    """
    rows = []
    for claim in PROBED:
        if claim.measure not in trained:
            continue
        own, random = trained[claim.measure], untrained[claim.measure]
        row: dict[str, Any] = {"claim": claim.sentence, "measure": f"R² of {claim.measure}"}
        row |= {"images": group, "count": count}
        scores = {"": own, "wrong_image_": Score(0.0, 0.0, 0.0), "untrained_": random}
        for name, score in scores.items():
            row |= {f"{name}{part}": value for part, value in score._asdict().items()}
        difference = (own.value - random.value, own.low - random.high, own.high - random.low)
        rows.append(row | _decided(claim.kept, (own.value, own.low, own.high), difference))
    return rows


def sentences(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns two lines for a person on each row of `table` or `probe_table`."""
    lines = []
    for row in rows:
        value, wrong, untrained = (
            f"{row[f'{part}value']:.2f} [{row[f'{part}low']:.2f}, {row[f'{part}high']:.2f}]"
            for part in ("", "wrong_image_", "untrained_")
        )
        network = f"{row['encoder']} {row['layer']}, {row['images']}"
        lines.append(f"{network}: {row['claim']} ({row['measure']}): {row['verdict']}")
        lines.append(f"    {value}; a wrong image {wrong}; untrained {untrained}")
    return lines


def comparison_sentences(rows: Sequence[Mapping[str, Any]], other: str | None) -> list[str]:
    """Returns a line for a person on each row of `comparison` with a network named `other`."""
    return [f"{row['images']}, {row['measure']}: {row['verdict']}, beside {other}" for row in rows]


def read(path: str | Path) -> list[dict[str, str]]:
    """Returns the rows of a table of claims. Raises InputError where there are none."""
    remedy = "give the claims.csv that measure_retention wrote"
    path = storage.path(path).expanduser()
    rows = [row.cells for row in read_csv(path, open_end=True, remedy=remedy)]
    if not rows:
        raise InputError(f"{path} has no line below its header; {remedy}")
    return rows
