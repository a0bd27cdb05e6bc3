"""Writing results: whole or absent, the same bytes for the same inputs, readable by others."""

import csv
import hashlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from posenet_jax.errors import InputError
from posenet_jax.images.contact_sheet import contact_sheet, image_grid
from posenet_jax.io.files import prepare_output, write_atomically, write_csv, write_json, write_png
from posenet_jax.io.provenance import _git_state, run_record

_ROOT = Path(__file__).parents[2]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def positions(page: np.ndarray, image: np.ndarray) -> list[tuple[int, int]]:
    """(x, y) of every place where the image stands in the page, pixel for pixel."""
    height, width = image.shape[:2]
    rows, columns = page.shape[0] - height + 1, page.shape[1] - width + 1
    corner = (page[:rows, :columns] == image[0, 0]).all(axis=-1)
    found = [(int(x), int(y)) for y, x in zip(*np.nonzero(corner), strict=True)]
    return [(x, y) for x, y in found if (page[y : y + height, x : x + width] == image).all()]


# ---- the output folder


def test_an_output_folder_is_made_with_its_parents_and_left_empty(tmp_path):
    folder = prepare_output(tmp_path / "a" / "b")
    assert folder.is_dir() and not list(folder.iterdir())
    (folder / "kept").touch()
    assert prepare_output(str(folder)) == folder
    assert [path.name for path in folder.iterdir()] == ["kept"]


def test_an_output_folder_that_cannot_be_is_one_clear_sentence(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/dev/null/out")):
        with pytest.raises(InputError, match="is a file") as error:
            prepare_output(folder)
        assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_an_unwritable_folder_is_refused(tmp_path, monkeypatch):
    def refuse(self, data):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(InputError, match="Read-only file system"):
        prepare_output(tmp_path)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder root cannot write to")
def test_a_folder_where_even_root_cannot_write_is_refused():
    with pytest.raises(InputError, match="cannot write"):
        prepare_output("/proc/self")


# ---- whole or absent


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "result.csv"
    path.write_bytes(b"before")

    def writer(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, writer)
    assert path.read_bytes() == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.csv"]


def test_a_write_replaces_the_old_and_appears_only_when_complete(tmp_path):
    path = tmp_path / "result.bin"

    def writer(file):
        file.write(b"new")
        assert not path.exists()

    write_atomically(path, writer)
    write_atomically(path, lambda file: file.write(b"newer"))
    assert path.read_bytes() == b"newer"
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.bin"]


def test_results_have_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "ordinary").touch()
    write_json(tmp_path / "result.json", {})
    assert (tmp_path / "result.json").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_the_longest_file_name_can_be_written(tmp_path):
    write_json(tmp_path / ("n" * 250 + ".json"), {})


# ---- pictures


@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7), (5, 7, 1), (1, 1, 3)])
def test_png_holds_the_pixels_and_no_metadata(tmp_path, shape):
    image = noise(*shape)
    write_png(tmp_path / "a.png", jnp.asarray(image))
    with Image.open(tmp_path / "a.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture).reshape(shape), image)
        assert picture.mode == ("RGB" if shape[2:] == (3,) else "L")
        assert not picture.info


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 3)), noise(4, 4, 4), noise(4), noise(2, 4, 4, 3)]
)
def test_png_refuses_what_is_no_image(tmp_path, image):
    with pytest.raises(ValueError, match="uint8"):
        write_png(tmp_path / "a.png", image)
    assert not list(tmp_path.iterdir())


# ---- tables and records


def test_csv_is_read_back_exactly_in_the_order_given(tmp_path):
    rows = [
        {"image": 'a, "b"\n', "z": 0.1, "steps": 3, "loss": np.float32(0.1), "note": None},
        {"image": "ü", "z": 1e-30, "steps": jnp.int32(4), "loss": jnp.float32(1 / 3), "note": "x"},
        {"image": "", "z": float("nan"), "steps": np.int64(5), "loss": jnp.inf, "note": True},
    ]
    write_csv(tmp_path / "a.csv", rows)
    with open(tmp_path / "a.csv", encoding="utf-8", newline="") as file:
        back = list(csv.DictReader(file))
    assert list(back[0]) == ["image", "z", "steps", "loss", "note"]
    assert [row["image"] for row in back] == ['a, "b"\n', "ü", ""]
    assert [row["steps"] for row in back] == ["3", "4", "5"]
    assert [row["z"] for row in back] == ["0.1", "1e-30", "nan"]
    assert [row["loss"] for row in back] == ["0.1", "0.33333334", "inf"]
    assert [row["note"] for row in back] == ["", "x", "True"]


def test_every_float_survives_csv(tmp_path):
    rng = np.random.default_rng(3)
    doubles = rng.standard_normal(200) * 10.0 ** rng.integers(-30, 30, 200)
    singles = doubles.astype(np.float32)
    rows = [{"double": d, "single": s} for d, s in zip(doubles.tolist(), singles, strict=True)]
    write_csv(tmp_path / "a.csv", rows)
    text = np.loadtxt(tmp_path / "a.csv", delimiter=",", skiprows=1, dtype=str)
    assert [float(cell) for cell in text[:, 0]] == doubles.tolist()
    np.testing.assert_array_equal(text[:, 1].astype(np.float32), singles)


def test_csv_columns(tmp_path):
    write_csv(tmp_path / "a.csv", [{"a": 1, "b": 2}], columns=["b", "a"])
    assert (tmp_path / "a.csv").read_bytes() == b"b,a\n2,1\n"
    write_csv(tmp_path / "a.csv", [], columns=["b", "a"])
    assert (tmp_path / "a.csv").read_bytes() == b"b,a\n"
    with pytest.raises(ValueError, match="row 1"):
        write_csv(tmp_path / "a.csv", [{"a": 1}, {"c": 1}])
    with pytest.raises(ValueError, match="columns named"):
        write_csv(tmp_path / "a.csv", [])
    with pytest.raises(ValueError, match="array"):
        write_csv(tmp_path / "a.csv", [{"a": np.zeros(3)}])


def test_json_takes_arrays_paths_and_numbers_json_has_not(tmp_path):
    record = {
        "array": jnp.arange(3),
        "scalar": np.float64(0.1),
        "path": Path("a/b"),
        "tuple": (1, None, True),
        "odd": [float("nan"), np.inf, np.asarray([1.5, np.nan])],
        "ü": {3: "x"},
    }
    write_json(tmp_path / "a.json", record)
    assert json.loads((tmp_path / "a.json").read_text("utf-8"), parse_constant=pytest.fail) == {
        "array": [0, 1, 2],
        "scalar": 0.1,
        "path": "a/b",
        "tuple": [1, None, True],
        "odd": [None, None, [1.5, None]],
        "ü": {"3": "x"},
    }


def test_same_inputs_same_bytes(tmp_path):
    """In one process and over processes with other hash seeds."""
    script = """
import sys, pathlib, numpy as np
from posenet_jax.images import contact_sheet
from posenet_jax.io import files
out = pathlib.Path(sys.argv[1])
images = np.random.default_rng(0).integers(0, 256, (6, 40, 40, 3), dtype=np.uint8)
files.write_csv(out / "a.csv", [{"x": np.float32(v) / 7, "name": "n"} for v in range(9)])
files.write_png(out / "a.png", images[0])
columns = {"a": images, "b": images}
contact_sheet.image_grid(out / "grid.png", columns, row_labels=["r"] * 6, title="t")
"""
    digests = set()
    for seed in ("1", "2"):
        out = tmp_path / seed
        out.mkdir()
        command = [sys.executable, "-c", script, str(out)]
        environment = os.environ | {"PYTHONHASHSEED": seed, "JAX_PLATFORMS": "cpu"}
        subprocess.run(command, env=environment, check=True, cwd=_ROOT)
        files = sorted(out.iterdir())
        assert [file.name for file in files] == ["a.csv", "a.png", "grid.png"]
        digests.add(hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest())
    assert len(digests) == 1


# ---- the page of images


def test_every_image_stands_on_the_page_unaltered_beside_its_pair():
    count = 32
    original, other = noise(count, 100, 100, 3, seed=1), noise(count, 100, 100, 3, seed=2)
    labels = [f"street_{i:04d} 0.0{i}" for i in range(count)]
    page = contact_sheet({"original": original, "reconstruction": other}, row_labels=labels)
    assert 0.9 < page.shape[1] / page.shape[0] < 1.7
    places = []
    for i in range(count):
        (left,), (right,) = positions(page, original[i]), positions(page, other[i])
        assert left[1] == right[1] and 100 <= right[0] - left[0] <= 110
        places.append((left[1], left[0]))
    assert places == sorted(places)
    assert len({x for _, x in places}) > 1


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("columns", [1, 2, 5])
def test_pages_are_never_extreme(count, columns):
    images = np.zeros((count, 100, 100, 3), np.uint8)
    page = contact_sheet({str(j): images for j in range(columns)})
    assert page.dtype == np.uint8 and page.shape[-1] == 3
    if count > columns:
        assert 0.4 < page.shape[1] / page.shape[0] < 3
    black = (page == 0).all(axis=-1).sum()
    assert black >= count * columns * 100 * 100


def test_tiny_images_are_enlarged_a_whole_number_of_times():
    image, grey = noise(1, 9, 12, 3), noise(1, 9, 12, 1, seed=1)
    page = contact_sheet({"a": image, "grey": grey})
    for one in (image[0], grey[0].repeat(3, axis=2)):
        assert len(positions(page, one.repeat(8, axis=0).repeat(8, axis=1))) == 1


def test_labels_are_drawn_below_their_images():
    images = {"a": noise(4, 100, 100, 3, seed=1), "b": noise(4, 100, 100, 3, seed=2)}
    plain = contact_sheet(images, row_labels=[""] * 4)
    labelled = contact_sheet(images, row_labels=["", "", "x 0.01", ""])
    rows, columns = np.nonzero((plain != labelled).any(axis=-1))
    ((x, y),) = positions(plain, images["a"][2])
    assert y + 100 <= rows.min() and rows.max() < y + 120
    assert x <= columns.min() and columns.max() < x + 204


def test_cell_labels_stand_below_their_own_column():
    columns = {"a": noise(3, 100, 100, 3, seed=1), "b": noise(3, 100, 100, 3, seed=2)}
    plain = contact_sheet(columns, cell_labels={"b": [""] * 3})
    labelled = contact_sheet(columns, cell_labels={"b": ["", "0.5", ""]})
    _, changed = np.nonzero((plain != labelled).any(axis=-1))
    ((left, _),) = positions(plain, columns["b"][1])
    assert left <= changed.min() and changed.max() < left + 100


def test_labels_of_any_characters_are_drawn_without_a_warning():
    text = "$x_1$ \N{CJK UNIFIED IDEOGRAPH-6F22}\n\t\\frac{" + "long " * 50
    page = contact_sheet({text: noise(1, 100, 100, 3)}, row_labels=[text], title=text)
    assert page.shape[1] < 400


def test_the_page_refuses_what_does_not_fit_together():
    images = noise(3, 10, 10, 3)
    for columns in ({}, {"a": images[0]}, {"a": images.astype(float)}, {"a": images[:0]}):
        with pytest.raises(ValueError, match="uint8"):
            contact_sheet(columns)
    with pytest.raises(ValueError, match="one shape"):
        contact_sheet({"a": images, "b": images[:2]})
    with pytest.raises(ValueError, match="3 entries"):
        contact_sheet({"a": images}, row_labels=["x"])
    with pytest.raises(ValueError, match="cell labels"):
        contact_sheet({"a": images}, cell_labels={"b": ["x"] * 3})


def test_image_grid_writes_the_page(tmp_path):
    images = noise(2, 30, 30, 3)
    image_grid(tmp_path / "grid.png", {"a": images}, title="t", row_labels=["x", "y"])
    with Image.open(tmp_path / "grid.png") as picture:
        expected = contact_sheet({"a": images}, title="t", row_labels=["x", "y"])
        np.testing.assert_array_equal(np.asarray(picture), expected)


# ---- the run's record


def test_the_record_says_what_ran_on_what(tmp_path):
    record = run_record({"layer": "fc5", "limit": None}, {"weights_sha256": "00"})
    write_json(tmp_path / "run.json", record)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["flags"] == {"layer": "fc5", "limit": None}
    assert record["weights_sha256"] == "00"
    assert record["versions"]["jax"] == jax.__version__
    assert set(record["versions"]) == {
        "python", "jax", "jaxlib", "flax", "optax", "numpy", "posenet_jax"
    }  # fmt: skip
    assert (record["backend"], record["devices"]) == (jax.default_backend(), jax.device_count())


def test_the_record_names_neither_machine_nor_home():
    home = str(Path.home())
    flags = {"images": f"{home}/a,{home}/b", "out": home, "nested": [{"path": Path(home, "c")}]}
    record = run_record(flags)
    assert record["flags"] == {"images": "~/a,~/b", "out": "~", "nested": [{"path": "~/c"}]}
    assert socket.gethostname() not in json.dumps(record) or len(socket.gethostname()) < 6


def test_the_commit_is_that_of_this_checkout_only(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    root = tmp_path.resolve()
    assert _git_state(root) is None
    git("init")
    assert _git_state(root) is None
    (root / "file").write_text("1")
    (root / "inner").mkdir()
    git("add", "file")
    git("commit", "-m", "one")
    assert _git_state(root) == {"commit": git("rev-parse", "HEAD"), "modified": False}
    assert _git_state(root / "inner") is None
    (root / "file").write_text("2")
    assert _git_state(root)["modified"]
