"""`experiments.measure_sensitivity` and `experiments.operate_descriptors` from end to end."""

import csv
import json

import numpy as np
import pytest
import script_process
from PIL import Image

from posenet_jax.analysis import sensitivity
from posenet_jax.encoders.bundled_encoders import DEFAULT
from posenet_jax.encoders.streetnet import Compact


def run(script, *flags):
    return script_process.run(script, "--cpu_devices=2", *flags)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_sensitivity_is_measured_and_drawn(tmp_path):
    out = tmp_path / "out"
    encoders = ["--encoder=compact-random-1", "--control=compact-random-0"]
    few = "--cpu_devices=1", "--scenes=5", "--render_batch=4"  # as the report's test compiles it
    done = run("measure_sensitivity", f"--out={out}", *few, *encoders)
    assert done.returncode == 0, done.stderr
    assert "5/5" in done.stderr and "translation" in done.stdout
    written = ["sensitivity.csv", "sensitivity.png", "sensitivity_other.png", "grid.png"]
    assert sorted(p.name for p in out.iterdir()) == sorted([*written, "run.json"])
    rows = rows_of(out / "sensitivity.csv")
    # Random networks have no heads, and no rotations.csv.
    assert len(rows) == 2 * (1 + len(Compact.taps)) * len(sensitivity.AMOUNTS)
    for row in rows:
        if row["intervention"] == "yaw":
            assert float(row["ratio_to_yaw"]) == 1.0 and float(row["mean"]) > 0
    for name in written[1:]:
        with Image.open(out / name) as picture:
            assert min(picture.size) > 200
    record = json.loads((out / "run.json").read_text())
    assert set(record["files"]) == {*written, "run.json", "rotations.csv"}
    assert set(record["weights"]) == {"compact-random-0", "compact-random-1"}


def test_photographs_are_operated_on(tmp_path):
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (10, 10, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((120, 110)).save(images / f"{number}.png")
    (images / "damaged.png").write_bytes(b"no picture")
    done = run("operate_descriptors", f"--images={images}", f"--out={out}", "--grid=2")
    assert done.returncode == 1 and "damaged.png" in done.stderr, done.stderr
    names = {p.name for p in out.iterdir()}
    assert names == {"surgery.csv", "surgery.png", "pictures.png", "run.json"}
    rows = rows_of(out / "surgery.csv")
    assert {row["images"] for row in rows} == {"3"} and "rotation_error" not in rows[0]
    whole = next(r for r in rows if (r["operation"], r["amount"]) == ("best units", "512"))
    assert float(whole["relative_loss"]) == 0.0 and float(whole["pose_disagreement"]) < 1e-3
    record = json.loads((out / "run.json").read_text())
    assert record["left_out"] == 1 and record["fitted_on"] == 3
    assert set(record["files"]) == names


@pytest.mark.parametrize(
    ("script", "flags", "words"),
    [
        ("measure_sensitivity", ["--render_batch=3"], "multiple of 2 on 2 devices"),
        ("measure_sensitivity", [f"--control={DEFAULT}"], "another encoder"),
        ("measure_sensitivity", ["--encoder=/nowhere.safetensors"], "/nowhere.safetensors"),
        ("operate_descriptors", ["--images=/nowhere"], "/nowhere"),
        ("operate_descriptors", ["--decoder=streetnet-conv4"], "decodes conv4, not fc5"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, script, flags, words):
    done = run(script, f"--out={tmp_path / 'out'}", *flags)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
