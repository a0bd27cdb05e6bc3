"""Ways to make pictures of the same descriptors side by side: decoders, inversion.

N images, uint8 RGB [N, H, W, 3]; each way is measured on its pictures as on a set.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from posenet_jax.encoders.encoder import Encoder, Tap
from posenet_jax.evaluation import image_sets, results_table
from posenet_jax.evaluation.measures import Context, measured
from posenet_jax.metrics import bootstrap_summary, kernel_distance

if TYPE_CHECKING:  # it brings TensorFlow Datasets, which takes seconds
    from posenet_jax.data.loading import LoadedImages

_LEAST_HALVES = 4  # images, of which two halves can be compared


class Method(NamedTuple):
    """Pictures that one way made, one an image or several."""

    draws: np.ndarray  # [S, N, H, W, 3] of as many draws of noise; the first is measured
    figures: Sequence[Mapping[str, Any]] | None = None  # [N] an inversion's columns of results.csv

    @property
    def pictures(self) -> np.ndarray:
        """[N, H, W, 3] those that are measured."""
        return self.draws[0]


class Compared(NamedTuple):
    """Measures of every method."""

    rows: list[dict[str, Any]]  # of results.csv: by method, then by image
    summary: dict[str, dict[str, Any]]  # of metrics.json: of each method, and of the originals

    def column(self, method: str, name: str) -> list[float]:
        """[N] of one measure."""
        return [row[name] for row in self.rows if row["method"] == method]


def compare(
    methods: Mapping[str, Method],
    originals: "LoadedImages",
    targets: np.ndarray,
    *,
    encoder: Encoder,
    tap: Tap,
    judge: Encoder | None = None,
) -> Compared:
    """Measures pictures of the originals' descriptors, `targets`, at a tap of the encoder.

    judge: an encoder that no method saw; `kernel_distance` is in the summary with it alone.
    """
    pixels = originals.pixels
    near, far = (judge.tap("fc5"), judge.tap("conv4")) if judge else (None, None)
    context = Context(tap, targets, pixels, pixels, near, encoder)
    rows: list[dict[str, Any]] = []
    summary: dict[str, dict[str, Any]] = {}
    for name, method in methods.items():
        context = context.with_pictures(method.pictures)
        measures = measured(context)
        several = len(method.draws) > 1
        summary[name] = image_sets.draw_measures(method.draws, pixels) if several else {}
        summary[name] |= {key: bootstrap_summary(values) for key, values in measures.items()}
        summary[name] |= image_sets.set_measures(method.pictures, pixels, far)
        rows += _rows(name, method, measures, originals, tap.layer)
    if far and len(pixels) >= _LEAST_HALVES:
        known = image_sets.features(far, pixels)
        halves = kernel_distance(known[::2], known[1::2])
        summary["originals"] = {"kernel_distance_of_halves": halves}
    return Compared(rows, summary)


def _rows(
    name: str,
    method: Method,
    measures: Mapping[str, np.ndarray],
    originals: "LoadedImages",
    layer: str,
) -> list[dict[str, Any]]:
    """Returns a line of results.csv for each image."""
    own = method.figures or [{}] * len(originals.names)
    return [
        results_table.line(
            position=position,
            image=image,
            layer=layer,
            method=name,
            figures={**own[row], **{key: each[row].item() for key, each in measures.items()}},
        )
        for row, (position, image) in enumerate(
            zip(originals.positions, originals.names, strict=True)
        )
    ]


def lines(compared: Compared, methods: Sequence[str]) -> list[str]:
    """Returns a table for a person: medians over images, and figures of the set, by method."""
    summary = compared.summary
    names = dict.fromkeys(name for method in methods for name in summary[method])
    told = [" " * 30 + "".join(f"{method[-26:]:>28}" for method in methods)]
    for name in names:
        values = [summary[method].get(name, np.nan) for method in methods]
        shown = [value["median"] if isinstance(value, dict) else value for value in values]
        told.append(f"  {name:28}" + "".join(f"{value:28.4f}" for value in shown))
    return told
