"""Figures of a decoder's training."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from posenet_jax.report.plots import colour, new_figure, save_figure
from posenet_jax.training.training_loop import read_metrics

_LABELS = {"train": "training images", "validation": "validation", "rendered": "held-out streets"}
_STYLES = ("-", "--", ":")
_HEALTH = (
    *("real_accuracy", "made_accuracy"),
    *("discriminator_loss", "loss_ratio"),
    *("gradient_norm", "discriminator_gradient_norm"),
)


def curve_figure(
    path: str | Path,
    metrics: str | Path,
    controls: Mapping[str, float],
    drops: Sequence[int] = (),
) -> None:
    """Writes a PNG: the losses of a run against its steps (the paper's Figure 8).

    Dashed: the mean image's error on each set, dotted: the nearest training neighbour's. Grey, at
    the `drops`: the learning rate divided by ten.
    """
    columns = read_metrics(metrics, ("step", "loss"))
    steps = columns["step"]
    figure = new_figure(6.4, 4.2)
    axes = figure.add_subplot()
    axes.plot(steps, columns["loss"], color="0.8", lw=0.6, label="training batches", zorder=0)
    number = 0
    for name, label in _LABELS.items():
        errors = columns.get(f"{name}_mse")
        if errors is None:
            continue
        paint, known = colour(number), np.isfinite(errors)
        number += 1
        axes.plot(steps[known], errors[known], marker=".", color=paint, label=label)
        for control, style in (("mean_image", "--"), ("nearest_neighbour", ":")):
            value = controls.get(f"{name}_{control}_mse")
            if value is not None and name != "train":
                axes.axhline(value, color=paint, ls=style, lw=1)
    for drop in drops:
        if drop < steps[-1]:
            axes.axvline(drop, color="0.8", lw=0.8, ls="-.", zorder=0)
    axes.set(yscale="log", xlabel="batches", ylabel="mean squared error, 1 = black to white")
    axes.legend(frameon=False, fontsize=8)
    save_figure(path, figure)


def health_figure(path: str | Path, *metrics: str | Path) -> None:
    """Writes a PNG: the health of an adversarial training, and its figures on held-out images.

    Of several runs, the seeds of one command, each has a style of line.
    """
    runs = [read_metrics(file, ("step", *_HEALTH)) for file in metrics]
    panels = {
        "discriminator's accuracy": _HEALTH[:2],
        "discriminator's hinge loss, loss ratio": _HEALTH[2:4],
        "gradient norms": _HEALTH[4:],
        "validation": _found(runs[0], "energy_ratio", "relative_loss", "judge_relative_loss"),
        "distance to photographs' features": _found(runs[0], "kernel_distance"),
        "variance over draws, error of their mean": _found(runs[0], "draw_variance", "mean_error"),
    }
    figure = new_figure(11.0, 7.2)
    for number, (title, names) in enumerate(panels.items()):
        axes = figure.add_subplot(2, 3, number + 1)
        for place, name in enumerate(names):
            for run, style in zip(runs, itertools.cycle(_STYLES)):
                if name not in run:
                    continue
                known = np.isfinite(run[name])
                label = name.replace("_", " ") if run is runs[0] else None
                axes.plot(
                    run["step"][known],
                    run[name][known],
                    style,
                    color=colour(place),
                    lw=1,
                    label=label,
                )
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("batches", fontsize=8)
        axes.tick_params(labelsize=8)
        # Below the panel, where no line runs.
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False, fontsize=7
        )
    figure.axes[2].set_yscale("log")
    save_figure(path, figure)


def _found(columns: Mapping[str, np.ndarray], *measures: str) -> tuple[str, ...]:
    return tuple(n for n in columns if n.endswith(measures) and not n.startswith("train_"))


def search_figure(path: str | Path, stages: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """Writes a PNG: losses against learning rates, a mark a trial, of each stage of a search."""
    figure = new_figure(6.4, 3.6)
    axes = figure.add_subplot()
    for number, (stage, rows) in enumerate(stages.items()):
        rows = sorted(rows, key=lambda row: row["learning_rate"])
        rates = [row["learning_rate"] for row in rows]
        for column, label, style in (
            ("loss", "training", "o-"),
            ("validation_mse", "validation", "s:"),
        ):
            values = [row[column] for row in rows]
            axes.plot(rates, values, style, color=colour(number), ms=4, label=f"{stage}, {label}")
    axes.set(xscale="log", yscale="log", xlabel="learning rate")
    axes.set_ylabel("mean squared error, 1: black to white")
    axes.legend(frameon=False, fontsize=8)
    save_figure(path, figure)
