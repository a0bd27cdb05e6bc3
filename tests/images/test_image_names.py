"""Names of images: unique whatever their files are called, and short enough for a file."""

import os

import numpy as np
import pytest

from posenet_jax.errors import ImageError
from posenet_jax.images.image_files import read_image, unique_names
from posenet_jax.images.image_list import list_images


def names_of(tmp_path, *files: str) -> list[str]:
    return unique_names([tmp_path / file for file in files])


def test_stems_that_are_unique_stay(tmp_path):
    assert names_of(tmp_path, "a.jpg", "sub/b.png") == ["a", "b"]


def test_files_of_the_same_stem_are_told_apart_by_folder_then_extension(tmp_path):
    assert names_of(tmp_path, "x/a.jpg", "y/a.jpg", "b.jpg") == ["x-a", "y-a", "b"]
    assert names_of(tmp_path, "a.jpg", "a.png") == ["a_jpg", "a_png"]
    assert names_of(tmp_path, "x/A.jpg", "y/a.jpg") == ["x-A", "y-a"]


def test_names_are_unique_whatever_the_files_are_called(tmp_path):
    rng = np.random.default_rng(2)
    parts = ["a", "b", "A", "a-a", "a_jpg", "b-a", "a-2"]
    for _ in range(50):
        files = [
            os.path.join(*rng.choice(parts, rng.integers(1, 4))) + str(rng.choice([".jpg", ".png"]))
            for _ in range(12)
        ]
        names = [name.casefold() for name in names_of(tmp_path, *files)]
        assert len(set(names)) == len(names)
        assert not any(os.sep in name for name in names)


def test_names_leave_room_for_what_is_added_to_them(tmp_path):
    """Also of letters of three bytes, bytes that are no UTF-8, and folders joined to a name."""
    longest = ["n" * 251, "字" * 80 + "b", "n" * 250 + "m", os.fsdecode(b"\xff" * 100)]
    files = [f"{name}.jpg" for name in ["short", "n" * 200, *longest]]
    files += [f"{'d' * 150}{i}/{'e' * 100}.png" for i in range(2)]
    names = names_of(tmp_path, *files)
    assert names[:2] == ["short", "n" * 200] and len(set(names)) == len(files)
    for name in names[2:]:
        assert 190 <= len(name.encode()) <= 200
    assert [name[:60] for name in names[2:4]] == ["n" * 60, "字" * 60]
    assert names == names_of(tmp_path, *files)


def test_a_name_that_is_no_utf8_can_still_be_printed(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    try:
        path.touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (name,) = unique_names(list_images(tmp_path))
    assert name == "caf\N{REPLACEMENT CHARACTER}"
    with pytest.raises(ImageError) as error:
        read_image(path)
    str(error.value).encode()
