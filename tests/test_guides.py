"""Every code block of the documents falls under a rule, and is run or read by it.

- Python: all of it is run as it stands, a page's blocks one after another, with fewer steps, two
  images and small networks in the place of large ones. A stand-in for the module of Caffe, which no
  package has, hands over random weights.
- `posenet-jax`: the script reads the flags, and refuses those that it does not know and values that
  cannot be. Commands of README.md, docs/guide and some other pages are carried out in small by
  test_guide_commands.py, what a reader begins with always and the others with POSENET_BLOCKS=1;
  tests/experiments runs each script in small.
- `pip install` and `make`: extras are compared with setup.cfg, targets with the Makefile.
  test_guide_commands.py runs them with POSENET_BLOCKS=1. CI runs `make test` and `make check`, and
  tests/experiments/test_command.py `posenet-jax demo` of the wheel.
- Fences in braces are the site's: `make docs` builds them.

Whatever else there may be fails.
"""

import configparser
import functools
import itertools
import json
import os
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import code_blocks
import jax
import numpy as np
import pytest
from code_blocks import ROOT
from flax import linen
from foreign_weights import caffe, theirs
from PIL import Image
from safetensors.numpy import save_file

import posenet_jax
from posenet_jax.encoders.resnet import ResNet18
from posenet_jax.encoders.streetnet import StreetNet
from posenet_jax.encoders.vit import ViT
from posenet_jax.images import image_files
from posenet_jax.images.image_list import list_images

# Pages with Python in them, each with the test that runs it.
PYTHON = {
    "README.md": "test_the_first_lines_of_python_write_a_picture",
    "docs/encoders.md": "test_the_page_on_other_encoders_runs_to_its_end",
    "docs/extremes.md": "test_the_page_on_extreme_directions_runs",
    "docs/guide/data.md": "scenes/test_scenes.py::test_the_guide_to_data_renders",
    "docs/guide/encoders.md": "test_the_guide_to_ones_own_network_runs_to_its_end",
    "docs/guide/jax.md": "test_the_guide_to_jax_runs_to_its_end",
    "docs/guide/many-images.md": "test_guide_commands.py::test_many_images_are_written_and_read",
    "docs/natural.md": "decoders/test_generator_space.py::test_the_page_on_the_learned_prior_runs",
}


# Commands ---------------------------------------------------------------------------------------


def extras():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return set(setup["options.extras_require"])


def targets():
    phony = re.search(r"^\.PHONY:(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return set(phony[1].split())


def environment(words):
    """Whether words that set up an environment are those of setup.cfg and the Makefile."""
    program, *given = words
    if program.removeprefix(".venv/bin/") == "pip":
        what = re.fullmatch(r"(?:\.|posenet_jax)(?:\[(\w+)\])?", given[-1])
        asked = given[:-1] in (["install"], ["install", "-e"])
        return asked and what is not None and (what[1] is None or what[1] in extras())
    if program == "make":
        return len(given) == 1 and given[0] in targets()
    folder = re.search(r"^VENV := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    return words == (".", f"{folder}/bin/activate")


def ours(words):
    """The words after `posenet-jax`, or after `python -m experiments.`; None: another command."""
    if words[0] == "srun":
        words = tuple(itertools.dropwhile(lambda word: word.startswith("--"), words[1:]))
    if words[0] == "posenet-jax":
        return list(words[1:])
    if words[:2] == ("python", "-m") and words[2].startswith("experiments."):
        return [words[2].removeprefix("experiments."), *words[3:]]
    return None


def refusals(commands):
    """What each script says of its command's flags; empty: it takes them."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests/support")))}
    child = [sys.executable, "-m", "flags_child"]
    given = json.dumps(commands)
    done = subprocess.run(child, input=given, capture_output=True, text=True, env=env, check=True)
    return json.loads(done.stdout)


def test_every_block_is_python_a_shell_or_the_sites():
    kinds = {block.kind for block in code_blocks.blocks() if not block.kind.startswith("{")}
    assert kinds == {"python", "shell"}
    pages = {block.page for block in code_blocks.blocks() if block.kind == "python"}
    assert pages == set(PYTHON)
    for page, test in PYTHON.items():
        where, _, name = test.rpartition("::")
        text = (Path(__file__).parent / (where or Path(__file__).name)).read_text("utf-8")
        body = text.partition(f"\ndef {name}(")[2].partition("\ndef ")[0]
        assert f'code_blocks.python("{page}")' in body, test
    lines = "\n    posenet-jax a \\\n        --b\n\n- x\n\n      c # d\n\n```python\ne\n```\n"
    made = code_blocks.read("page", lines)
    assert [(block.line, block.kind) for block in made] == [
        (2, "shell"),
        (7, "shell"),
        (9, "python"),
    ]
    assert [c.words for c in code_blocks.commands(made)] == [("posenet-jax", "a", "--b"), ("c",)]


def test_every_command_is_one_that_there_is():
    commands = code_blocks.commands(code_blocks.blocks())
    known = [words for words in (ours(command.words) for command in commands) if words]
    others = [command for command in commands if ours(command.words) is None]
    assert len(known) > 40 and len(others) > 5
    assert [str(command) for command in others if not environment(command.words)] == []
    said = refusals(known)
    assert [pair for pair in zip(known, said, strict=True) if pair[1]] == []
    before = {setting for command in commands for setting in command.before}
    for name, value in (setting.split("=") for setting in before):
        with jax.default_matmul_precision(value):  # which refuses values that there are not
            assert name == "JAX_DEFAULT_MATMUL_PRECISION"


def test_a_command_that_there_is_not_is_noticed():
    wrong = {
        "invert --imagse=PHOTOS --out=runs/a": "imagse",
        "invert --images=PHOTOS": "--out",
        "decode --images=PHOTOS --layer=fc6 --out=runs/a": "one of <fc5|conv4>",
        "train_decoder --images=PHOTOS --workdir=a --steps=0": "--steps=0",
        "build_dataset --source=towns --out=DATASETS": "one of <streets|cars|rooms",
        "invrt --out=runs/a": "no command",
    }
    for words, said in zip(wrong.values(), refusals([w.split() for w in wrong]), strict=True):
        assert words in said
    lines = (". venv/bin/activate", "make dmeo", "pip install .[compar]", "pip instal .", "ls")
    assert not any(environment(tuple(line.split())) for line in lines)


# Python -----------------------------------------------------------------------------------------


def run(code, names):
    """Runs blocks of code one after another, and looks at every result."""
    for block in code:
        exec(block, names)
        if "result" in names:
            result = names.pop("result")
            assert np.isfinite(result.image).all() and np.isfinite(result.loss).all()
            assert np.all(result.steps == 2)


def photographs(space):
    paths = list_images(str(files(posenet_jax) / "demo_images"))
    return image_files.read_images(paths, space).images[:2]


@pytest.fixture
def few(monkeypatch):
    """Two steps where the documents have `calibrated`, named or as the default."""
    two = posenet_jax.recipes.CALIBRATED.replace(steps=2)
    monkeypatch.setattr(posenet_jax.recipes, "CALIBRATED", two)
    monkeypatch.setattr(posenet_jax, "invert", functools.partial(posenet_jax.invert, recipe=two))


@pytest.fixture
def small(monkeypatch):
    """The encoder `compact`, which compiles in half the time, whatever is asked for."""
    encoder = posenet_jax.load_encoder("compact")
    monkeypatch.setattr(posenet_jax, "load_encoder", lambda name: encoder)
    return encoder


def test_the_first_lines_of_python_write_a_picture(few, small, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (160, 120), (90, 120, 150)).save("photo.jpg")
    run(code_blocks.python("README.md"), {})
    with Image.open("reconstruction.png") as picture:
        assert picture.size == (100, 100) and picture.mode == "RGB"


def test_the_guide_to_jax_runs_to_its_end(few, small):
    names = {"images": np.stack(photographs(small.preprocessing))}
    code = code_blocks.python("docs/guide/jax.md")
    assert len(code) > 5
    run(code, names)


def test_the_guide_to_ones_own_network_runs_to_its_end(few):
    """Small networks at 224 pixels stand in for the guide's."""
    vit = theirs(ViT(width=64, depth=1, heads=1, hidden=64))
    vit["pos_embed"] = vit["pos_embed"].reshape((1, 256, 64))
    vit["cls_token"] = vit["cls_token"][None]
    names = {
        "resnet": theirs(ResNet18(blocks=(1, 1, 1, 1), width=8)),
        "vit": vit,
        "photos": photographs(posenet_jax.Preprocessing(means=(0.0, 0.0, 0.0), size=90)),
    }
    code = "\0".join(code_blocks.python("docs/guide/encoders.md"))
    assert "height, width = 240, 320" in code
    run(code.replace("height, width = 240, 320", "height, width = 24, 32").split("\0"), names)
    assert names["pictures"].shape == (2, 24, 32, 1) and names["page"].dtype == np.uint8
    assert names["control"].preprocessing == names["encoder"].preprocessing


def test_the_page_on_other_encoders_runs_to_its_end(few, monkeypatch, tmp_path):
    """With a network of one convolution, and streetnet's random weights."""
    monkeypatch.chdir(tmp_path)
    network = linen.Conv(4, (8, 8), strides=8)
    variables = network.init(jax.random.key(0), np.zeros((1, 100, 100, 3), np.float32))
    save_file(theirs(StreetNet()), "streetnet.safetensors")
    monkeypatch.setitem(sys.modules, "caffe", caffe(StreetNet()))
    images = np.zeros((2, 100, 100, 3), np.uint8)
    names = {"my_network": network, "variables": variables, "images": images}
    run(code_blocks.python("docs/encoders.md"), names)
    assert names["pictures"].shape == images.shape
    assert names["encoder"].name == "mine" and "fc5" in names["encoder"].taps
    torch = names["encoder"].params
    jax.tree.map(np.testing.assert_array_equal, names["params"], torch)  # the same, from Caffe


def test_the_page_on_extreme_directions_runs():
    def phi(image):
        return jax.numpy.tanh(image[::2, ::2].reshape(-1)[:6] / 50.0)

    phi.preprocessing = space = posenet_jax.Preprocessing(means=(90.0, 100.0, 110.0), size=16)
    images = np.stack([np.full((16, 16, 3), level, np.uint8) for level in (40, 200)])
    names = {"jax": jax, "posenet_jax": posenet_jax, "phi": phi, "images": images}
    run(code_blocks.python("docs/extremes.md"), names)
    assert names["found"].most.shape == (2, 4, 16, 16, 3) and space.side == 16
