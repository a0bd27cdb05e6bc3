"""The script of bulk inversion: processes that share a run; names of the pictures it writes."""

import csv
import json
import socket
from pathlib import Path

import numpy as np
import pytest
import script_process
import tensorflow_datasets as tfds
from bulk_images import COUNT

from posenet_jax.encoders import weights
from posenet_jax.evaluation import image_sets
from posenet_jax.images.image_files import read_image
from posenet_jax.shards.reconstruction_shards import InvertedImage, picture_files, picture_names

pytestmark = pytest.mark.optimised

STEPS = 4


def _rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "results.csv").read_text().splitlines()))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def test_two_processes_joined_by_jax_and_a_third_that_finds_all_done(damaged, tmp_path):
    folder, bad = damaged
    flags = [
        f"--images={folder}",
        f"--out={tmp_path}",
        "--encoder=compact-random-0",
        "--judge=compact-random-1",
        "--feature_networks=",
        f"--steps={STEPS}",
        "--cpu_devices=1",
        "--slots=4",
        "--batch_size=2",
        "--shard_size=2",
    ]
    flags_of_all = [*flags, f"--coordinator=localhost:{_free_port()}", "--process_count=2"]
    shares = [
        script_process.start("experiments.bulk_invert", *flags_of_all, f"--process_index={index}")
        for index in (0, 1)
    ]
    ends = [share.end() for share in shares]
    assert {end.returncode for end in ends} <= {0, 1}, ends
    assert any("all shards done; " in end.stdout for end in ends)
    assert [row["image"] for row in _rows(tmp_path)] == [
        f"{i:02d}.png" for i in range(COUNT) if f"{i:02d}.png" not in bad
    ]
    assert json.loads((tmp_path / "run.json").read_text())["processes"] == 2
    third = script_process.run("bulk_invert", *flags)
    assert third.returncode == 1 and "0 of them in" in third.stdout, third.stderr
    assert "median  worst 1 %   control" in third.stdout and "Traceback" not in third.stderr
    assert sum("left out: " in line for line in third.stderr.splitlines()) == len(bad)
    _check_set_measures(folder, bad, tmp_path, third.stdout)


def _check_set_measures(folder: Path, bad, out: Path, told: str) -> None:
    """metrics.json says of all pictures what the library says of them."""
    space = weights.random_encoder("compact").preprocessing
    whole = [i for i in range(COUNT) if f"{i:02d}.png" not in bad]
    originals = np.stack([space.resize(read_image(folder / f"{i:02d}.png")) for i in whole])
    examples = tfds.builder_from_directory(out).as_data_source("images")
    pictures = np.stack([example["image"][0] for example in examples])
    taps = {"": weights.load_encoder("compact-random-1").tap("conv4")}
    found = json.loads((out / "metrics.json").read_text())
    assert found.pop("images") == len(whole)
    expected = image_sets.set_measures(pictures, originals, taps)
    expected |= image_sets.half_measures(originals, taps)
    assert found == pytest.approx(expected, rel=1e-3)
    assert f"grid_index{expected['grid_index']:27.4f}" in told


def test_the_script_wants_one_source(tmp_path):
    flags = f"--out={tmp_path}", "--images=a", "--descriptors=b"
    refused = script_process.run("bulk_invert", *flags)
    assert refused.returncode == 2 and "give one of --images" in refused.stderr


def test_names_cannot_lead_out_of_the_folder():
    image = np.zeros((1, 4, 4, 3), np.uint8)
    names = [
        next(picture_files(InvertedImage(7, name, image, [])))[0]
        for name in ("../../etc/passwd", "/abs", "a\0b", "ü/x y", "n" * 300)
    ]
    assert all(
        name.startswith("000007_") and "/" not in name and "\0" not in name for name in names
    )
    assert max(map(len, names)) < 120


def test_names_of_pictures_leave_room_for_what_is_added_while_they_are_written():
    """80 letters of three bytes each are 240, and a file system takes 255."""
    image = np.zeros((2, 4, 4, 3), np.uint8)
    names = [name for name, _ in picture_files(InvertedImage(7, "字" * 300, image, []))]
    assert [name.split(".", 1)[1] for name in names] == [
        "0.png", "1.png", "mean.png", "deviation.png"
    ]  # fmt: skip
    longest = max(len(f".{name}.999-of-1000.partial".encode()) for name in names)
    assert 230 < longest <= 255
    assert picture_names(7, "a b.png", 1) == ["000007_a_b.png.png"]
