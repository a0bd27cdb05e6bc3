"""The test session is strict: two CPU devices, no implicit rank promotion, warnings are errors.

Set before the first JAX call of any test. Warnings are turned into errors in pyproject.toml.
What is compiled once serves all processes of the session, scripts among them, and the next session.
"""

import os
from pathlib import Path

# A third of LLVM's time, for programs that run as fast; scripts inherit it.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")

_COMPILED = Path(__file__).parents[1] / ".pytest_cache" / "xla"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_COMPILED))
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@pytest.fixture(scope="module")
def quick_compiling():
    """Where compiling is what takes time: the programs are the same, only slower."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


# What takes longest begins, or one worker would idle while the other ends it.
_LONG = (
    "test_decoder_scripts.py",
    "test_adversarial.py",
    "test_scene_kinds.py",
    "test_bulk_inversion.py",
    "test_report.py",
    "test_scenes.py",
    "test_claims.py",
    "test_decoder.py",
    "test_decoder_training.py",
    "test_upconvolution.py",
)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: _LONG.index(item.path.name) if item.path.name in _LONG else 99)


_PHOTOS = Path(__file__).parents[1] / "../shared/data/street_photos/val/street"


@pytest.fixture(scope="session")
def photos() -> Path:
    """Folder of street photographs; POSENET_PHOTOS names another."""
    chosen = os.environ.get("POSENET_PHOTOS")
    folder = Path(chosen) if chosen else _PHOTOS.resolve()
    if not folder.is_dir():
        pytest.skip(f"no street photographs at {folder}: set POSENET_PHOTOS to a folder of them")
    return folder


@pytest.fixture(scope="session")
def torch():
    """PyTorch, the oracle. Absent: the test is skipped, or with POSENET_ORACLE=1 it fails."""
    if os.environ.get("POSENET_ORACLE") == "1":
        import torch

        return torch
    return pytest.importorskip("torch", reason="PyTorch is the oracle: pip install .[oracle]")
