"""Listing: a folder, a glob and a file agree on the same tree; what is left out is counted."""

import glob
import itertools
import os
from pathlib import Path

import numpy as np
import pytest

from posenet_jax.errors import InputError
from posenet_jax.images.image_files import EXTENSIONS
from posenet_jax.images.image_list import list_images


@pytest.fixture
def tree(tmp_path):
    names = ["b.JPG", "a.png", "sub/c.webp", "sub/deep/d.tiff", "notes.txt", ".hidden.png"]
    for name in [*names, ".thumbnails/e.png", "sub/f.jpeg.part"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "folder.png").mkdir()
    return tmp_path


def below(tree, paths) -> list[str]:
    return [path.relative_to(tree).as_posix() for path in paths]


def test_a_folder_is_searched_to_its_depth_and_sorted(tree):
    assert below(tree, list_images(tree)) == ["a.png", "b.JPG", "sub/c.webp", "sub/deep/d.tiff"]


def test_a_glob_and_a_single_file(tree):
    assert below(tree, list_images(f"{tree}/*.[pJ]*")) == ["a.png", "b.JPG"]
    assert below(tree, list_images(f"{tree}/**/*.tiff")) == ["sub/deep/d.tiff"]
    assert below(tree, list_images(tree / "a.png")) == ["a.png"]


def test_a_folder_whose_name_looks_like_a_glob(tmp_path):
    folder = tmp_path / "photos [1]"
    folder.mkdir()
    (folder / "a.png").touch()
    assert list(list_images(folder)) == [folder / "a.png"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent", "no such file or folder"),
        ("empty", "no images in the folder"),
        ("*.bmp", "no images for the pattern"),
        ("notes.txt", "no images at"),
    ],
)
def test_finding_nothing_is_one_clear_sentence(tree, name, message):
    (tree / "empty").mkdir()
    with pytest.raises(InputError, match=message) as error:
        list_images(tree / name)
    assert name in str(error.value) and "\n" not in str(error.value)


# ---- folders behind links


def put(tree: Path, *names: str) -> None:
    for name in names:
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def link(tree: Path, name: str, target: str) -> None:
    """A link to a folder, by a path below the tree."""
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).symlink_to(tree / target, target_is_directory=True)


def test_folder_glob_and_file_agree_where_a_folder_is_a_link(tmp_path):
    put(tmp_path, *(f"photos/{i}.jpg" for i in range(4)), *(f"elsewhere/{i}.jpg" for i in range(4)))
    link(tmp_path, "photos/more", "elsewhere")
    folder = tmp_path / "photos"
    expected = [f"{i}.jpg" for i in range(4)] + [f"more/{i}.jpg" for i in range(4)]
    assert below(folder, list_images(folder)) == expected
    for pattern in ("**", "**/*", "**/*.jpg"):
        assert below(folder, list_images(f"{folder}/{pattern}")) == expected
    assert below(folder, list_images(f"{folder}/*/*.jpg")) == expected[4:]
    for name in expected:
        assert below(folder, list_images(folder / name)) == [name]


def test_loops_of_links_end(tmp_path):
    put(tmp_path, "photos/a.jpg", "photos/sub/b.jpg", "other/c.jpg")
    link(tmp_path, "photos/itself", "photos/itself")
    link(tmp_path, "photos/sub/up", "photos")
    link(tmp_path, "photos/sub/around", "other")
    link(tmp_path, "other/back", "photos/sub")
    folder = tmp_path / "photos"
    # `other/back` is `sub` again, and the links in it lead to what has been walked through.
    expected = ["a.jpg", "sub/around/c.jpg", "sub/b.jpg"]
    assert below(folder, list_images(folder)) == expected
    assert below(folder, list_images(f"{folder}/**/*.jpg")) == expected
    expected = ["back/around/up/never.jpg", "back/b.jpg", "back/up/a.jpg", "c.jpg"][1:]
    assert below(tmp_path / "other", list_images(tmp_path / "other")) == expected


def test_many_links_to_the_top_are_no_more_work_than_one(tmp_path):
    put(tmp_path, "a/1.jpg", "a/b/2.jpg", "a/b/c/3.jpg")
    for folder, number in itertools.product(("a", "a/b", "a/b/c"), range(12)):
        link(tmp_path, f"{folder}/top-{number}", "a")
    assert below(tmp_path, list_images(tmp_path)) == ["a/1.jpg", "a/b/2.jpg", "a/b/c/3.jpg"]


def test_patterns_match_what_those_of_the_standard_library_do(tmp_path):
    """Random trees in which links lead to later folders only, so that there are no loops."""
    rng = np.random.default_rng(0)
    patterns = ["**", "*", "*/*", "**/*.png", "*/**/*.jpg", "a*/*", "[ab]/*", ".h/*", "**/b/*"]
    patterns += ["**/*[0-3].*", "a/../*/*", "*/.h/*", "**/**/*", "b?", "./*/*", "*/", "**/.h/*"]
    for number in range(12):
        tree = tmp_path / f"tree [{number}]"
        names = [
            str(name) for name in rng.permutation(["a", "b", "ab", ".h", "a/b", "b/a", "a/.h"])
        ]
        for folder in names[:5]:
            files = rng.choice(["0.png", "1.JPG", "2.txt", "3.jpg", ".4.png"], 3, replace=False)
            put(tree, *(f"{folder}/{file}" for file in files))
        for first, second in zip(sorted(names[:5]), sorted(names[:5])[1:], strict=False):
            if not second.startswith(first):
                link(tree, f"{first}/z", second)
        for pattern in patterns:
            full = f"{glob.escape(str(tree))}/{pattern}"
            matches = glob.glob(full, recursive=True)
            expected = {
                os.path.relpath(match, tree)
                for match in matches
                if os.path.isfile(match) and not os.path.basename(match).startswith(".")
                if match.lower().endswith(EXTENSIONS)
            }
            try:
                found = list_images(full)
            except InputError:
                assert not expected, pattern
            else:
                assert {os.path.relpath(path, tree) for path in found} == expected, pattern


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    put(tmp_path, "x/a.jpg", "x/b.jpg")
    for pattern in ("~/x", "~/x/*.jpg", "~/x/**"):
        assert below(tmp_path, list_images(pattern)) == ["x/a.jpg", "x/b.jpg"]
    assert list(list_images(Path("~/x/a.jpg"))) == [tmp_path / "x/a.jpg"]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    put(tmp_path, "a.jpg", "locked/b.jpg")
    scandir = os.scandir

    def refuse(path):
        if os.fsdecode(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"locked: cannot be listed \(Permission denied\)"):
        list_images(tmp_path)


# ---- what is left out


def test_files_of_kinds_that_are_not_read_are_counted(tmp_path):
    put(tmp_path, "a.jpg", "b.HEIC", "sub/c.heic", "sub/d.cr2", "notes.txt", ".e.heic", "f.json")
    found = list_images(tmp_path)
    assert below(tmp_path, found) == ["a.jpg"]
    assert found.left_out.kinds == {".heic": 2, ".cr2": 1}
    sentence = "left out 3 files of kinds that are not read: 2 .heic, 1 .cr2"
    assert found.left_out.sentences() == [sentence]
    assert list_images(f"{tmp_path}/**/*.[jhH]*").left_out.kinds == {".heic": 2}
    assert list_images(tmp_path / "a.jpg").left_out.sentences() == []
    with pytest.raises(InputError, match="no images .*; left out 2 files .* 1 .cr2, 1 .heic"):
        list_images(tmp_path / "sub")
    with pytest.raises(InputError, match="no images at .*; left out 1 file .*: 1 .heic"):
        list_images(tmp_path / "b.HEIC")


@pytest.mark.parametrize("name", "psd exr svg jxl heif dng nef tga jp2 ppm".split())
def test_kinds_that_people_have_among_their_images_are_known(tmp_path, name):
    put(tmp_path, "a.jpg", f"b.{name}")
    assert list_images(tmp_path).left_out.kinds == {f".{name}": 1}


def test_images_in_an_excluded_folder_are_left_out_and_counted(tmp_path):
    put(tmp_path, "a.jpg", "run/grid.png", "run/images/a.png", "run/images/b.heic", "run.d/b.jpg")
    before = list_images(tmp_path, exclude=[tmp_path / "not there yet"])
    assert len(before) == 4 and before.left_out.excluded == {}
    run = str(tmp_path / "run")
    for pattern in (tmp_path, f"{tmp_path}/**", f"{tmp_path}/**/*.[jp]*"):
        found = list_images(pattern, exclude=[run])
        assert below(tmp_path, found) == ["a.jpg", "run.d/b.jpg"]
        assert found.left_out.excluded == {run: 2} and not found.left_out.kinds
        assert found.left_out.sentences() == [f"left out 2 images in the output folder {run}"]
    assert below(tmp_path, list_images(f"{tmp_path}/r*/*", exclude=[run])) == ["run.d/b.jpg"]


def test_an_excluded_folder_is_known_by_any_name(tmp_path, monkeypatch):
    put(tmp_path, "photos/a.jpg", "run/images/a.png")
    link(tmp_path, "photos/results", "run")
    link(tmp_path, "alias", "run")
    monkeypatch.chdir(tmp_path)
    for name in ("run", "photos/results", "alias", "photos/../run/", tmp_path / "alias"):
        assert below(Path("photos"), list_images("photos", exclude=[name])) == ["a.jpg"]
    assert len(list_images("photos", exclude=["elsewhere"])) == 2
    (tmp_path / "deep").symlink_to(tmp_path / "run" / "images")
    with pytest.raises(InputError, match="all images .* are in the output folder run;"):
        list_images("deep", exclude=["run"])


def test_where_all_images_are_excluded_the_sentence_says_so(tmp_path):
    put(tmp_path, "run/a.jpg")
    for pattern in (tmp_path / "run", tmp_path / "run/a.jpg", f"{tmp_path}/run/*", tmp_path):
        with pytest.raises(InputError, match="all images .* are in the output folder .*run;"):
            list_images(pattern, exclude=[tmp_path / "run"])


def test_a_list_is_the_same_whether_its_own_output_is_there_or_not(tmp_path):
    put(tmp_path, "a.jpg", "b.jpg")
    before = list_images(tmp_path, exclude=[tmp_path / "run"]).fingerprint
    put(tmp_path, "run/images/a.png")
    assert list_images(tmp_path, exclude=[tmp_path / "run"]).fingerprint == before
    assert list_images(tmp_path).fingerprint != before
