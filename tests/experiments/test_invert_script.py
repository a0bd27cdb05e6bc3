"""`experiments.invert` as a person runs it: what it writes, what it refuses, what it exits with."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import script_process
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file

from posenet_jax import metrics
from posenet_jax.encoders import weights

ROOT = Path(__file__).parents[2]
COLUMNS = "position,image,layer,restart,steps,starts,status,loss,relative_loss,descriptor_error"


def _invert(*flags, encoder="compact"):
    return script_process.run("invert", f"--encoder={encoder}", "--cpu_devices=1", *flags)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two readable images, one cut short, one that is text."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name in ("b.png", "a.jpg"):
        coarse = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((160, 120)).save(folder / name)
    whole = (folder / "a.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("this is not a picture")
    return folder


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    """Two runs of the same command."""
    outs = [tmp_path_factory.mktemp(name) / "out" for name in ("first", "second")]
    flags = (f"--images={folder}", "--layer=fc5,conv4", "--steps=3", "--seed=5")
    return outs, [_invert(*flags, f"--out={out}") for out in outs]


def test_the_run_goes_on_past_damaged_files_and_says_so(finished):
    _, (run, _) = finished
    assert run.returncode == 1, run.stderr
    left_out = [line for line in run.stderr.splitlines() if line.startswith("left out:")]
    assert len(left_out) == 2 and "cut.jpg" in left_out[0] and "text.png" in left_out[1]
    assert "Traceback" not in run.stderr
    assert "worst" in run.stdout


def test_the_table_has_a_row_for_each_image_and_layer(finished):
    (out, _), _ = finished
    with (out / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["layer"]) for row in rows] == [
        (name, layer) for layer in ("fc5", "conv4") for name in ("a.jpg", "b.png")
    ]
    assert list(rows[0])[:10] == COLUMNS.split(",") and "luminance_correlation" in rows[0]
    assert {row["steps"] for row in rows} == {"3"} and {row["restart"] for row in rows} == {"0"}
    assert [row["position"] for row in rows] == ["0", "1"] * 2
    assert all(0 < float(row["relative_loss"]) < 1 for row in rows)


def test_pictures_grid_and_record_are_there(finished):
    (out, _), _ = finished
    names = sorted(path.name for path in (out / "images").iterdir())
    assert names == ["a.conv4.png", "a.fc5.png", "b.conv4.png", "b.fc5.png"]
    with Image.open(out / "images" / "a.fc5.png") as picture, Image.open(out / "grid.png") as grid:
        assert picture.size == (100, 100) and grid.size[0] > 300
    record = json.loads((out / "run.json").read_text())
    assert record["flags"]["seed"] == 5 and record["images_left_out"] == 2
    assert record["weights"] == weights.load_encoder("compact").fingerprint
    assert record["versions"]["jax"] == jax.__version__


def test_the_same_seed_writes_the_same_bytes(finished):
    outs, _ = finished
    for name in ("results.csv", "grid.png", "images/a.fc5.png", "images/b.conv4.png"):
        first, second = ((out / name).read_bytes() for out in outs)
        assert first == second, name


def test_restarts_that_repel_each_other_are_all_shown(folder, tmp_path):
    run = _invert(
        f"--images={folder}/*.jpg",
        "--steps=2",
        "--restarts=2",
        "--diverse=0.1",
        "--transform=jitter:2",
        f"--out={tmp_path}",
        encoder="compact-random-0",
    )
    assert run.returncode == 1, run.stderr  # one is cut short
    assert "grey levels apart at a relative loss of" in run.stdout
    names = {path.name for path in (tmp_path / "images").iterdir()}
    assert names == {"a.0.png", "a.1.png"}
    pictures = [np.asarray(Image.open(tmp_path / "images" / name)) for name in sorted(names)]
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["restart"] for row in rows] == ["0", "1"]
    with (tmp_path / "groups.csv").open(newline="") as file:
        (group,) = csv.DictReader(file)
    assert float(group["distance"]) == pytest.approx(float(metrics.spread(np.stack(pictures))))
    losses = [float(row["relative_loss"]) for row in rows]
    assert float(group["relative_loss"]) == pytest.approx(np.mean(losses))
    assert float(group["independent_relative_loss"]) == pytest.approx(np.mean(losses), rel=0.1)
    assert json.loads((tmp_path / "run.json").read_text())["flags"]["transform"] == ["jitter:2"]


def _refused(run, *words):
    assert run.returncode == 2, (run.stdout, run.stderr)
    lines = [line for line in run.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), run.stderr
    for word in words:
        assert word in lines[0]


def test_an_empty_folder_and_one_without_images(tmp_path):
    _refused(_invert(f"--images={tmp_path}", f"--out={tmp_path}/out"), "no images", str(tmp_path))
    (tmp_path / "notes.txt").write_text("hello")
    _refused(_invert(f"--images={tmp_path}", f"--out={tmp_path}/out"), "no images")
    _refused(_invert("--images=/nowhere/at/all", f"--out={tmp_path}/out"), "/nowhere/at/all")
    assert not (tmp_path / "out").exists()


def test_a_folder_in_which_nothing_can_be_read(tmp_path):
    (tmp_path / "text.png").write_text("this is not a picture")
    run = _invert(f"--images={tmp_path}", f"--out={tmp_path}/out")
    assert run.returncode == 2 and "none of the 1 images" in run.stderr
    assert "Traceback" not in run.stderr and not (tmp_path / "out").exists()


def test_a_wrong_layer(folder, tmp_path):
    run = _invert(f"--images={folder}", "--layer=fc6", f"--out={tmp_path}/out")
    _refused(run, "'fc6'", "conv4, fc5")
    assert not (tmp_path / "out").exists()


def test_weights_of_another_shape(folder, tmp_path):
    path = tmp_path / "other.safetensors"
    weights.save_encoder(path, weights.load_encoder("compact"))
    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        metadata = file.metadata()
    tensors["conv3/kernel"] = np.zeros((4, 4, 40, 79), np.float32)
    save_file(tensors, path, metadata)
    run = _invert(f"--images={folder}", f"--out={tmp_path}/out", encoder=path)
    _refused(run, "conv3/kernel", "79", "other.safetensors")
    _refused(_invert(f"--images={folder}", f"--out={tmp_path}/out", encoder="nothing"), "'nothing'")


def test_an_output_folder_that_cannot_be_written(folder, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("in the way")
    run = _invert(f"--images={folder}/a.jpg", f"--out={blocker}/out")
    _refused(run, "cannot write", str(blocker))
    assert blocker.read_text() == "in the way"


def test_steps_below_one(folder, tmp_path):
    run = _invert(f"--images={folder}/a.jpg", "--steps=0", f"--out={tmp_path}/out")
    _refused(run, "--steps", "0")


def test_help_explains_the_flags():
    command = [sys.executable, "-m", "experiments.invert", "--help"]  # as a person starts it
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert "Folder, glob or file of images" in run.stdout


def test_importing_the_library_is_light_and_leaves_jax_alone():
    code = (
        "import jax, flax, time; start = time.monotonic(); import posenet_jax;"
        "assert time.monotonic() - start < 5;"
        "import sys; assert 'matplotlib' not in sys.modules and 'torch' not in sys.modules;"
        "from jax._src import xla_bridge; assert not xla_bridge.backends_are_initialized()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)
