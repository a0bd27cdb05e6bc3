"""The decoder's scripts end to end: training, killed and resumed; search; decoding; mistakes."""

import csv
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import script_process
from PIL import Image
from safetensors.numpy import load_file

from posenet_jax.decoders import decoding
from posenet_jax.encoders import weights
from posenet_jax.images.image_files import read_images

ROOT = Path(__file__).parents[2]
ENCODER = "compact"
# Programs for one device are a fifth quicker to compile.
COMMON = f"--encoder={ENCODER}", "--cpu_devices=1"
COUNT = 6


def _run(script, *flags):
    return script_process.run(script, *COMMON, *flags)


def _train_flags(images, workdir, *flags):
    return "train_decoder", f"--images={images}", f"--workdir={workdir}", "--batch_size=4", *flags


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Images, and one file that is none."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        coarse = rng.integers(0, 256, (5, 5, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((160, 140)).save(folder / f"{number}.jpg")
    (folder / "bad.jpg").write_text("not a picture")
    return folder


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    """(folder, what the script said) of an undisturbed run."""
    workdir = tmp_path_factory.mktemp("trained")
    options = ["--steps=8", "--drops=5", "--checkpoint_every=2", f"--val_images={images}"]
    run = _run(*_train_flags(images, workdir, *options))
    assert run.returncode == 0, run.stderr
    return workdir, run.stdout + run.stderr


def _table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_trains_to_a_decoder_with_its_figures_and_controls(images, trained):
    workdir, said = trained
    assert "bad.jpg" in said
    decoder = decoding.load_decoder(workdir / "decoder.safetensors")
    assert decoder.encoder_fingerprint == weights.load_encoder(ENCODER).fingerprint
    record = json.loads((workdir / "decoder.json").read_text())
    names = sorted(path for path in images.iterdir() if path.name != "bad.jpg")
    originals = np.stack(read_images(names, decoder.preprocessing).images) / 255.0
    # Validated on what it is trained on: the nearest neighbour is the image itself.
    assert record["steps"] == 8 and record["validation_nearest_neighbour_mse"] < 1e-12
    assert record["validation_mean_image_mse"] == pytest.approx(originals.var(axis=0).mean())
    assert record["validation_mse"] == pytest.approx(record["train_mse"])
    assert [row["step"] for row in _table(workdir / "metrics.csv")] == ["8"]
    assert any((workdir / "tensorboard").iterdir())
    for picture in ("curve.png", "samples/step-000008.png"):
        with Image.open(workdir / picture) as shown:
            assert shown.size[0] > 100


def test_a_run_does_not_forget_that_its_rate_has_dropped(images, trained):
    run = _run(*_train_flags(images, trained[0], "--steps=9", "--drops=6"))
    assert run.returncode == 2 and "has dropped after 5" in run.stderr, run.stderr
    record = trained[0] / "run.json"
    whole = record.read_text()
    record.write_text(whole.replace('"drops"', '"drop"'))
    run = _run(*_train_flags(images, trained[0], "--steps=9", "--drops=5"))
    record.write_text(whole)
    assert run.returncode == 2 and "run.json cannot be used: flags lacks drops" in run.stderr
    assert "Traceback" not in run.stderr
    assert _table(trained[0] / "metrics.csv")[-1]["step"] == "8"


def test_a_run_goes_on_with_the_images_that_it_was_initialised_from(images, trained, tmp_path):
    other = shutil.copytree(images, tmp_path / "other")
    size = (other / "3.jpg").stat().st_size
    (other / "3.jpg").write_bytes((other / "4.jpg").read_bytes()[:size].ljust(size, b"\0"))
    flags = "--steps=9", "--drops=5", f"--val_images={images}"
    run = _run(*_train_flags(other, trained[0], *flags))
    assert run.returncode == 2 and "--images had other images" in run.stderr, run.stderr
    run = _run(*_train_flags(images, trained[0], *flags[:2]))
    assert run.returncode == 2 and "--val_images was given" in run.stderr, run.stderr
    assert _table(trained[0] / "metrics.csv")[-1]["step"] == "8"


def test_a_run_killed_and_resumed_ends_on_the_same_bytes(images, trained, tmp_path):
    flags = _train_flags(
        images, tmp_path, "--steps=8", "--drops=5", "--checkpoint_every=2", f"--val_images={images}"
    )
    script, *rest = flags
    process = script_process.start(f"experiments.{script}", *COMMON, *rest)
    deadline = time.monotonic() + 300
    while not (tmp_path / "checkpoints" / "2").is_dir():
        assert process.at_work and time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    assert not (tmp_path / "decoder.safetensors").exists()
    run = _run(*flags)
    assert run.returncode == 0, run.stderr
    # The bytes of all arrays; the order of a safetensors file's metadata is not settled.
    weights_found, weights_wanted = (
        load_file(folder / "decoder.safetensors") for folder in (tmp_path, trained[0])
    )
    assert weights_found.keys() == weights_wanted.keys()
    for name, array in weights_found.items():
        assert array.tobytes() == weights_wanted[name].tobytes(), name
    last, wanted = (_table(folder / "metrics.csv")[-1] for folder in (tmp_path, trained[0]))
    assert [last[n] for n in ("loss", "train_mse")] == [wanted[n] for n in ("loss", "train_mse")]


def test_decodes_with_every_measure(images, trained, tmp_path):
    decoder = trained[0] / "decoder.safetensors"
    flags = f"--images={images}", f"--decoder={decoder}", f"--out={tmp_path}", "--judge="
    run = _run("decode", *flags)
    assert run.returncode == 1 and "bad.jpg" in run.stderr
    rows = _table(tmp_path / "results.csv")
    assert [row["image"] for row in rows] == [f"{number}.jpg" for number in range(COUNT)]
    written = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert written == set(json.loads((tmp_path / "run.json").read_text())["files"])
    summary = json.loads((tmp_path / "metrics.json").read_text())["methods"]["decoder"]
    assert summary["psnr"]["mean"] == pytest.approx(np.mean([float(row["psnr"]) for row in rows]))
    assert summary["psnr"]["low"] < summary["psnr"]["mean"] < summary["psnr"]["high"]
    original = read_images([images / "0.jpg"], weights.load_encoder(ENCODER).preprocessing)
    with Image.open(tmp_path / "images" / "decoder" / "0.png") as file:
        picture = np.asarray(file, float)
    error = np.mean(np.square(picture - original.images[0]) / 255.0**2)
    assert float(rows[0]["psnr"]) == pytest.approx(-10 * np.log10(error), rel=1e-4)
    names = sorted(path for path in images.iterdir() if path.name != "bad.jpg")
    whole = read_images(names, weights.load_encoder(ENCODER).preprocessing).images
    made = [np.asarray(Image.open(path)) for path in sorted(tmp_path.glob("images/decoder/*.png"))]
    assert summary["energy_ratio"] == pytest.approx(_energy(made) / _energy(whole), rel=1e-4)
    refused = _run("decode", *flags, "--encoder=compact-random-1")
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert "was trained on encoder 'compact'" in refused.stderr


def _energy(pictures):
    """Energy of Rec. 601 greys; Pillow's are rounded, which a blurred picture's energy shows."""
    grey = [picture.astype(float) @ (0.299, 0.587, 0.114) for picture in pictures]
    return np.mean([np.square(np.diff(g, axis=axis)).mean() for g in grey for axis in (0, 1)])


def test_trains_against_a_discriminator_and_compares(images, trained, tmp_path):
    workdir, out = tmp_path / "game", tmp_path / "compared"
    decoder = trained[0] / "decoder.safetensors"
    flags = _train_flags(images, workdir, f"--decoder={decoder}", f"--val_images={images}")[1:]
    flags = *flags, "--steps=4", "--noise_numbers=5", "--learning_rate=1e-3", "--evaluate_every=50"
    flags = "--comparator=compact-random-1/conv1", "--discriminator_taps=conv1,conv3", *flags
    flags = "--score=energy", "--spectrum_weight=1", *flags
    run = _run("train_adversarial", *flags)
    assert run.returncode == 0, run.stderr
    row = _table(workdir / "metrics.csv")[-1]
    health = "real_accuracy", "made_accuracy", "loss_ratio", "discriminator_gradient_norm"
    judged = "relative_loss", "judge_relative_loss", "energy_ratio", "kernel_distance"
    assert all(np.isfinite(float(row[name])) for name in health)
    assert all(np.isfinite(float(row[f"validation_{name}"])) for name in judged)
    assert (workdir / "health.png").is_file()
    (workdir / "decoder.safetensors").rename(workdir / "generator.safetensors")
    both = f"--decoder={decoder},{workdir / 'generator.safetensors'}"
    flags_of_decode = f"--images={images}/?.jpg", both, f"--out={out}", "--limit=2", "--steps=100"
    run = _run("decode", *flags_of_decode, "--compare")
    assert run.returncode == 0, run.stderr
    methods = json.loads((out / "metrics.json").read_text())["methods"]
    assert set(methods) == {"decoder", "generator", "inversion"}
    assert methods["inversion"]["picture_relative_loss"]["mean"] < 0.05
    assert methods["generator"]["draw_variance"] > 0
    assert len(_table(out / "results.csv")) == 6
    assert (out / "draws-generator.png").is_file() and (out / "grid.png").is_file()
    written = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    assert written == set(json.loads((out / "run.json").read_text())["files"])
    refused = _run("train_adversarial", *flags[:-1], "--feature_taps=conv9", "--steps=5")
    assert refused.returncode == 2 and "no tap 'conv9'" in refused.stderr, refused.stderr
    refused = _run("train_adversarial", *flags, "--discriminator_taps=fc5", "--steps=5")
    assert refused.returncode == 2 and "no feature maps 'fc5'" in refused.stderr, refused.stderr
    refused = _run("train_adversarial", *flags, "--comparator=compact")
    assert refused.returncode == 2 and "expected ENCODER/LAYER" in refused.stderr, refused.stderr


def test_descriptors_extracted_beforehand_train_as_images_do(images, tmp_path):
    extracted, good = tmp_path / "descriptors", f"{images}/?.jpg"
    run = _run("extract_descriptors", f"--images={good}", "--layer=fc5", f"--out={extracted}")
    assert run.returncode == 0, run.stderr
    common = "--steps=2", "--smallest_crop=1"
    losses = []
    for name, more in (("given", [f"--descriptors={extracted}"]), ("encoded", [])):
        run = _run(*_train_flags(good, tmp_path / name, *common, *more))
        assert run.returncode == 0, run.stderr
        losses.append(float(_table(tmp_path / name / "metrics.csv")[-1]["train_mse"]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_a_search_is_ranked_and_goes_on(images, tmp_path):
    flags = f"--images={images}", "--batch_size=4", "--trials=3", "--batches=2"
    coarse = *flags, "--stage=coarse", "--lowest=1e-5", "--highest=1e30", f"--workdir={tmp_path}"
    refused = _run("search_decoder", *flags, "--stage=fine", f"--workdir={tmp_path}")
    assert refused.returncode == 2 and "run --stage=coarse first" in refused.stderr
    (tmp_path / "coarse.csv").write_text("learning_rate,loss,validation_mse\n0.1,0.5\n")
    refused = _run("search_decoder", *flags, "--stage=fine", f"--workdir={tmp_path}")
    assert refused.returncode == 2 and "coarse.csv, line 2: 2 cells" in refused.stderr
    assert "Traceback" not in refused.stderr
    (tmp_path / "coarse.csv").unlink()
    run = _run("search_decoder", *coarse)
    assert run.returncode == 0, run.stderr
    rows = _table(tmp_path / "coarse.csv")
    rates = [float(row["learning_rate"]) for row in rows]
    losses = [float(row["loss"]) for row in rows]
    assert losses == sorted(losses) and np.isfinite(losses[0]) and losses[-1] == np.inf
    for low, high, rate in zip((1e-5, 4e6, 2e18), (5e6, 3e18, 1e30), sorted(rates), strict=True):
        assert low <= rate <= high  # one in each third
    # A search cut off loses no trial that was done.
    (tmp_path / "coarse.csv").write_text(
        "learning_rate,loss,validation_mse\n" + f"{rates[0]},0.125,0.5\n"
    )
    assert _run("search_decoder", *coarse).returncode == 0
    again = _table(tmp_path / "coarse.csv")
    kept = next(row for row in again if float(row["learning_rate"]) == rates[0])
    assert kept["loss"] == "0.125" and len(again) == 3
    assert (tmp_path / "search.png").exists()
    refused = _run("search_decoder", *coarse, "--batches=3")
    assert refused.returncode == 2 and "the trials done had batches 2, not 3" in refused.stderr
    shutil.copytree(images, tmp_path / "fewer")
    (tmp_path / "fewer" / "0.jpg").unlink()
    refused = _run("search_decoder", *coarse, f"--images={tmp_path / 'fewer'}")
    assert refused.returncode == 2 and "--images had other images (names or" in refused.stderr
    assert _table(tmp_path / "coarse.csv") == again


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--images=/nowhere"], "/nowhere"),
        (["--rendered=6"], "multiple of 4"),
        (["--rendered=8"], "more than the batch"),
        (["--drops=1,two"], "--drops takes numbers of steps"),
        (["--drops=3", "--plateau=5"], "not both"),
        (["--descriptors=/nowhere"], "/nowhere"),
    ],
)
def test_mistakes_are_answered_in_one_sentence(images, tmp_path, flags, words):
    run = _run(*_train_flags(images, tmp_path / "run", "--steps=2", *flags))
    assert run.returncode == 2 and words in run.stderr and "Traceback" not in run.stderr


def test_nothing_to_train_on(images, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    run = _run(*_train_flags(empty, tmp_path / "run"))
    assert run.returncode == 2 and "empty" in run.stderr and "Traceback" not in run.stderr
    shutil.copy(images / "bad.jpg", empty / "bad.jpg")
    run = _run(*_train_flags(empty, tmp_path / "run"))
    assert run.returncode == 2 and "none of the 1 images could be read" in run.stderr


def test_numbers_gone_bad_end_the_run_and_the_last_good_state_stays(images, tmp_path):
    flags = "--steps=20", "--checkpoint_every=1", "--learning_rate=1e30"
    run = _run(*_train_flags(images, tmp_path, *flags))
    assert run.returncode == 2 and "the loss is" in run.stderr and "Traceback" not in run.stderr
    assert len(list((tmp_path / "checkpoints").iterdir())) >= 1
