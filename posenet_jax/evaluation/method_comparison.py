"""Ways to make pictures of the same descriptors side by side: decoders, inversion.

N images, uint8 RGB [N, H, W, 3]; each way is measured on its pictures as on a set.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from posenet_jax.encoders.encoder import Encoder, Tap
from posenet_jax.evaluation import image_sets, results_table
from posenet_jax.evaluation.feature_networks import FeatureNetworks
from posenet_jax.evaluation.measures import Context, measured
from posenet_jax.metrics import bootstrap_summary

if TYPE_CHECKING:  # it brings TensorFlow Datasets, which takes seconds
    from posenet_jax.data.loading import LoadedImages


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
    networks: FeatureNetworks | None = None,
) -> Compared:
    """Measures pictures of the originals' descriptors, `targets`, at a tap of the encoder.

    judge: an encoder that no method saw; `kernel_distance` and `frechet_distance` are in the
    summary with it alone. networks: of ImageNet; the same in their features, and LPIPS.
    """
    pixels = originals.pixels
    near = judge.tap("fc5") if judge else None
    networks = networks or FeatureNetworks()
    taps = ({"": judge.tap("conv4")} if judge else {}) | dict(networks.taps)
    context = Context(tap, targets, pixels, pixels, near, encoder, networks.lpips)
    rows: list[dict[str, Any]] = []
    summary: dict[str, dict[str, Any]] = {}
    for name, method in methods.items():
        context = context.with_pictures(method.pictures)
        measures = measured(context)
        several = len(method.draws) > 1
        summary[name] = image_sets.draw_measures(method.draws, pixels) if several else {}
        summary[name] |= {key: bootstrap_summary(values) for key, values in measures.items()}
        summary[name] |= image_sets.set_measures(method.pictures, pixels, taps)
        rows += _rows(name, method, measures, originals, tap.layer)
    if halves := image_sets.half_measures(pixels, taps):
        summary["originals"] = halves
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
    """Returns a table for a person: medians over images, and figures of the set, by method; beside
    those of the set, where there is a control, that of the originals' halves.
    """
    summary = compared.summary
    halves = summary.get("originals", {})
    names = dict.fromkeys(name for method in methods for name in summary[method])
    width = max(28, *map(len, names))
    # Of a file's path the end.
    headings = [one if len(one) <= 38 else f"…{one[-37:]}" for one in methods]
    headings += ["originals' halves"] * bool(halves)
    column = 2 + max(26, *map(len, headings))
    told = [" " * (width + 2) + "".join(f"{heading:>{column}}" for heading in headings)]
    for name in names:
        values = [summary[method].get(name, np.nan) for method in methods]
        shown = [value["median"] if isinstance(value, dict) else value for value in values]
        control = halves.get(f"{name}{image_sets.OF_HALVES}")
        shown += [control] if control is not None else []
        told.append(f"  {name:{width}}" + "".join(f"{value:{column}.4f}" for value in shown))
    return told
