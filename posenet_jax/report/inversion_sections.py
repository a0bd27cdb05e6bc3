"""Sections of the report's page on inversion: samples, hyper-parameters, pictures and fidelity.

Every function writes PNG and CSV files into a folder and returns the section that shows them.
Images are uint8 RGB [N, H, W, 3].
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from posenet_jax import metrics
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.evaluation import decoder_evaluation, measures
from posenet_jax.evaluation.feature_networks import Lpips
from posenet_jax.images import contact_sheet
from posenet_jax.inversion import recipes
from posenet_jax.inversion.priors import PRIORS
from posenet_jax.inversion.recipes import Recipe
from posenet_jax.io import files
from posenet_jax.reconstruction import reconstruct
from posenet_jax.report import galleries
from posenet_jax.report.page import Section, Table, Text, interval

Array = jax.Array
Rows = Sequence[Mapping[str, Any]]

LAYERS = ("fc5", "conv4")
SAMPLES = 10
SHOWN = 6
# Tables 1 and 2 of the paper, as printed.
_TABLE_1 = {
    "learning rate": ("26.60", "learning_rate"),
    "β₁": ("0.90", "beta1"),
    "β₂": ("0.99", "beta2"),
    "ε": ("1e-8", "epsilon"),
}
_TABLE_1_PRIORS = {"l6": "1.95e-15", "tv": "4.00e-6"}
_TABLE_1_END = {
    "clipping percentile": ("21.40", "clip_percentile"),
    "steps": ("not printed", "steps"),
}
_TABLE_2 = (
    ("learning rate", "26.60", "8.2e-4"),
    ("β₁", "0.90", "0.9"),
    ("β₂", "0.99", "0.999"),
    ("ε", "1e-8", "1e-8"),
)


class Inverted(NamedTuple):
    """A set of images inverted from one layer of one encoder, or what stands in their place."""

    images: str  # name of the set
    encoder: str
    layer: str
    originals: np.ndarray
    pictures: np.ndarray
    measures: dict[str, np.ndarray]  # [N] each, controls among them


def invert(
    images: str,
    encoder: Encoder,
    layer: str,
    originals: np.ndarray,
    *,
    key: Array,
    recipe: Recipe,
    judge: Encoder,
    lpips: Lpips | None = None,
    progress: Callable[[int], None] | None = None,
) -> Inverted:
    """Inverts and measures. progress: called with the number of steps done, of one image each."""
    made = reconstruct(encoder, layer, originals, key=key, recipe=recipe, progress=progress)
    found = _measures(encoder, layer, originals, made.image, judge, lpips)
    found["relative_loss"] = np.asarray(made.result.relative_loss)
    return Inverted(images, encoder.name, layer, originals, made.image, found)


def baselines(
    images: str,
    encoder: Encoder,
    layer: str,
    originals: np.ndarray,
    known: np.ndarray,
    *,
    judge: Encoder,
    lpips: Lpips | None = None,
) -> list[Inverted]:
    """Baselines without inversion: the mean of other images [M, H, W, 3], and the nearest of them
    by descriptor.
    """
    asked, others = (
        decoder_evaluation.described(encoder.tap(layer), x, []) for x in (originals, known)
    )
    mean = np.round(known.mean(axis=0)).astype(np.uint8)
    pictures = {
        f"mean of {len(known)} others": np.broadcast_to(mean, originals.shape),
        f"nearest of {len(known)} others": known[
            decoder_evaluation.nearest_neighbours(others, asked)
        ],
    }
    return [
        Inverted(
            *(images, name, layer, originals, made),
            _measures(encoder, layer, originals, made, judge, lpips),
        )
        for name, made in pictures.items()
    ]


def _measures(
    encoder: Encoder,
    layer: str,
    originals: np.ndarray,
    pictures: np.ndarray,
    judge: Encoder,
    lpips: Lpips | None,
) -> dict[str, np.ndarray]:
    tap = encoder.tap(layer)
    targets = tap.describe(originals)
    near = judge.tap("fc5")
    context = measures.Context(tap, targets, pictures, originals, near, encoder, lpips)
    found = measures.measured(context)
    found["relative_loss"] = found["picture_relative_loss"]
    return found


def samples(out: Path, images: np.ndarray) -> Section:
    """Fig. 4: what the networks are shown."""
    columns = {"street": images[:SAMPLES]}
    contact_sheet.image_grid(out / "figure_4_samples.png", columns)
    caption = (
        f"{len(images[:SAMPLES])} rendered streets, drawn at random, with invented facades. The "
        "paper's are photographs of 3D_Street_View."
    )
    named = {f"{number}": image for number, image in enumerate(images[:SAMPLES], 1)}
    shown = galleries.pictures(named, caption)
    return Section("Fig. 4: samples", [shown])


def hyperparameters(out: Path, recipe: Recipe) -> Section:
    """Tables 1 and 2: the paper's values beside those used here."""
    used = [name for name in PRIORS if name in recipe.priors]
    weights = {
        PRIORS[name].symbol: (_TABLE_1_PRIORS.get(name, "not printed"), f"priors.{name}")
        for name in dict.fromkeys([*_TABLE_1_PRIORS, *used])
    }
    first = [
        {
            "hyper-parameter": name,
            "printed": printed,
            "recipe paper": _number(recipes.PAPER, field),
            "recipe calibrated": _number(recipe, field),
        }
        for name, (printed, field) in (_TABLE_1 | weights | _TABLE_1_END).items()
    ]
    names = ("hyper-parameter", "printed", "bundled decoders")
    second = [dict(zip(names, row, strict=True)) for row in _TABLE_2]
    files.write_csv(out / "table_1_inversion.csv", first)
    files.write_csv(out / "table_2_decoder.csv", second)
    note = (
        "Recipe calibrated makes the loss relative to the descriptor's length and the image's "
        "size, so that its weights cannot be compared with the printed ones; its learning rate "
        "decays and it does not clip. The decoder's rate printed in Table 2 is that of Table 1 "
        "again, not credible for a network's weights; ours was searched."
    )
    tables = [
        Table(first, "Table 1: inversion by optimisation, with Adam."),
        Table(second, "Table 2: decoders, with Adam."),
    ]
    return Section("Tables 1 and 2: hyper-parameters", [*tables, Text(note)])


def _number(recipe: Recipe, field: str) -> str:
    if field == "clip_percentile" and not recipe.clipping:
        return "no clipping"
    if field.startswith("priors."):
        return f"{recipe.priors.get(field.removeprefix('priors.'), 0.0):g}"
    return f"{getattr(recipe, field):g}"


def inversions(
    out: Path,
    name: str,
    title: str,
    words: str,
    inverted: Sequence[Inverted],
    *,
    row_labels: Sequence[str] | None = None,
) -> Section:
    """Figs. 5, 9, 10. inverted: results for the same images; name: file name without ending."""
    shown = slice(0, SHOWN)
    columns, labels = {"original": inverted[0].originals[shown]}, {}
    for one in inverted:
        heading = one.layer
        if one.encoder != inverted[0].encoder:
            control = one.encoder.startswith(f"{inverted[0].encoder}-random")
            heading += " untrained" if control else f" {one.encoder}"
        columns[heading] = one.pictures[shown]
        labels[heading] = [f"{loss:.3f}" for loss in one.measures["relative_loss"][shown]]
    texts = None if row_labels is None else list(row_labels[shown])
    path = out / f"{name}.png"
    contact_sheet.image_grid(path, columns, cell_labels=labels, row_labels=texts)
    encoders = list(dict.fromkeys(one.encoder for one in inverted))
    caption = f"{words}, inverted from {' and '.join(LAYERS)} of {encoders[0]}"
    caption += f"; beside: {', '.join(encoders[1:])}" if len(encoders) > 1 else ""
    caption += ". Under each image its relative loss (eq. 3; 0 is the same descriptor)."
    shown_here = galleries.gallery(columns, caption, cell_labels=labels, row_labels=texts)
    return Section(title, [shown_here])


def _controls() -> dict[str, str]:
    """Returns {measure: its control, or ""} of the table of fidelity, in its order."""
    shown = measures.shown_in("fidelity")
    controls = {m.name: m.control.name if m.control else "" for m in shown}
    return {"relative_loss": "other_relative_loss"} | controls


def fidelity_rows(inverted: Sequence[Inverted]) -> list[dict[str, Any]]:
    """One row a set, encoder, layer and measure: medians with intervals, beside the control's.

    Where a measure has no control those cells are None.
    """
    rows = []
    for one in inverted:
        for measure, control in _controls().items():
            if measure not in one.measures:  # those of heads, of networks without
                continue
            row: dict[str, Any] = {"images": one.images, "encoder": one.encoder}
            row |= {"layer": one.layer, "count": len(one.originals), "measure": measure}
            row |= _median("", one.measures[measure])
            row |= _median("other_", one.measures.get(control))
            rows.append(row)
    return rows


def _median(prefix: str, values: np.ndarray | None) -> dict[str, float | None]:
    """Returns the columns of a median and its interval; None where there are no values."""
    names = (f"{prefix}median", f"{prefix}low", f"{prefix}high")
    if values is None:
        return dict.fromkeys(names)
    ends = metrics.bootstrap_interval(np.asarray(values, np.float64), np.median)
    return dict(zip(names, ends, strict=True))


def fidelity_table(out: Path, inverted: Sequence[Inverted]) -> Section:
    """How near the reconstructions come, of every set."""
    rows = fidelity_rows(inverted)
    files.write_csv(out / "fidelity.csv", rows)
    lines: dict[tuple, dict[str, Any]] = {}
    for row in rows:
        names = {name: row[name] for name in ("images", "encoder", "layer", "count")}
        none = dict.fromkeys(name.replace("_", " ") for name in _controls())
        line = lines.setdefault(tuple(names.values()), names | none)
        text = interval(row["median"], row["low"], row["high"])
        if row["other_median"] is not None:
            other = interval(row["other_median"], row["other_low"], row["other_high"])
            text = f"{text}; other {other}"
        line[row["measure"].replace("_", " ")] = text
    caption = (
        "Medians over images with bootstrap intervals of 95 %, and after “other” the same of the "
        "control, another image in the original's place (of ranks: chance). Mean and nearest are "
        "no inversions, but what knowing less scores: the mean of other scenes of the kind (beside "
        "photographs, of rendered streets), and that of them whose descriptor is nearest. The "
        "judge is a network that no inversion saw. PSNR in dB; pose disagreement in degrees, "
        "between what the heads make of picture and original; match probability, of the matching "
        "head, that both show one place. Losses, LPIPS, ranks and disagreement: low is near; the "
        "others: high is."
    )
    return Section("Fidelity", [Table(list(lines.values()), caption + _further())])


def _further() -> str:
    """Returns sentences about the measures that the caption of fidelity does not explain."""
    further = (m for m in measures.shown_in("fidelity") if m.shown_in["fidelity"] == measures.LAST)
    return "".join(
        f" {m.name.replace('_', ' ').capitalize()}{f', {m.unit}' if m.unit else ''}: {m.sentence}"
        f" ({'lower' if m.better == 'low' else 'higher'} is better)."
        for m in further
    )
