"""How scripts write the results of a run into its folder."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from posenet_jax.io import files
from posenet_jax.io.output_folder import OutputFolder

from . import runtime

Draw = Callable[[Path], None]


def write(
    out: OutputFolder,
    record: Mapping[str, Any],
    *,
    tables: Mapping[str, Any],
    pages: Mapping[str, Draw],
    pictures: Mapping[str, np.ndarray] | None = None,
) -> str:
    """Writes tables and run.json first, for their room, and names them last, when all is there.

    record: facts for run.json, besides the flags. tables: rows of a .csv, or what a .json holds.
    pages: functions that draw a file. pictures: uint8 [H, W, 3]. All by the file's name.
    Returns what `OutputFolder.finish` does.
    """
    out.begin()
    for name, content in tables.items():
        write_table = files.write_json if name.endswith(".json") else files.write_csv
        write_table(out.held(name), content)
    out.write_record(runtime.record(record))
    for name, picture in (pictures or {}).items():
        with out.spared():
            files.write_png(out.path / name, picture)
    for name, draw in pages.items():
        with out.spared():
            draw(out.path / name)
    return out.finish(runtime.tell)
