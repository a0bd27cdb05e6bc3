"""`measure_sensitivity`, `compare_trainings` and `operate_descriptors` from end to end."""

import csv
import json

import numpy as np
import pytest
import script_process
import training_folder
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


def test_trainings_are_compared_on_the_same_images(tmp_path):
    runs, workdir, photos = (tmp_path / name for name in ("runs", "out", "photos"))
    training_folder.write(runs / "pose-together", 1, kept=(4,))
    training_folder.write(runs / "pose-recoloured", 2, pairs=["recoloured"])
    photos.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (2, 100, 100, 3)).astype(np.uint8)
    for number, image in enumerate(noise):
        Image.fromarray(image).save(photos / f"{number}.png")
    few = "--cpu_devices=1", "--scenes=4", "--render_batch=4", "--steps=1", "--kinds="
    few = *few, f"--runs={runs}", f"--photographs=mine={photos}", "--control=compact-random-8"
    few = *few, "--beside=compact"
    done = run("compare_trainings", f"--workdir={workdir}", *few)
    assert done.returncode == 0, done.stderr
    assert "with pairs together instead of recoloured" in done.stdout
    rows = rows_of(workdir / "trainings.csv")
    names = {"pose-together", "pose-together-step-4", "pose-recoloured", "compact"}
    assert {row["encoder"] for row in rows} == names
    (row,) = (r for r in rows if (r["encoder"], r["measure"]) == ("pose-together", "chroma"))
    assert row["rotation_median_deg"] == "20.25" and row["untrained_value"] and row["count"] == "2"
    contrasts = rows_of(workdir / "contrasts.csv")
    assert {(row["differ"], row["alike"]) for row in contrasts} == {
        ("pairs", "tasks pose, robust_radius 0.0")
    }
    moved = rows_of(workdir / "sensitivity.csv")
    assert {row["encoder"] for row in moved} == {*names, "compact-random-8"}
    assert {row["layer"] for row in moved} == {"fc5"}
    # Random weights have no heads; those of the bundled encoder were trained for poses.
    assert {row["encoder"] for row in rows_of(workdir / "rotations.csv")} == {"compact"}
    for name in ("mine.png", "mine_learning.png"):
        with Image.open(workdir / name) as figure:
            assert figure.width > 1000
    with Image.open(workdir / "mine_pictures.jpg") as page:
        assert page.width > 6 * 100 and page.height > 2 * 100  # originals, four encoders, control
    strips = sorted((workdir / "parts").glob("*-mine-pictures-*.png"))
    assert len(strips) == 5
    with Image.open(strips[0]) as strip:
        assert strip.size == (100, 200)
    (runs / "pose-together").rename(runs / "compact")
    done = run("compare_trainings", f"--workdir={workdir}", *few)
    assert done.returncode == 2 and "two encoders are called 'compact'" in done.stderr


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
