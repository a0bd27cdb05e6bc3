"""Code of the guides runs as it stands, with fewer steps, two images and a small encoder."""

import importlib.util
import re
from importlib.resources import files
from pathlib import Path

import numpy as np

import posenet_jax
from posenet_jax.images import image_files
from posenet_jax.images.image_list import list_images

GUIDE = Path(__file__).parents[1] / "docs" / "guide" / "jax.md"


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
    code = blocks(GUIDE.read_text(encoding="utf-8"))
    assert len(code) > 5
    for block in code:
        if "import equinox" in block and not importlib.util.find_spec("equinox"):
            continue
        exec(block, names)
        if "result" in names:
            result = names.pop("result")
            assert np.isfinite(result.image).all() and np.isfinite(result.loss).all()
            assert np.all(result.steps == 2)
