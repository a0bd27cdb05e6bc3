"""`experiments.train_posenet` end to end: trains, writes weights that load, refuses mistakes."""

import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import script_process
from PIL import Image

from posenet_jax.analysis import trainings
from posenet_jax.encoders import weights


def _train(workdir, *flags):
    few = "--architecture=compact", "--steps=2", "--rendered_pairs=4", "--photo_pairs=4"
    few = *few, "--held_out_pairs=4", "--cpu_devices=1"
    return script_process.run("train_posenet", f"--workdir={workdir}", *few, *flags)


def test_trains_from_nothing_to_weights_that_load(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (2, 9, 9, 3)).astype(np.uint8)
    for i, image in enumerate(noise):
        Image.fromarray(image).resize((200, 160)).save(photos / f"{i}.jpg")
    held_out = tmp_path / "held-out"
    shutil.copytree(photos, held_out)
    (photos / "bad.jpg").write_text("not a picture")
    workdir = tmp_path / "run"
    # The variety that held-out photographs have too: training and evaluation share programs.
    varied = (
        "--vary=views",
        "--room_pairs=4",
        f"--held_out_photos={held_out}",
        "--photo_turns",
        "--photo_pose",
    )
    varied = *varied, f"--facades={held_out}", "--plain_pairs=4"
    run = _train(workdir, f"--photos={photos}", *varied, "--keep=1")
    assert run.returncode == 0, run.stderr
    assert "bad.jpg" in run.stderr + run.stdout
    encoder = weights.load_encoder(workdir / "weights.safetensors")
    record = json.loads((workdir / "weights.json").read_text())
    assert record["fingerprint"] == encoder.fingerprint and record["steps"] == 2
    kept = weights.load_encoder(workdir / "weights-1.safetensors")
    assert kept.fingerprint != encoder.fingerprint
    early, last = trainings.runs(tmp_path)
    assert (early.encoder.name, last.encoder.name) == ("run-step-1", "run")
    assert (last.tasks, last.pairs, last.seed, last.steps) == ("match+normal+pose", "views", 0, 2)
    said = last.errors["rotation_median_deg"], last.errors["matching_fpr95_same_scene"]
    figures = record["figures"]
    assert said == (figures["rotation_median_deg"], figures["matching_fpr95_same_scene"])
    for name in ("", "turned_", "rooms_"):
        assert 0 < record["figures"][f"{name}identity_median_deg"] < 180
        assert 0 < record["figures"][f"{name}rotation_median_deg"] < 180
    assert all(60 < mean < 200 for mean in encoder.preprocessing.means)
    assert np.all(np.asarray(encoder.pose_scale.std) > 0)
    with (workdir / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2"] and float(rows[0]["photo_match"]) > 0
    assert float(rows[0]["room_pose"]) > 0 and float(rows[0]["room_match"]) == 0
    assert float(rows[0]["plain_pose"]) > 0
    assert any((workdir / "tensorboard").iterdir())
    assert (workdir / "checkpoints" / "2").is_dir()
    (photos / "bad.jpg").write_text("not a Picture")
    run = _train(workdir, f"--photos={photos}", *varied, "--steps=3")
    assert run.returncode == 2 and "2 steps done --photos had other images" in run.stderr
    run = _train(workdir, f"--photos={photos}", *varied, "--steps=3", "--tasks=pose")
    assert run.returncode == 2 and "had tasks ['match', 'normal', 'pose'], not" in run.stderr


def test_plain_pairs_have_no_varieties_and_all_else_that_varied_ones_have(tmp_path):
    facade = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    for name in "ab":
        Image.fromarray(facade).save(tmp_path / f"{name}.png")
    script = (
        "import sys, jax, numpy as np; from absl import flags; from jax.sharding import Mesh;"
        "from experiments.common import pair_options; from posenet_jax.data import varieties;"
        "from posenet_jax.training.pose_training import TrainConfig; flags.FLAGS(['x',"
        "'--vary=views,courts', '--noise=0.3', '--max_angle=120', '--centre_jitter=0.1',"
        "'--facades=' + sys.argv[1]]);"
        "mesh = Mesh(np.asarray(jax.devices()), ('pairs',));"
        "config = TrainConfig(rendered_pairs=4, photo_pairs=0, plain_pairs=8);"
        "sources, held_out = pair_options.sources(config, jax.random.key(0), mesh, '.');"
        "varied, plain = sources['rendered'], sources['plain'];"
        "assert (varied.count, plain.count, held_out.count) == (4, 8, 4);"
        "assert varied.config == varieties.varied(plain.config, ['views', 'courts']);"
        "assert varied.config != plain.config and plain.config.development.noise == 0.3;"
        "assert plain.config.centre_jitter == 0.1 != held_out.config.centre_jitter;"
        "config = TrainConfig(rendered_pairs=4, photo_pairs=0);"
        "assert list(pair_options.sources(config, jax.random.key(0), mesh, '.')[0]) == ['rendered']"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--facades=/nowhere", "/nowhere"),
        ("--photos=/nowhere", "/nowhere"),
        ("--rendered_pairs=6", "multiple of 4"),
        ("--photo_pose", "give --photos"),
        ("--room_pairs=4", "--room_pairs needs photographs: give --photos"),
        ("--vary=views,fog", "no variety 'fog'"),
        ("--tasks=pose,depth", "no task 'depth'; there are pose, match, normal"),
        ("--tasks=", "one task or more"),
        ("--start=nothing", "nothing"),
        ("--photo_turns", "give --photo_pose"),
        ("--change_weight=1", "--change_weight needs an encoder that training begins with"),
    ],
)
def test_refuses_in_one_sentence(tmp_path, flag, words):
    run = _train(tmp_path / "run", flag)
    assert run.returncode == 2 and words in run.stderr and "Traceback" not in run.stderr


def test_heads_learn_from_pairs_encoded_once_and_the_encoder_stays(tmp_path):
    photos, workdir = tmp_path / "photos", tmp_path / "run"
    photos.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (2, 9, 9, 3)).astype(np.uint8)
    for i, image in enumerate(noise):
        Image.fromarray(image).resize((200, 160)).save(photos / f"{i}.jpg")
    few = (
        "--encoder=compact",
        "--pool=8",
        "--hidden_units=4",
        "--cpu_devices=1",
        f"--workdir={workdir}",
    )
    few = *few, f"--photos={photos}", f"--facades={photos}"

    def train(*flags):
        return script_process.run("train_heads", *few, *flags)

    run = train("--steps=2")
    assert run.returncode == 0, run.stderr
    kinds = {path.name.partition("-")[0] for path in (workdir / "pool").iterdir()}
    assert kinds == {"rendered", "plain", "photo"}
    known, corrected = (
        weights.load_encoder(x) for x in ("compact", workdir / "weights.safetensors")
    )
    assert corrected.fingerprint == known.fingerprint
    assert corrected.head_params["correction"]["fc_1"]["bias"].shape == (4,)
    np.testing.assert_array_equal(
        corrected.head_params["common_fc"]["kernel"], known.head_params["common_fc"]["kernel"]
    )
    record = json.loads((workdir / "weights.json").read_text())
    assert record["steps"] == 2 and record["figures"]["rotation_median_deg"] > 0
    with (workdir / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(float(rows[0][f"{kind}_pose"]) > 0 for kind in kinds)
    before = {path: path.stat().st_mtime_ns for path in (workdir / "pool").iterdir()}
    run = train("--steps=3")
    assert run.returncode == 0, run.stderr
    assert before == {path: path.stat().st_mtime_ns for path in (workdir / "pool").iterdir()}
    assert json.loads((workdir / "weights.json").read_text())["steps"] == 3
    for flags, words in (
        (("--steps=4", "--noise=0.3"), "had noise 0.02, not 0.3"),
        (("--pool=12",), "a multiple of 64, or 8, 16 or 32, received 12"),
        ((f"--encoder={workdir / 'weights.safetensors'}",), "the 3 steps done had encoder"),
        (
            (f"--encoder={workdir / 'weights.safetensors'}", "--hidden_units=5"),
            "have a correction of 4 hidden units",
        ),
        (("--encoder=compact-random-0",), "no heads"),
    ):
        run = train(*flags)
        assert run.returncode == 2 and words in run.stderr and "Traceback" not in run.stderr
