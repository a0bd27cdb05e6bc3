"""The test session is strict: two CPU devices, no implicit rank promotion, warnings are errors.

Set before the first JAX call of any test. Warnings are turned into errors in pyproject.toml.
What is compiled once serves all processes of the session, scripts among them, and the next session.
"""

import gc
import os
from pathlib import Path

from jaxlib import version

# Tests are 30 % shorter by the older emitters, and another tenth where a program is compiled in one
# piece, as most are small; scripts inherit it. What a person runs comes from the newer emitters and
# may round otherwise. From 0.11 there are no others, and XLA ends a process over a flag that it
# does not know.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=1"
    + (
        " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
        if version.__version_info__ < (0, 11)
        else ""
    ),
)

# Each of the processes that share the cores has one thread of what is not XLA's.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import bucket_child
import jax
import pytest

from posenet_jax import scenes
from posenet_jax.io import storage
from posenet_jax.nn import layers, upconvolution, winograd

gc.freeze()
gc.set_threshold(20_000)

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")

_COMPILED = Path(__file__).parents[1] / ".pytest_cache" / "xla"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_COMPILED))
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")  # for all they start


# Three ways of compiling, in the order in which the files come that ask for them.
_OPTIMISED, _FORMS, _PLAIN = range(3)
_cached = _OPTIMISED  # the way of the programs that JAX holds


def _wanted(module: pytest.Module) -> int:
    if module.get_closest_marker("optimised"):
        return _OPTIMISED
    fixtures = [name for mark in module.iter_markers("usefixtures") for name in mark.args]
    return _FORMS if "winograd_forms" in fixtures else _PLAIN


def _compile(way: int) -> None:
    """JAX's cache of programs knows of neither setting: none may be used on the other side."""
    global _cached
    if way != _cached:
        jax.clear_caches()
        jax.config.update("jax_disable_most_optimizations", way != _OPTIMISED)
        _cached = way


@pytest.fixture(scope="module", autouse=True)
def compiling(request):
    """Compiling takes longer than running: most files run slow programs, of plain convolutions."""
    _compile(_wanted(request.node))


# What takes longest begins, or one worker would idle while the other ends it.
_LONG = (
    "test_bulk_inversion.py",
    "test_bulk_script.py",
    "test_decoder_scripts.py",
    "test_report.py",
    "test_adversarial.py",
    "test_scene_kinds.py",
    "test_configuration.py",
    "test_invert_script.py",
    "test_tour.py",
    "test_train_script.py",
    "test_scenes.py",
    "test_decoder_training.py",
    "test_pose_training.py",
    "test_sensitivity.py",
    "test_slots.py",
    "test_networks.py",
    "test_upconvolution.py",
)


@pytest.fixture(scope="module")
def winograd_forms():
    """The forms of optimised programs in quickly compiled ones too, for files that test them."""
    _compile(_FORMS)
    with pytest.MonkeyPatch.context() as patch:
        for module in (layers, upconvolution):
            patch.setattr(module, "has_winograd", lambda size: size in winograd.SIZES)
        yield


# Files whose scripts compile the same, for one worker: one script traces for the next.
_TOGETHER = {
    "scripts that render": (
        "test_report.py",
        "test_claims.py",
        "test_analysis_scripts.py",
        "test_evaluate_script.py",
        "test_train_script.py",
    ),
    "scripts that invert": (
        "test_invert_script.py",
        "test_image_scripts.py",
        "test_comparison_scripts.py",
        "test_full_disk.py",
        "test_results_tables.py",
        "test_search.py",
        "test_sources.py",
        "test_bundled_decoders.py",
        "test_remake.py",
    ),
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Hands whole files to workers, or all files of `_TOGETHER` that belong together."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    groups = {name: group for group, names in _TOGETHER.items() for name in names}

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return groups.get(Path(file).name, file)

    return Scheduling(config, log)


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "optimised: for files that run long, or compare with a script's every bit"
    )
    config.addinivalue_line(
        "markers", "bytes: promises the same bytes, whatever the processor rounds by place"
    )


def pytest_collection_modifyitems(items):
    """Those compiled alike together, so that a process clears its programs twice.

    Files in which only some tests want the forms come between, as both are compiled in them.
    """
    forms = {item.path for item in items if "winograd_forms" in item.fixturenames}

    def place(item):
        long = _LONG.index(item.path.name) if item.path.name in _LONG else len(_LONG)
        return _wanted(item.getparent(pytest.Module)), item.path not in forms, long

    items.sort(key=place)


@pytest.fixture(scope="module")
def endpoint():
    """Address of a server of S3 in this process, which clients are told of by the environment."""
    for name, reason in {
        "moto.server": "the server of buckets is moto's: pip install .[test]",
        "boto3": "moto's server is filled by boto3: pip install .[test]",
        "s3fs": "buckets are read by s3fs: pip install .[buckets]",
    }.items():
        pytest.importorskip(name, reason=reason)
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    with pytest.MonkeyPatch.context() as patch:
        for name, value in bucket_child.environment(address).items():
            patch.setenv(name, value)
        storage._client.cache_clear()
        s3fs.S3FileSystem.clear_instance_cache()  # of another file's server
        yield address
    server.stop()


@pytest.fixture(scope="module")
def s3(endpoint):
    """Client of that server, with the empty buckets `photos` and `runs`."""
    import boto3

    client = boto3.client("s3")
    for name in ("photos", "runs"):
        client.create_bucket(Bucket=name)
    return client


@pytest.fixture(scope="session")
def small_atlas():
    """Four invented facades of 16 pixels, drawn once: compiling what draws them takes seconds."""
    return scenes.procedural_atlas(jax.random.key(1), 4, size=16)


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
