"""Run of a search: its trials as bulk inversions, one after the other where they are halved.

T trials of the last rung, n images, uint8 RGB.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from posenet_jax.bulk import bulk_inversion, search
from posenet_jax.bulk.search import Stage
from posenet_jax.data.sources import NamedImage
from posenet_jax.encoders.encoder import Encoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Extent of a search.

    trials: besides Table 1. steps: of each inversion in the last rung. patience: see `Recipe`.
    rungs: of successive halving; 1: none. slots, shard_size: see `BulkConfig`.
    """

    trials: int
    steps: int = 200
    patience: int = 50
    rungs: int = 1
    seed: int = 0
    slots: int = 0
    shard_size: int = 0

    def work(self, images: int) -> int:
        """Returns the image·steps of all rungs."""
        return sum(
            steps * trials * images
            for steps, trials in search.rungs(self.steps, self.trials + 1, self.rungs)
        )


class Rung(NamedTuple):
    """Trials with as many steps each."""

    columns: dict[str, np.ndarray]  # [T] hyper-parameters, means of measures, score
    folder: Path  # of their bulk inversion
    steps: int


def run(
    encoder: Encoder,
    layer: str,
    images: Sequence[NamedImage],
    stage: Stage,
    folder: Path,
    config: SearchConfig,
    *,
    judge: Encoder,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Rung]:
    """Yields the rungs as they are done, the last of them with the search's result.

    Each lies in a folder of its own below `folder`; what an earlier run has done is not repeated.
    progress: called with the number of image·steps done.
    """
    drawn = search.draw(stage, config.trials, config.seed)
    rungs = search.rungs(config.steps, len(drawn["trial"]), config.rungs)
    for number, (steps, kept) in enumerate(rungs, start=1):
        own = folder / f"rung-{number}-of-{len(rungs)}"
        bulk_inversion.invert_all(
            encoder,
            layer,
            search.RepeatedImages(images, drawn["trial"]),
            own,
            search.recipe_of(stage, drawn, len(images), steps, config.patience),
            bulk_inversion.BulkConfig(
                seed=config.seed, slots=config.slots, shard_size=config.shard_size
            ),
            judge=judge,
            progress=progress,
        )
        measured = search.read_measures(own / "results.csv", kept)
        score = search.score(measured)
        yield Rung(drawn | measured | {"score": score}, own, steps)
        if number < len(rungs):
            best = np.sort(np.argsort(score, kind="stable")[: rungs[number][1]])
            drawn = {name: values[best] for name, values in drawn.items()}


def summary(stage: Stage, columns: dict[str, np.ndarray]) -> list[str]:
    """Returns lines for a person: Table 1, the best by score, and the least relative loss."""
    rows = {
        "Table 1": 0,
        "best by score": int(np.argmin(columns["score"])),
        "least relative loss": int(np.nanargmin(columns["relative_loss"])),
    }
    if columns["trial"][0]:  # Table 1 was not among the best quarters
        del rows["Table 1"]
    lines = [f"{'':24}" + "".join(f"{name:>22}" for name in rows)]
    for name in (*stage.ranges, *search.measure_names(), "score"):
        cells = "".join(f"{columns[name][row]:22.4g}" for row in rows.values())
        lines.append(f"  {name:22}{cells}")
    return lines
