"""The package's public names: what programs that embed it may rely on."""

import ast
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import posenet_jax
from posenet_jax import scenes

NAMES = """
    BulkConfig Decoder Encoder ExtractionConfig ExtremeDirections FolderImages ImageError
    InputError Job NETWORKS Network Preprocessing RECIPES Recipe Reconstruction Result Status Tap
    decode
    encoder_from_torch engine extract extreme_directions
    from_caffe from_torch invert invert_all load_decoder load_encoder metrics random_encoder
    read_descriptors recipes reconstruct run save_decoder save_encoder scenes
    solve
""".split()


def test_names_are_those_listed():
    assert sorted(posenet_jax.__all__) == sorted(NAMES)
    assert set(NAMES) <= set(dir(posenet_jax))
    for name in NAMES:
        assert getattr(posenet_jax, name) is not None, name
    assert posenet_jax.extract.__module__ == "posenet_jax.bulk.extraction"
    assert posenet_jax.reconstruct is sys.modules["posenet_jax.reconstruction"].reconstruct
    assert posenet_jax.scenes is sys.modules["posenet_jax.scenes"]


def test_other_names_are_refused():
    with pytest.raises(AttributeError, match="module 'posenet_jax' has no attribute 'extrcat'"):
        _ = posenet_jax.extrcat


def test_importing_the_package_imports_nothing_heavy():
    """In a process of its own: here other tests have imported them already."""
    heavy = {"tensorflow_datasets", "tensorflow", "orbax.checkpoint", "grain", "matplotlib"}
    heavy |= {"posenet_jax.bulk", "posenet_jax.scenes", "posenet_jax.training"}
    heavy |= {"jax", "numpy", "flax"}
    code = (
        f"import sys, posenet_jax as p; print(sorted({heavy} & set(sys.modules)));"
        "p.scenes.KINDS; print('jax' in sys.modules);"
        "p.load_encoder; print('tensorflow_datasets' in sys.modules, 'jax' in sys.modules);"
        "p.invert_all; print('tensorflow_datasets' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "False", "False", "True", "True"]


def test_names_of_scenes_are_those_listed():
    scenes = posenet_jax.scenes
    assert set(scenes.__all__) <= set(dir(scenes))
    for name in scenes.__all__:
        assert getattr(scenes, name) is not None, name
    with pytest.raises(AttributeError, match=r"module 'posenet_jax.scenes' has no attribute 'ra'"):
        _ = scenes.ra


def seen_by_checkers(package):
    """{name: module} of the imports that type checkers and editors read."""
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    (block,) = (
        node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node)
    )
    return {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@pytest.mark.parametrize("package", [posenet_jax, scenes])
def test_a_checker_sees_what_a_program_gets(package):
    """Names under TYPE_CHECKING are those imported later, from the same modules."""
    seen = seen_by_checkers(package)
    assert set(seen) <= set(package.__all__) <= set(dir(package))
    for name, module in seen.items():
        there = __import__(module, fromlist=[name])
        assert getattr(package, name) is getattr(there, name), name
    eager = set(package.__all__) - set(seen)
    code = f"import {package.__name__} as p; print(*sorted(set(p.__all__) & set(vars(p))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == eager


def test_every_public_name_and_every_package_is_in_the_reference():
    """`make docs` then fails where a name has no entry there."""
    reference = Path(__file__).parents[1] / "docs" / "api"
    for package in (posenet_jax, posenet_jax.metrics, posenet_jax.scenes):
        page = "index" if package is posenet_jax else package.__name__.rpartition(".")[2]
        listed = re.search(r"<!-- names of .*-->", (reference / f"{page}.md").read_text(), re.S)
        assert listed and set(package.__all__) <= set(re.findall(r"\w+", listed[0]))
    for found in pkgutil.iter_modules(posenet_jax.__path__):
        if found.ispkg and found.name not in ("pretrained", "demo_images"):
            page = (reference / f"{found.name}.md").read_text()
            assert f"<!-- modules of posenet_jax.{found.name} -->" in page
