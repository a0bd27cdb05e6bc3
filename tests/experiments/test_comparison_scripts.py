"""Scripts with an ImageNet network for an encoder: its own taps, and where it cannot serve."""

import csv
import json

import numpy as np
import pytest
import script_process
from PIL import Image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        coarse = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((160, 120)).save(folder / name)
    return folder


def test_taps_of_their_own_names_are_inverted(folder, tmp_path):
    out, encoder, layers = tmp_path / "out", "squeezenet-random-0", "fire3,fire5"
    flags = (f"--images={folder}", f"--encoder={encoder}", f"--layer={layers}", "--steps=10")
    flags = *flags, "--cpu_devices=1"
    run = script_process.run("invert", *flags, f"--out={out}")
    assert run.returncode == 0, run.stderr
    with (out / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["layer"] for row in rows] == [name for name in layers.split(",") for _ in "ab"]
    assert all(float(row["relative_loss"]) < float(row["other_relative_loss"]) for row in rows)
    assert json.loads((out / "run.json").read_text())["encoder"] == encoder


def test_bulk_inversion_with_a_pose_network_for_judge(folder, tmp_path):
    """The judge reads 100 pixels, the pictures have 64."""
    out = tmp_path / "out"
    flags = ("--encoder=squeezenet-random-0@64", "--layer=fire9", "--judge=compact")
    few = "--steps=5", "--slots=2", "--batch_size=2", "--cpu_devices=1"
    run = script_process.run("bulk_invert", f"--images={folder}", *flags, *few, f"--out={out}")
    assert run.returncode == 0, run.stderr
    with (out / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 and all(float(row["judge_relative_loss"]) > 0 for row in rows)


@pytest.mark.parametrize(
    "name, flags, said",
    [
        ("invert", ("--layer=fc5",), "no layer 'fc5'"),
        ("invert", ("--layer=fire5", "--recipe=warm"), "no decoder"),
        ("bulk_invert", ("--layer=conv2",), "taps are conv1, fire2, fire3"),
        ("bulk_invert", ("--layer=fire2", "--judge=squeezenet-random-1"), "--judge=squeezenet-ran"),
        ("decode", ("--layer=conv4",), "no decoder"),
    ],
)
def test_where_it_cannot_serve_one_sentence_says_so(folder, tmp_path, name, flags, said):
    flags = (f"--images={folder}", "--encoder=squeezenet-random-0", *flags)
    run = script_process.run(name, *flags, f"--out={tmp_path / 'out'}")
    assert run.returncode == 2
    assert run.stderr.startswith("error: ") and run.stderr.count("\n") == 1
    assert said in run.stderr and not (tmp_path / "out").exists()
