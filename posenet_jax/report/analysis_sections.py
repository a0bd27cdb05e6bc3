"""Sections of the report's page on the descriptors themselves: sensitivity and surgery.

Every function writes a PNG and a CSV file into a folder and returns the section that shows them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from posenet_jax.analysis import sensitivity as profile
from posenet_jax.analysis import surgery as operating
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.io import files
from posenet_jax.report import analysis_plots
from posenet_jax.report.page import Section, Table, interval, picture

Array = jax.Array


def sensitivity(out: Path, measured: profile.Measured, layer: str = "fc5") -> Section:
    """Displacements of the layers under single changes: a plot of all, and a table of one layer."""
    rows = profile.table(measured.displacements)
    files.write_csv(out / "sensitivity.csv", rows)
    path = out / "sensitivity.png"
    analysis_plots.sensitivity_figure(path, rows)
    encoder = rows[0]["encoder"]
    chosen = [row for row in rows if (row["encoder"], row["layer"]) == (encoder, layer)]
    columns = {
        "displacement": "mean",
        "over 10° of yaw": "ratio_to_yaw",
        "over another scene": "ratio_to_other",
        "over 10° of yaw, over the control's": "yaw_over_control",
    }
    table = [
        {"change": row["intervention"], "amount": row["amount"]}
        | {words: _interval_of(row, name) for words, name in columns.items()}
        for row in chosen
    ]
    count = rows[0]["scenes"]
    caption = f"How far each layer moves when one thing in a street is changed; {count} scenes."
    words = f"The same of {layer} of {encoder}; intervals of 95 % over scenes."
    return Section("Sensitivity", [picture(path, caption), Table(table, words)])


def surgery(
    out: Path, encoder: Encoder, images: operating.Images, fitted: np.ndarray, key: Array
) -> Section:
    """Loss under operations on fc5 descriptors. fitted: other descriptors [M, F]."""
    operated = list(operating.operations(key, images.descriptor, fitted))
    rows = operating.table(encoder, images, operated)
    files.write_csv(out / "surgery.csv", rows)
    path = out / "surgery.png"
    analysis_plots.surgery_figure(path, rows)
    chosen = {(operation, amount) for operation, amount, _ in operating.SHOWN}
    measures = [n for n in ("relative_loss", "pose_disagreement", "rotation_error") if n in rows[0]]
    table = [
        {name: row[name] for name in ("operation", "amount", "unit")}
        | {name.replace("_", " "): _interval_of(row, name) for name in measures}
        for row in rows
        if (row["operation"], row["amount"]) in chosen
    ]
    caption = (
        f"What is left of {len(images.descriptor)} streets' descriptors when something is taken "
        f"from them, fitted on {len(fitted)} others."
    )
    words = "Some of the same: means with intervals of 95 % over images; angles in degrees."
    return Section("Surgery", [picture(path, caption), Table(table, words)])


def _interval_of(row: Mapping[str, Any], name: str) -> str:
    prefix = "" if name == "mean" else f"{name}_"  # as `sensitivity.table` names them
    return interval(row[name], row[f"{prefix}low"], row[f"{prefix}high"])
