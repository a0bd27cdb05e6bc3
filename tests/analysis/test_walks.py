"""Walks along directions against closed forms, and what the script writes."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
import script_process
from flax import linen as nn
from PIL import Image

from posenet_jax.analysis import walks
from posenet_jax.encoders.encoder import Encoder, Tap, parameter_shapes
from posenet_jax.encoders.vit import ViT
from posenet_jax.encoders.weights import save_encoder
from posenet_jax.images.preprocessing import Preprocessing

SIDE = 8
SPACE = Preprocessing(means=(128.0, 128.0, 128.0), size=SIDE, scale=0.5)
IMAGES = Preprocessing(means=(128.0, 128.0, 128.0), size=28)


class Linear(nn.Module):
    """Numbers that weigh pixels."""

    @nn.compact
    def __call__(self, images):
        kernel = self.param("kernel", nn.initializers.normal(), (SIDE * SIDE * 3, 5))
        return {"linear": images.reshape((*images.shape[:-3], -1)) @ kernel}


@pytest.fixture(scope="module")
def tap():
    kernel = np.random.default_rng(0).normal(size=(SIDE * SIDE * 3, 5))
    return Tap({"kernel": jnp.asarray(kernel, jnp.float32)}, Linear(), "linear", SPACE)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(60, 196, (3, SIDE, SIDE, 3), dtype=np.uint8)


def test_a_linear_descriptor_moves_as_its_kernel_says(tap, images):
    found, walked = walks.directions(tap, images, key=jax.random.key(0))
    assert list(walked) == list(walks.NAMES) == walks.names(tap, 3)
    assert walks.names(tap, 3, exact=4) == ["most", "random", "difference"]
    assert walks.names(tap, 1) == ["most", "random", "least", "smooth"]
    rows, pictures = walks.walk_rows("linear", tap, "abc", images, walked, found.norm, [4.0, 2.0])
    kernel = np.asarray(tap.params["kernel"], np.float64)
    gains = np.linalg.svd(kernel, compute_uv=False)
    norms = np.linalg.norm(np.asarray(SPACE.to_network(images)).reshape((3, -1)) @ kernel, axis=1)
    for row in rows:
        assert row["change_unclipped"] == pytest.approx(row["predicted"], rel=1e-3, abs=1e-4)
        length = row["grey_levels"] * SPACE.scale * np.sqrt(SIDE * SIDE * 3)
        norm = norms["abc".index(row["image"])]
        if row["direction"] in ("most", "least"):
            gain = gains[0 if row["direction"] == "most" else -1]
            assert row["predicted"] == pytest.approx(gain * length / norm, rel=1e-4)
        elif row["direction"] in ("smooth", "unseen_difference"):
            assert row["predicted"] < 1e-5
        # Rounding adds a variance of a twelfth; nothing is clipped.
        rounded = np.hypot(row["grey_levels"], 12**-0.5)
        assert row["grey_levels_clipped"] == pytest.approx(rounded, rel=0.03)
        energy = sum(value for name, value in row.items() if name.startswith("energy_"))
        assert energy == pytest.approx(1.0)
    assert [row["grey_levels"] for row in rows[:6]] == [2.0] * 3 + [4.0] * 3
    moved = pictures["difference"].astype(float) - images
    wanted = np.roll(images, -1, axis=0).astype(float) - images
    wanted *= 4.0 / np.sqrt(np.mean(wanted**2, axis=(1, 2, 3), keepdims=True))
    assert np.abs(moved - wanted).max() <= 0.5001


def test_what_leaves_the_range_is_clipped(tap):
    white = np.full((1, SIDE, SIDE, 3), 255, np.uint8)
    found = walks.step(tap, white, np.ones((1, SIDE, SIDE, 3), np.float32), 20.0)
    # Forth nothing is left, back all of it.
    assert found.grey_levels[0] == pytest.approx(10.0) and (found.pictures == 255).all()
    assert found.change[0] == pytest.approx(found.unclipped[0] / 2, rel=1e-4)
    _, walked = walks.directions(tap, white, key=jax.random.key(0))
    assert "difference" not in walked  # of one image there is no other


def test_energies_are_those_of_the_waves():
    waves = np.zeros((3, 96, 96, 3))
    waves[0, 0, 3, 0] = 2.0  # 1.5 cycles across
    waves[1, 40, 30, 1] = 1.0  # 25 cycles, aslant
    waves[2, 8, 0, 2] = waves[2, 0, 90, 2] = 1.0  # 4 and 45
    directions = scipy.fft.idctn(waves, axes=(1, 2), norm="ortho")
    wanted = [[1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0], [0, 0, 0.5, 0, 0, 0.5]]
    np.testing.assert_allclose(walks.octave_energies(directions), wanted, atol=1e-12)


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Flags of two small transformers, which compile sooner than what is bundled."""
    folder = tmp_path_factory.mktemp("networks")
    module = ViT(width=64, depth=1, heads=1, hidden=64)
    shapes, _ = parameter_shapes(module, IMAGES.size)
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        params = jax.tree.map(lambda x, rng=rng: np.float32(rng.normal(0, 0.1, x.shape)), shapes)
        encoder = Encoder(params, None, None, module, IMAGES)
        save_encoder(folder / f"{seed}.safetensors", encoder)
    return f"--encoder={folder / '0.safetensors'}", folder / "1.safetensors"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (28, 28, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "torn.png").write_bytes(b"torn")
    return folder


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_script_writes_directions_and_opposed_pictures(networks, photographs, tmp_path):
    few = f"--images={photographs}", f"--out={tmp_path}", networks[0], "--layer=features"
    few = *few, "--cpu_devices=1"
    done = script_process.run("extreme_directions", *few, "--grey_levels=20,1")
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "left out" in done.stderr
    own = "0/features"
    spectrum, walked = rows_of(tmp_path / "spectrum.csv"), rows_of(tmp_path / "walks.csv")
    assert [(row["encoder"], row["image"]) for row in spectrum] == [(own, "0.png"), (own, "1.png")]
    assert all(0 < float(row["effective_rank"]) < int(row["rank"]) <= 64 for row in spectrum)
    assert len(walked) == 6 * 2 * 2
    changes = {row["direction"]: float(row["change"]) for row in walked[2::4]}
    assert changes["most"] > changes["random"] > changes["smooth"]
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["images_left_out"] == 1 and list(record["networks"]) == [own]
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.*")} == set(record["files"])
    with Image.open(tmp_path / "extremes.jpg") as page:
        assert page.format == "JPEG"

    against = f"--against={networks[1]}/features", "--steps=2", "--slots=2", "--judge="
    done = script_process.run("extreme_directions", *few, *against)
    assert done.returncode == 1 and "2 of 2 are the same" in done.stdout, done.stderr
    rows, other = rows_of(tmp_path / "opposed.csv"), "1/features"
    assert [(row["held"], row["moved"]) for row in rows] == [(own, other)] * 2 + [(other, own)] * 2
    assert not (tmp_path / "walks.csv").exists() and (tmp_path / "opposed.jpg").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--grey_levels=0"], "give numbers above 0, at most 255"),
        (["--beside=squeezenet"], "expected ENCODER/LAYER"),
        (["--beside=compact/fc5"], "compact/fc5 is given twice"),
        (["--against=compact/fc5", "--beside=compact/fc5"], "give it or --against"),
    ],
)
def test_what_cannot_be_run_is_refused_before_the_first_step(photographs, tmp_path, given, words):
    out = tmp_path / "out"
    few = f"--images={photographs}", f"--out={out}", "--encoder=compact", *given
    done = script_process.run("extreme_directions", "--cpu_devices=1", *few)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
    assert not out.exists()
