"""Code of the guides runs as it stands, with fewer steps, two images and a small encoder.

Not run: what needs Caffe (docs/encoders.md), the rendering of docs/guide/data.md, which the tour
and the tests of scenes do, and commands of the shell.
"""

import functools
import re
from importlib.resources import files
from pathlib import Path

import jax
import numpy as np
from flax import linen, traverse_util
from PIL import Image
from safetensors.numpy import save_file

import posenet_jax
from posenet_jax.encoders.resnet import ResNet18
from posenet_jax.encoders.streetnet import StreetNet
from posenet_jax.encoders.vit import ViT
from posenet_jax.images import image_files
from posenet_jax.images.image_list import list_images

GUIDE = Path(__file__).parents[1] / "docs" / "guide"


def blocks(text):
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_the_guide_to_jax_runs_to_its_end(monkeypatch):
    few = posenet_jax.recipes.CALIBRATED.replace(steps=2)
    monkeypatch.setattr(posenet_jax.recipes, "CALIBRATED", few)
    small = posenet_jax.load_encoder("compact")  # compiles in half the time
    monkeypatch.setattr(posenet_jax, "load_encoder", lambda name: small)
    space = small.preprocessing
    paths = list_images(str(files(posenet_jax) / "demo_images"))
    names = {"images": np.stack(image_files.read_images(paths, space).images)[:2]}
    code = blocks((GUIDE / "jax.md").read_text(encoding="utf-8"))
    assert len(code) > 5
    run(code, names)


def run(code, names):
    """Runs blocks of code one after another, and looks at every result."""
    for block in code:
        exec(block, names)
        if "result" in names:
            result = names.pop("result")
            assert np.isfinite(result.image).all() and np.isfinite(result.loss).all()
            assert np.all(result.steps == 2)


def theirs(network):
    """A `state_dict` of random weights, by the names that PyTorch has for the network's."""
    encoder = posenet_jax.random_encoder(network)
    found = {}
    for name, value in traverse_util.flatten_dict(encoder.params, sep="/").items():
        layer, _, part = name.rpartition("/")
        array = np.asarray(value)
        if part == "kernel":
            array = array.transpose((3, 2, 0, 1) if array.ndim == 4 else (1, 0))
        layer = network.foreign.get(layer or part, layer.replace("/", "."))
        suffix = {"kernel": ".weight", "scale": ".weight", "bias": ".bias"}.get(part, "")
        found[layer + suffix] = array
    for layer, norm in network.normed.items():
        shift = found.pop(f"{network.foreign[layer]}.bias")
        ones = np.ones_like(shift)
        found |= {f"{norm}.weight": ones, f"{norm}.bias": shift}
        found |= {f"{norm}.running_mean": 0 * ones, f"{norm}.running_var": ones}
    return found


def test_the_guide_to_ones_own_network_runs_to_its_end(monkeypatch):
    """Small networks at 224 pixels stand in for the guide's."""
    few = posenet_jax.recipes.CALIBRATED.replace(steps=2)
    monkeypatch.setattr(posenet_jax.recipes, "CALIBRATED", few)
    vit = theirs(ViT(width=64, depth=1, heads=1, hidden=64))
    vit["pos_embed"] = vit["pos_embed"].reshape((1, 256, 64))
    vit["cls_token"] = vit["cls_token"][None]
    paths = list_images(str(files(posenet_jax) / "demo_images"))
    space = posenet_jax.Preprocessing(means=(0.0, 0.0, 0.0), size=90)
    names = {
        "resnet": theirs(ResNet18(blocks=(1, 1, 1, 1), width=8)),
        "vit": vit,
        "photos": image_files.read_images(paths, space).images[:2],
    }
    code = "\0".join(blocks((GUIDE / "encoders.md").read_text(encoding="utf-8")))
    assert "height, width = 240, 320" in code
    run(code.replace("height, width = 240, 320", "height, width = 24, 32").split("\0"), names)
    assert names["pictures"].shape == (2, 24, 32, 1) and names["page"].dtype == np.uint8
    assert names["control"].preprocessing == names["encoder"].preprocessing


def test_the_page_on_other_encoders_runs_but_for_caffe(monkeypatch, tmp_path):
    """With a network of one convolution, and a file of streetnet's random weights."""
    monkeypatch.chdir(tmp_path)
    few = posenet_jax.recipes.CALIBRATED.replace(steps=2)
    monkeypatch.setattr(posenet_jax, "invert", functools.partial(posenet_jax.invert, recipe=few))
    network = linen.Conv(4, (8, 8), strides=8)
    variables = network.init(jax.random.key(0), np.zeros((1, 100, 100, 3), np.float32))
    save_file(theirs(StreetNet()), "streetnet.safetensors")
    code = blocks((GUIDE.parent / "encoders.md").read_text(encoding="utf-8"))
    assert ["import caffe" in block for block in code] == [False, False, True]
    images = np.zeros((2, 100, 100, 3), np.uint8)
    names = {"my_network": network, "variables": variables, "images": images}
    run(code[:2], names)
    assert names["pictures"].shape == images.shape
    assert names["encoder"].name == "mine" and "fc5" in names["encoder"].taps


def test_the_guide_to_many_images_reads_descriptors(monkeypatch, tmp_path):
    """Two small images; the other block is run by test_tour.py, which has a bulk run."""
    monkeypatch.chdir(tmp_path)
    small = posenet_jax.Preprocessing(means=(90.0, 100.0, 110.0), size=48)
    encoder = posenet_jax.random_encoder("compact", preprocessing=small)
    for number in range(2):
        Image.new("RGB", (48, 48), (100 * number,) * 3).save(f"{number}.png")
    source = posenet_jax.FolderImages(tmp_path)
    posenet_jax.extract(encoder, "fc5", source, "runs/fc5", posenet_jax.ExtractionConfig())
    names = {}
    bulk, extracted = blocks((GUIDE / "many-images.md").read_text(encoding="utf-8"))
    assert "runs/bulk" in bulk
    run([extracted], names)
    assert list(names["found"].names) == ["0.png", "1.png"]
    assert names["found"].descriptors.shape == (2, 512)
