"""Sets of photographs that a person names: NAME=FOLDER, as scripts with --photographs take them."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from experiments.common import images
from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import Preprocessing


class PhotoSet(NamedTuple):
    """Those of a folder that could be read, spread evenly over it."""

    images: np.ndarray  # [N, H, W, 3] uint8
    names: list[str]
    left_out: int


def read(
    named: Sequence[str], space: Preprocessing, most: int, taken: Collection[str], output: str
) -> dict[str, PhotoSet]:
    """{name: at most `most` photographs} of every NAME=FOLDER; what cannot be read is named.

    Raises InputError where a name is taken or a folder has fewer than two that can be read: a
    single one has no wrong image beside it.
    """
    sets: dict[str, PhotoSet] = {}
    for item in named:
        name, separator, folder = item.partition("=")
        if not separator or name in taken or name in sets:
            raise InputError(f"--photographs takes NAME=FOLDER with a new name, received {item!r}")
        if not name.replace("_", "").isalnum():
            raise InputError(f"a name of photographs has letters, digits and _, unlike {name!r}")
        files = images.listed(folder, output)
        chosen = np.linspace(0, len(files) - 1, min(most, len(files))).astype(int)
        found = images.read([files.path(i) for i in chosen], space)
        if len(found.images) < 2:
            raise InputError(f"{folder} has {len(found.images)} readable images; two are needed")
        sets[name] = PhotoSet(np.stack(found.images), found.names, len(found.failures))
    return sets
