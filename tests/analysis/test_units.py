"""Maximising images of units: a linear encoder's against their closed form; a script's files."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import script_process
from flax import linen as nn
from PIL import Image

from posenet_jax.analysis import units
from posenet_jax.encoders.encoder import Tap
from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import Preprocessing

SIDE = 8
FEATURES = 5
L6 = 0.5


class Linear(nn.Module):
    """Responses of units that weigh pixels."""

    @nn.compact
    def __call__(self, images):
        kernel = self.param("kernel", nn.initializers.normal(), (SIDE * SIDE * 3, FEATURES))
        return {"linear": images.reshape((*images.shape[:-3], -1)) @ kernel}


@pytest.fixture(scope="module")
def tap():
    kernel = np.random.default_rng(0).normal(size=(SIDE * SIDE * 3, FEATURES))
    kernel[:, 1] = -np.abs(kernel[:, 1])
    space = Preprocessing(means=(128.0, 128.0, 128.0), size=SIDE)
    return Tap({"kernel": jnp.asarray(kernel, jnp.float32)}, Linear(), "linear", space)


@pytest.fixture(scope="module")
def references():
    images = np.random.default_rng(1).integers(0, 256, (6, SIDE, SIDE, 3), dtype=np.uint8)
    images[:, 0, 0] = 255  # unit 1 responds to what is dark
    images[4] = 1
    return images


@pytest.fixture(scope="module")
def found(tap, references):
    recipe = units.RECIPE.replace(priors={"l6": L6}, learning_rate=8.0, steps=300)
    return units.maximised(tap, references, key=jax.random.key(0), units=[3, 1], recipe=recipe)


def test_images_are_those_of_the_closed_form(tap, references, found):
    kernel = np.asarray(tap.params["kernel"], np.float64)
    network = np.asarray(tap.preprocessing.to_network(references), np.float64)
    responses = network.reshape((len(references), -1)) @ kernel
    for k, unit in enumerate((3, 1)):
        highest = responses[:, unit].max()
        assert found.highest[k] == pytest.approx(highest, rel=1e-4)
        assert found.reference[k] == responses[:, unit].argmax()
        assert found.active[k] == np.mean(responses[:, unit] > 0)
        # Where the gradient of -w·x / highest + L6 Σ |x / 127.5|⁶ / pixels is zero.
        slope = 127.5 * SIDE * SIDE * kernel[:, unit] / (6 * L6 * highest)
        best = 127.5 * np.sign(slope) * np.abs(slope) ** 0.2
        picture = np.asarray(tap.preprocessing.to_image(jnp.asarray(best.reshape((SIDE, SIDE, 3)))))
        difference = np.abs(picture.astype(int) - found.picture[k])
        assert np.mean(difference) < 2.0, difference
        reached = np.asarray(tap.preprocessing.to_network(found.picture[k]), np.float64)
        assert found.response[k] == pytest.approx(reached.ravel() @ kernel[:, unit], rel=1e-4)
        assert found.multiple[k] == pytest.approx(found.response[k] / highest, rel=1e-4)
    assert found.reference[1] == 4
    assert found.multiple[0] > 1.0


class Rectified(nn.Module):
    """Responses of units to brightness: the first to what is dark, the second to what is light."""

    @nn.compact
    def __call__(self, images):
        mean = images.mean(axis=(-3, -2, -1))
        return {"rectified": nn.relu(jnp.stack([-mean - 40.0, mean + 40.0], axis=-1))}


def test_a_unit_that_is_silent_at_the_mean_colour_begins_with_an_image_given(references):
    space = Preprocessing(means=(128.0, 128.0, 128.0), size=SIDE)
    tap = Tap({}, Rectified(), "rectified", space)
    found = units.maximised(tap, references, key=jax.random.key(0))
    np.testing.assert_array_equal(found.silent, [True, False])
    assert found.reference[0] == 4 and (found.response > 0.0).all()
    assert [row["begun_from"] for row in found.table("abcdef")] == ["e", "noise"]
    assert "1 units are silent" in units.summary(found)[1]


def test_units_do_not_depend_on_which_others_are_asked_for(tap, references, found):
    recipe = units.RECIPE.replace(priors={"l6": L6}, learning_rate=8.0, steps=300)
    alone = units.maximised(tap, references, key=jax.random.key(0), units=[1], recipe=recipe)
    difference = np.abs(alone.picture[0].astype(int) - found.picture[1])
    assert difference.max() <= 1  # slots differ, and may round otherwise


def test_units_that_there_are(tap):
    assert units.chosen(tap, []) == list(range(FEATURES))
    with pytest.raises(InputError, match="linear has the units 0 to 4; received 5"):
        units.chosen(tap, [0, 5])


def test_a_table_names_the_image_given(found):
    rows = found.table(["a", "b", "c", "d", "e", "f"])
    assert [row["unit"] for row in rows] == [3, 1] and rows[1]["image"] == "e"
    assert "in the median" in units.summary(found)[0]


def test_the_script_shows_each_unit(tmp_path):
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (100, 100, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{number}.png")
    flags = f"--images={images}", f"--out={out}", "--encoder=compact-random-0", "--steps=2"
    done = script_process.run(
        "maximise_units", "--cpu_devices=2", *flags, "--units=7,2", "--show_given"
    )
    assert done.returncode == 0, done.stderr
    with (out / "units.csv").open(newline="") as file:
        assert [row["unit"] for row in csv.DictReader(file)] == ["7", "2"]
    record = json.loads((out / "run.json").read_text())
    assert record["recipe"]["data_term"] == "maximise"
    names = {"units.jpg", "units.csv", "run.json", "images/unit_00007.png", "images/unit_00002.png"}
    assert set(record["files"]) == names
    with Image.open(out / "units.jpg") as page:
        assert page.format == "JPEG" and min(page.size) > 90
    refused = script_process.run("maximise_units", *flags, "--units=600")
    assert refused.returncode == 2 and "0 to 511" in refused.stderr
