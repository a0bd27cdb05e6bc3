"""Folders of images for bulk runs."""

import shutil

import numpy as np
import pytest
from bulk_images import COUNT
from PIL import Image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        coarse = rng.integers(0, 256, (5, 5, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((100, 100)).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture(scope="module")
def damaged(folder, tmp_path_factory):
    """The same with four bad files: one alone, and the three of the last shard."""
    copy = tmp_path_factory.mktemp("damaged")
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    bad = ["02.png", "08.png", "09.png", "10.png"]
    for name in bad:
        (copy / name).write_text("this is not a picture")
    return copy, bad
