"""The decoders in the package: that they load, fit, and give back more than the mean image."""

import csv
from pathlib import Path

import jax
import numpy as np
import pytest
import script_process

from posenet_jax import metrics
from posenet_jax.decoders import decoding
from posenet_jax.encoders.weights import PRETRAINED, load_encoder
from posenet_jax.errors import InputError
from posenet_jax.evaluation import decoder_evaluation
from posenet_jax.images import image_files
from posenet_jax.images.image_list import list_images

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "posenet_jax" / "demo_images"
NAMES = sorted(path.stem for path in (PRETRAINED / "decoders").glob("*.safetensors"))


def test_there_is_one_for_each_layer_and_each_has_a_card():
    assert {"streetnet-fc5", "streetnet-conv4"} <= set(NAMES)
    cards = {path.stem for path in (PRETRAINED / "decoders").glob("*.md")}
    assert set(NAMES) == cards


def test_an_encoder_has_its_own_decoder_or_none():
    found = decoding.decoder_if_any(load_encoder("streetnet"), "fc5")
    assert found is not None and found.name == "streetnet-fc5"
    other = load_encoder("compact")
    assert decoding.decoder_if_any(other, "fc5") is None
    with pytest.raises(InputError, match="was trained on encoder 'streetnet'"):
        decoding.decoder_if_any(other, "fc5", "streetnet-fc5")


@pytest.mark.parametrize("name", NAMES)
def test_it_gives_back_more_than_the_mean_image_or_a_wrong_one(name):
    file = PRETRAINED / "decoders" / f"{name}.safetensors"
    assert file.stat().st_size <= 8 * 2**20
    decoder = decoding.load_decoder(name)
    encoder = load_encoder(decoder.encoder)
    decoder.check_fits(encoder, decoder.layer)
    images = image_files.read_images(list_images(DEMO), encoder.preprocessing).images
    demo = decoder_evaluation.described(encoder.tap(decoder.layer), np.stack(images), [])
    if decoder.noise:  # one of the images that the descriptor allows, not their mean
        pictures = decoder_evaluation.pictures(decoder, demo, 0)
        again = decoder_evaluation.described(encoder.tap(decoder.layer), pictures, [])
        losses = jax.vmap(metrics.relative_loss)(again.descriptors, demo.descriptors)
        others = jax.vmap(metrics.relative_loss)(again.descriptors, demo.descriptors[::-1])
        assert float(losses.mean()) < 0.5 * float(others.mean())
        assert float(others.mean()) > 0.25
        return
    ours = decoder_evaluation.errors(decoder, demo).mean()
    # The mean of these very images knows more than that of the training images.
    mean = decoder_evaluation.mean_image_errors(demo, demo).mean()
    assert ours < (0.75 if decoder.layer == "fc5" else 0.5) * mean


def test_the_script_begins_with_the_bundled_decoders_picture(tmp_path):
    def rows(recipe):
        out = tmp_path / recipe
        flags = f"--images={DEMO}", "--limit=4", "--layer=fc5", f"--recipe={recipe}", "--steps=10"
        run = script_process.run("invert", "--cpu_devices=1", *flags, f"--out={out}")
        assert run.returncode == 0, run.stderr
        with (out / "results.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    warm, cold = (
        np.median([float(row["luminance_correlation"]) for row in rows(recipe)])
        for recipe in ("warm", "calibrated")
    )
    assert warm > cold + 0.1
