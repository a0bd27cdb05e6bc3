"""Sets of photographs under names of their own: NAME=FOLDER, as --photographs takes them."""

from collections.abc import Collection, Sequence

import numpy as np

from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.report.material import Photographs

from . import images


def folders(flag: str, named: Sequence[str], taken: Collection[str]) -> dict[str, str]:
    """Returns the folder of each name in a flag's items NAME=FOLDER.

    taken: names that are not free. Raises InputError for another form, or a name that is taken.
    """
    found: dict[str, str] = {}
    for item in named:
        name, separator, folder = item.partition("=")
        if not separator or name in taken or name in found:
            raise InputError(f"--{flag} takes NAME=FOLDER with a new name, received {item!r}")
        if not name.replace("_", "").isalnum():
            raise InputError(f"a name in --{flag} has letters, digits and _, unlike {name!r}")
        found[name] = folder
    return found


def read(
    named: Sequence[str], space: Preprocessing, most: int, taken: Collection[str], output: str
) -> tuple[dict[str, Photographs], int]:
    """{name: at most `most` photographs, spread evenly over a folder}, and the number left out.

    taken: names that are not free. Raises InputError where a name is taken or a folder has fewer
    than two that can be read: a single one has no wrong image beside it.
    """
    sets: dict[str, Photographs] = {}
    left_out = 0
    for name, folder in folders("photographs", named, taken).items():
        files = images.listed(folder, output)
        chosen = np.linspace(0, len(files) - 1, min(most, len(files))).astype(int)
        found = images.read([files.path(i) for i in chosen], space)
        if len(found.images) < 2:
            raise InputError(f"{folder} has {len(found.images)} readable images; two are needed")
        sets[name] = Photographs(np.stack(found.images), found.names)
        left_out += len(found.failures)
    return sets, left_out
