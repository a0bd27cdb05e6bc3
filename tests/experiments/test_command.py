"""The command `posenet-jax`: from a wheel, in an environment of its own, outside the checkout."""

import os
import re
import shlex
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = (
    *("LICENSE", "README.md", "pyproject.toml", "setup.cfg", "setup.py"),
    *("experiments", "posenet_jax"),
)
COMMANDS = {path.stem for path in ROOT.glob("experiments/*.py")} - {"__init__", "__main__"}
PIP = (sys.executable, "-m", "pip", "-qq", "--disable-pip-version-check")
FEW = "--encoder=compact", "--layer=fc5", "--limit=2", "--steps=16", "--cpu_devices=1"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel; what building leaves beside the sources stays out of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        (folder / name).symlink_to(ROOT / name)
    build = *PIP, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", "dist", "."
    subprocess.run(build, cwd=folder, check=True, timeout=60)
    (path,) = (folder / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def home(wheel, tmp_path_factory):
    """An environment with the wheel in it, which borrows the dependencies of this one."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, symlinks=True)
    places = {"base": str(home), "platbase": str(home)}
    own = Path(sysconfig.get_path("purelib", "venv", vars=places))
    # A plain path: what is installed there as editable, this checkout perhaps, is not.
    borrowed = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (own / "borrowed.pth").write_text("\n".join(borrowed))
    install = "install", "--no-deps", "--no-index", "--no-compile", str(wheel)
    subprocess.run([*PIP, "--python", str(home / "bin" / "python"), *install], check=True)
    return home


@pytest.fixture
def run(home, tmp_path):
    """Runs a program of the environment in an empty folder."""
    left_out = ("PYTHONPATH", "VIRTUAL_ENV")
    env = {name: value for name, value in os.environ.items() if name not in left_out}
    env["PATH"] = f"{home / 'bin'}{os.pathsep}{env['PATH']}"
    env["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

    def runs(*command, **variables):
        options = {"cwd": tmp_path, "env": env | variables, "timeout": 120}
        return subprocess.run(command, capture_output=True, text=True, **options)

    return runs


def test_the_wheel_has_scripts_licence_and_cards_and_one_package(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {info.filename: info.file_size for info in archive.infolist()}
    assert {name.split("/")[0].split("-")[0] for name in names} == {"posenet_jax"}
    for pattern in ("experiments/**/*.py", "posenet_jax/**/*.py", "posenet_jax/pretrained/**/*.md"):
        paths = [str(path.relative_to(ROOT)) for path in ROOT.glob(pattern)]
        inside = {path.replace("experiments/", "posenet_jax/experiments/") for path in paths}
        assert inside and inside <= set(names), pattern
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert wheel.stat().st_size < 60e6


def test_the_scripts_are_in_the_package_alone(run):
    assert run("python", "-c", "import posenet_jax.experiments.common").returncode == 0
    done = run("python", "-c", "import experiments")
    assert "No module named 'experiments'" in done.stderr


def test_help_lists_every_command_and_imports_nothing_that_takes_long(run):
    done = run("posenet-jax", "--help", PYTHONPROFILEIMPORTTIME="1")
    listed = re.findall(r"^  (\w+) +\w.*\w.*$", done.stdout, re.MULTILINE)
    assert set(listed) == COMMANDS and len(listed) == len(COMMANDS)
    imported = set(re.findall(r"\| +(\w+)$", done.stderr, re.MULTILINE))
    assert "posenet_jax" in imported and not imported & {"jax", "numpy", "absl"}
    assert run("posenet-jax").stdout == done.stdout
    assert run("python", "-m", "posenet_jax.experiments").stdout == done.stdout
    for command in ("posenet-jax", "posenet-jax invert --help"):
        done = run("bash", "-c", f"{command} | true")
        assert done.stderr == ""


def test_a_wrong_command_says_which_there_are(run):
    done = run("posenet-jax", "invrt", "--out=x")
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: no command 'invrt'; there are blend_encoders, build_")


def test_a_command_takes_the_scripts_flags(run):
    done = run("posenet-jax", "invert", "--help")
    assert "Folder, glob or file of images" in done.stdout and done.returncode == 0
    done = run("posenet-jax", "invert", "--out=x", "--imagse=y")
    assert done.returncode == 2 and "imagse" in done.stderr
    # The records of documents are not in the wheel.
    done = run("posenet-jax", "remake")
    assert done.returncode == 2 and "docs/products.json of a checkout" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_demo_shows_its_pictures_and_what_comes_next(run, tmp_path):
    done = run("posenet-jax", "demo", *FEW)
    assert done.returncode == 0, done.stderr
    assert "wrote demo/grid.png" in done.stdout and "next: open demo/grid.png" in done.stdout
    assert (tmp_path / "demo" / "grid.png").stat().st_size > 10_000
    assert len(list((tmp_path / "demo" / "images").iterdir())) == 2
    named = re.findall(r"posenet-jax (\w+) .*--out=", done.stdout)
    assert named == ["invert"]
    help_ = run("posenet-jax", "demo", "--help").stdout
    assert "Inverts the bundled demo images" in help_ and "--images" in help_
    assert "next:" not in help_


def test_where_the_command_is_not_on_the_path_the_next_ones_work_too(run, home):
    code = "from posenet_jax.experiments import demo; print(demo._command())"
    done = run(str(home / "bin" / "python"), "-c", code, PATH=os.defpath)
    again = run(*shlex.split(done.stdout), "--help", PATH=os.defpath)
    assert "usage: posenet-jax" in again.stdout, done.stdout + again.stderr


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["inv"], ["invert"]),
        (["search_"], ["search_decoder", "search_inversion"]),
        (["invert", "--im"], ["--images="]),
        (["bulk_invert", "--pic"], ["--pictures"]),
        (["invert", "--images", "=", ""], []),  # files, as for any program
        (["nothing", "--"], []),
    ],
)
def test_bash_completes_commands_and_flags(run, typed, offered):
    words = shlex.join(["posenet-jax", *typed])
    code = f"COMP_WORDS=({words}); COMP_CWORD={len(typed)}; _posenet_jax; echo ${{COMPREPLY[@]}}"
    done = run("bash", "-c", f'eval "$(posenet-jax completion bash)"; {code}')
    assert done.stdout.split() == offered, done.stderr


def test_other_shells_have_completions_and_what_is_none_is_refused(run):
    for shell in ("bash", "zsh", "fish"):
        assert "completion words" in run("posenet-jax", "completion", shell).stdout
    done = run("posenet-jax", "completion", "tcsh")
    assert done.returncode == 2 and "bash, zsh, fish" in done.stderr
