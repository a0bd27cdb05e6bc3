"""Sections of the report's page on decoders: Figures 6, 7 and 8 of the paper, remade.

Figures 6 and 8 are of a decoder trained here, for some hundred batches of the page's own streets;
Figure 7 is of those that are bundled, trained at length and on photographs too.
Images are uint8 RGB [N, H, W, 3].
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posenet_jax import metrics
from posenet_jax.decoders import decoding
from posenet_jax.decoders.decoding import Decoder
from posenet_jax.encoders.encoder import Encoder, Tap
from posenet_jax.evaluation import decoder_evaluation, image_sets
from posenet_jax.evaluation.decoder_evaluation import ImageSet
from posenet_jax.images import contact_sheet
from posenet_jax.io import files
from posenet_jax.report import decoder_plots, galleries
from posenet_jax.report.inversion_sections import LAYERS, SHOWN
from posenet_jax.report.page import Part, Section, Table, Text, picture
from posenet_jax.training import decoder_training
from posenet_jax.training.decoder_training import AXIS, DecoderBatch, DecoderConfig

Array = jax.Array

LEARNED = 8  # images that are learned by heart
_RATE = 2e-3
_LAST = 0.8  # fraction of the batches after which the learning rate drops
_LOOKS = 20  # along the training, at other images


def learned_by_heart(
    encoder: Encoder,
    images: ImageSet,
    others: ImageSet,
    *,
    steps: int,
    drop: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> tuple[Decoder, list[dict[str, Any]]]:
    """Trains a decoder of fc5 on the same few images at every step; returns it and its losses.

    others: looked at now and then, never trained on. drop: step after which the learning rate is
    divided by ten. progress: called with the steps done.
    """
    count = len(images.images)
    mesh = Mesh(np.asarray(jax.devices()[: math.gcd(count, len(jax.devices()))]), (AXIS,))
    config = DecoderConfig(drops=(drop,))
    scale = jnp.asarray(np.sqrt(np.mean(np.square(images.descriptors))), jnp.float32)
    shape = decoding.descriptor_shape(encoder, "fc5")
    state = decoder_training.init_state(config, shape, seed)
    state, tap, rate, on_devices = jax.device_put(
        (state, encoder.tap("fc5"), jnp.float32(_RATE), scale), NamedSharding(mesh, PartitionSpec())
    )
    split = NamedSharding(mesh, PartitionSpec(AXIS))
    batch = DecoderBatch((jax.device_put(images.images, split),))
    rows = []
    for step in range(1, steps + 1):
        state, figures = decoder_training.train_step(
            state, batch, tap, on_devices, rate, config=config, mesh=mesh
        )
        # Waits: of two steps under way at once, collectives on CPU devices may block each other.
        row = {"step": step, "loss": float(figures["loss"])}
        if step % max(1, steps // _LOOKS) == 0 or step == steps:
            average = jax.device_get(state.average)
            decoder = decoder_training.trained_decoder(average, scale, config, encoder, "fc5")
            for name, shown in (("train", images), ("validation", others)):
                row[f"{name}_mse"] = float(decoder_evaluation.errors(decoder, shown).mean())
        rows.append(row)
        if progress:
            progress(1)
    empty = dict.fromkeys(("step", "loss", "train_mse", "validation_mse"), "")
    return decoder, [empty | row for row in rows]


def learning(
    out: Path,
    encoder: Encoder,
    originals: np.ndarray,
    *,
    steps: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> Section:
    """Figs. 6 and 8: a few streets learned by heart, and the losses of that training."""
    tap = encoder.tap("fc5")
    count = min(LEARNED, len(originals) // 2)
    images, others = (
        decoder_evaluation.described(tap, part, [f"{i}" for i in range(len(part))])
        for part in (originals[:count], originals[count:])
    )
    drop = round(_LAST * steps)
    decoder, rows = learned_by_heart(
        encoder, images, others, steps=steps, drop=drop, seed=seed, progress=progress
    )
    made = decoder_evaluation.pictures(decoder, images)
    columns = {"original": images.images, "decoded": made}
    labels = {"decoded": _decibels(made, images.images)}
    contact_sheet.image_grid(out / "figure_6_overfit.png", columns, cell_labels=labels)
    files.write_csv(out / "figure_8_training.csv", rows)
    controls = {
        "validation_mean_image_mse": decoder_evaluation.mean_image_errors(images, others).mean(),
        "validation_nearest_neighbour_mse": decoder_evaluation.nearest_neighbour_errors(
            images, others
        ).mean(),
    }
    path = out / "figure_8_training.png"
    decoder_plots.curve_figure(path, out / "figure_8_training.csv", controls, (drop,))
    overfit = (
        f"{count} streets after {steps} batches of nothing else: can the network express them at "
        "all? PSNR under each. The paper's Figure 6; training of the full length is in docs/."
    )
    curve = (
        f"Losses of the same training; the learning rate drops at {drop}. Validation is on "
        f"{len(others.images)} other streets; dashed: what the mean of the {count} scores on them, "
        f"dotted: the nearest of the {count} by descriptor. The paper's Figure 8."
    )
    pictures: list[Part] = [
        galleries.gallery(columns, overfit, cell_labels=labels),
        picture(path, curve),
    ]
    return Section("Figs. 6 and 8: learning by heart", pictures)


def decoders(
    out: Path, encoder: Encoder, originals: np.ndarray, key: Array, taps: Mapping[str, Tap]
) -> Section:
    """Fig. 7: images made in one pass by all decoders that are bundled for the encoder.

    taps: of `image_sets.set_measures`, which are of all originals.
    """
    columns, labels = {"original": originals[:SHOWN]}, {}
    rows: list[dict[str, Any]] = []
    space = encoder.preprocessing
    for layer in LAYERS:
        targets = encoder.tap(layer).describe(originals)
        for name in decoding.bundled(encoder, layer):
            decoder = decoding.decoder_for(encoder, layer, name)
            heading = name.removeprefix(f"{encoder.name}-").replace("-adversarial", " adv.")
            made = np.asarray(space.to_image(decoding.decode(decoder, targets, key)))
            columns[heading] = made[:SHOWN]
            labels[heading] = _decibels(made[:SHOWN], originals[:SHOWN])
            rows.append({"decoder": heading, **image_sets.set_measures(made, originals, taps)})
    title = "Fig. 7: decoders"
    if len(columns) == 1:
        return Section(title, [Text(f"No decoders are bundled for encoder {encoder.name}.")])
    path = out / "figure_7_decoders.png"
    contact_sheet.image_grid(path, columns, cell_labels=labels)
    caption = (
        "Streets decoded from their descriptors in one pass; PSNR under each. An adversarial "
        "decoder (adv.) reads noise beside the descriptor: one draw is shown."
    )
    shown = galleries.gallery(columns, caption, cell_labels=labels)
    return Section(title, [shown, _sets_table(out, rows, originals, taps)])


def _sets_table(
    out: Path,
    rows: Sequence[Mapping[str, Any]],
    originals: np.ndarray,
    taps: Mapping[str, Tap],
) -> Table:
    """The decoders' pictures as sets; halves of the originals beside them, last."""
    halves = image_sets.half_measures(originals, taps)
    control = {name.removesuffix(image_sets.OF_HALVES): x for name, x in halves.items()}
    last = dict.fromkeys(rows[0]) | {"decoder": "originals' halves"} | control
    table = [{name.replace("_", " "): x for name, x in row.items()} for row in (*rows, last)]
    files.write_csv(out / "figure_7_decoders.csv", [*rows, last])
    caption = (
        f"All {len(originals)} streets as sets. Energy and diversity ratio: of the originals' (1: "
        "as sharp, as diverse). Grid index: 1 without a grid, 3 can be seen. Kernel distance (as "
        "in KID) and Fréchet distance (as in FID): to the originals in features of the judge's "
        "conv4 and of the ImageNet networks that are named; 0 is alike. Of so few images Fréchet "
        "distances are too large, all by about as much: compare them with that of the halves."
    )
    return Table(table, caption)


def _decibels(pictures: np.ndarray, originals: np.ndarray) -> list[str]:
    psnr = jax.vmap(metrics.psnr)(jnp.asarray(pictures), jnp.asarray(originals))
    return [f"{value:.1f} dB" for value in np.asarray(psnr)]
