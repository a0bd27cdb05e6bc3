"""`experiments.evaluate_posenet` end to end, on a tiny encoder and photographs made here."""

import csv
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import script_process
from PIL import Image
from scipy.spatial.transform import Rotation

from posenet_jax.encoders import encoder, weights
from posenet_jax.encoders.heads import PoseScale
from posenet_jax.encoders.streetnet import Compact


def _evaluate(*flags):
    return script_process.run("evaluate_posenet", "--cpu_devices=1", "--pairs=8", *flags)


@pytest.fixture(scope="module")
def encoder_file(tmp_path_factory):
    """An untrained encoder with untrained heads."""
    base = weights.load_encoder("compact-random-0")
    _, heads = encoder.init_params(Compact(512), jax.random.key(0))
    scale = PoseScale(mean=jnp.zeros(6), std=jnp.ones(6))
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    weights.save_encoder(path, dataclasses.replace(base, head_params=heads, pose_scale=scale))
    return path


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Three photographs, turned by 0, 15 and 40 degrees, of which one is damaged later on."""
    folder = tmp_path_factory.mktemp("strecha") / "wall"
    folder.mkdir()
    for i, angle in enumerate((0, 15, 40)):
        noise = np.random.default_rng(i).integers(0, 256, (24, 36, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
        rotation = Rotation.from_euler("y", angle, degrees=True).as_matrix()
        lines = ["40 0 18", "0 40 12", "0 0 1", "0 0 0"]
        lines += [" ".join(map(str, row)) for row in rotation] + [f"{i} 0 0", "36 24"]
        (folder / f"{i}.png.camera").write_text("\n".join(lines))
    (folder / "3.png").write_bytes(b"not a picture")
    return folder.parent


def _rows(out, name):
    """Rows of pairs.csv of one set."""
    with (out / "pairs.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["set"] == name]


def test_writes_figures_tables_and_metrics(tmp_path, encoder_file, scene):
    out = tmp_path / "out"
    sets = f"--strecha={scene}", f"--cameras=courtyard={scene}"
    facades = f"--facades={scene / 'wall' / '[01].png'}"
    photos = f"--turned_photos={scene / 'wall'}"
    run = _evaluate(f"--encoder={encoder_file}", *sets, facades, photos, f"--out={out}")
    assert run.returncode == 1, run.stderr  # one photograph is damaged
    assert "3.png" in run.stderr
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["weights"] == weights.load_encoder(str(encoder_file)).fingerprint
    strecha, rendered = metrics["strecha"], metrics["rendered"]
    assert strecha["pairs"] == 3 and set(strecha["scenes"]) == {"wall"}
    np.testing.assert_allclose(strecha["identity_median_deg"], 25.0, atol=0.01)
    assert metrics["courtyard"] == strecha  # the same photographs, all below 60 degrees
    assert {name: c["pairs"] for name, c in strecha["overlap"].items()} == {
        "large": 2,  # 15 and 25 of 60 degrees
        "small": 1,
        "none": 0,
    }
    errors = {15: [], 30: []}
    for row in _rows(out, "strecha"):
        for limit, below in errors.items():
            below.append(float(row["rotation"]) < limit)
    for limit, below in errors.items():
        assert strecha[f"within_{limit}_deg"] == np.mean(below)
    for key in ("rotation_median_deg", "constant_median_deg", "pairs"):
        assert rendered[key] > 0 and strecha[key] > 0
    for key in ("matching_fpr95", "normal_median_deg", "bins"):
        assert key in rendered and key in metrics["rendered_report_view"]
    assert metrics["rendered_along"]["rotation_median_deg"] > 0
    assert "matching_fpr95" not in metrics["rendered_along"]
    turned = metrics["turned"]
    assert turned["pairs"] == len(_rows(out, "turned")) == 8
    assert 0 < turned["identity_median_deg"] < 30 and -1 <= turned["yaw_correlation"] <= 1
    assert np.isfinite(turned["yaw_slope"])
    assert turned["translation_median_deg"] is None and "matching_fpr95" not in turned
    assert sum(row["pairs"] for row in rendered["bins"]) <= rendered["pairs"]
    ours = [float(row["rotation"]) for row in _rows(out, "rendered")]
    assert len(ours) == rendered["pairs"]
    np.testing.assert_allclose(np.median(ours), rendered["rotation_median_deg"], rtol=1e-6)
    for name in ("rotation.png", "matching.png"):
        with Image.open(out / name) as picture:
            assert picture.width > 400
    assert json.loads((out / "run.json").read_text())["left_out"] == 3

    four = tmp_path / "four"
    run = _evaluate(f"--encoder={encoder_file}", facades, "--readings=4", f"--out={four}")
    assert run.returncode == 0, run.stderr
    assert metrics["readings"] == 1
    metrics = json.loads((four / "metrics.json").read_text())
    assert metrics["readings"] == 4
    for key in ("matching_fpr95", "normal_median_deg", "identity_median_deg"):
        assert metrics["rendered"][key] == pytest.approx(rendered[key], rel=1e-5), key
    means = [float(row["rotation"]) for row in _rows(four, "rendered")]
    assert len(means) == len(ours) and np.abs(np.subtract(means, ours)).max() > 0.01


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--strecha=/nowhere"], "/nowhere"),
        (["--encoder=compact-random-0"], "no heads"),
        (["--encoder=/nowhere.safetensors"], "/nowhere.safetensors"),
        (["--pairs=65"], "pairs must be a multiple of 64, or 8, 16 or 32, received 65"),
    ],
)
def test_refuses_in_one_sentence(tmp_path, flags, words):
    run = _evaluate(f"--out={tmp_path / 'out'}", *flags)
    assert run.returncode == 2 and words in run.stderr and "Traceback" not in run.stderr
    assert not (tmp_path / "out").exists()
