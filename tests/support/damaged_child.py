"""Reads folders of which a file is damaged, in a process that has little memory beyond its own.

Prints a line for each: its name, a tab, and `right`, `refused: SENTENCE`, or what is wrong.

python -m damaged_child FOLDER
"""

import os
import resource
import signal
import sys
from pathlib import Path

import numpy as np

from posenet_jax.data.sources import DatasetExamples, DatasetImages
from posenet_jax.errors import InputError
from posenet_jax.shards import descriptor_shards

_ROOM = 2**30
_SECONDS = 60  # for a folder


def _dataset(folder: Path) -> None:
    """Every image is the one of its name, whatever others are left out."""
    images = DatasetImages(DatasetExamples(folder))
    assert len(images) <= 2**17, len(images)
    refusals = []
    for position in range(len(images)):
        try:
            name, image = images[position]
            images.name(position)
        except InputError as error:
            refusals.append(error)
            continue
        number, extension = os.path.splitext(name)
        if extension == ".png" and number.isdecimal():  # else the names are what was damaged
            rng = np.random.default_rng(int(number))
            np.testing.assert_array_equal(image, rng.integers(0, 256, (9, 9, 3)))
    if refusals:
        raise refusals[0]
    assert len(images) == 14, len(images)


def _extraction(folder: Path) -> None:
    found = descriptor_shards.read_descriptors(folder)
    expected = np.concatenate(
        [
            np.random.default_rng(number).normal(size=(count, 5)).astype(np.float32)
            for number, count in enumerate((4, 4, 2))
        ]
    )
    np.testing.assert_array_equal(np.stack(list(found.descriptors)), expected)
    assert list(found.names) == [str(i) for i in range(10)] and found.channel_means == (1, 1, 1)
    np.testing.assert_array_equal(found.descriptors[9], expected[9])


def _outcome(folder: Path) -> str:
    try:
        (_dataset if "dataset" in folder.name else _extraction)(folder)
    except InputError as error:
        named = folder.name in str(error) and "\n" not in str(error)
        return f"refused: {error}" if named else f"a sentence without the name: {error!r}"
    except BaseException as error:
        return f"wrong: {type(error).__name__} {' '.join(str(error).split())[:300]}"
    return "right"


def main(top: str) -> None:
    for folder in sorted(Path(top).glob("whole-*")):
        # ArrayRecord begins its 64 threads now; where they have no room it waits for them for ever.
        print(f"{folder.name}\t{_outcome(folder)}", flush=True)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _ROOM, used + _ROOM))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for folder in sorted(Path(top).glob("[0-9]*")):
        signal.alarm(_SECONDS)  # ends the process
        print(f"{folder.name}\t{_outcome(folder)}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
