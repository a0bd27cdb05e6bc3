"""What scripts do with images of all sorts: outputs are no inputs, what is left out is said."""

import ast
import csv
from pathlib import Path

import numpy as np
import pytest
import script_process
from PIL import Image

from experiments.common import images
from posenet_jax.data.sources import DatasetExamples
from posenet_jax.errors import InputError

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def folder(tmp_path):
    """Two images, one of them behind a link to a folder, and one of a kind that is not read."""
    rng = np.random.default_rng(0)
    folder, other = tmp_path / "photos", tmp_path / "other"
    for path in (folder / "a.png", other / "b.jfif"):
        path.parent.mkdir()
        coarse = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
        picture = Image.fromarray(coarse).resize((160, 120))
        picture.save(path, "PNG" if path.suffix == ".png" else "JPEG")
    (folder / "more").symlink_to(other)
    (folder / "c.heic").touch()
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def refusal(run) -> str:
    """The one sentence of a script that could not be run."""
    assert run.returncode == 2, run.stderr
    assert "Traceback" not in run.stderr
    (error,) = (line for line in run.stderr.splitlines() if line.startswith("error: "))
    return error


FEW = ("--steps=1", "--slots=2", "--cpu_devices=1", "--encoder=compact-random-0")
KINDS = "left out 1 file of kinds that are not read: 1 .heic"


def test_a_second_run_does_not_invert_the_pictures_of_the_first(folder):
    out = folder / "run"
    flags = (f"--images={folder}", f"--out={out}", *FEW)
    first = script_process.run("invert", *flags)
    before = (out / "results.csv").read_bytes()
    second = script_process.run("invert", *flags)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert [row["image"] for row in rows(out / "results.csv")] == ["a.png", "more/b.jfif"]
    assert (out / "results.csv").read_bytes() == before
    assert first.stderr.count("left out") == 1 and KINDS in first.stderr
    assert f"left out 3 images in the output folder {out}" in second.stderr


def test_a_bulk_run_whose_results_lie_below_its_images_is_resumed(folder):
    out = folder / "bulk"
    flags = (f"--images={folder}", f"--out={out}", *FEW, "--judge=compact-random-0", "--pictures")
    first = script_process.run("bulk_invert", *flags, "--batch_size=2", "--shard_size=2")
    assert first.returncode == 0, first.stderr
    assert len(list((out / "images").iterdir())) == 2
    second = script_process.run("bulk_invert", *flags)
    assert second.returncode == 0, second.stderr
    assert "2 of 2 images" in second.stdout and "0 of them" in second.stdout
    assert f"left out 2 images in the output folder {out}" in second.stderr


def test_images_may_lie_in_the_output_folder_but_not_where_pictures_are_written(tmp_path, capsys):
    for name in ("photos/a.jpg", "images/a.png", "images/decoder/b.png", "samples/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for pattern in ("photos", "photos/*", "photos/a.jpg"):
        assert len(images.listed(f"{tmp_path}/{pattern}", str(tmp_path))) == 1
    written = ("", "*.jpg", "images", "images/*", "images/decoder", "images/a.png", "samples/**")
    for pattern in written:
        with pytest.raises(InputError, match="no images|in the output folder"):
            images.listed(f"{tmp_path}/{pattern}", str(tmp_path))
    assert len(images.listed(f"{tmp_path}/*/**", f"{tmp_path}/images")) == 2
    assert capsys.readouterr().err == f"left out 2 images in the output folder {tmp_path}/images\n"


def test_the_flag_sets_how_large_an_image_may_be(folder, tmp_path):
    Image.new("RGB", (200, 150)).save(folder / "d.png")
    flags = ("--source=photographs", f"--images={folder}")
    small = script_process.run(
        "build_dataset", *flags, "--max_pixels=19200", f"--out={tmp_path / 'small'}"
    )
    assert small.returncode == 1, small.stderr
    assert "d.png: too large (200x150 pixels; the limit is 19200 in all)" in small.stderr
    assert small.stderr.count(KINDS) == 1
    assert len(DatasetExamples(tmp_path / "small")) == 2
    large = script_process.run("build_dataset", *flags, f"--out={tmp_path / 'large'}")
    assert large.returncode == 0 and len(DatasetExamples(tmp_path / "large")) == 3


def test_facades_that_cannot_be_read_are_one_sentence(tmp_path):
    facades = tmp_path / "facades"
    facades.mkdir()
    for name in "abc":
        (facades / f"{name}.jpg").write_text("not a picture")
    for pattern in (facades, f"{facades}/*.jpg"):
        run = script_process.run(
            "render_streets", f"--facades={pattern}", f"--out={tmp_path / 'out'}"
        )
        assert "can be read" in refusal(run) and str(facades) in refusal(run)
    run = script_process.run("render_streets", f"--facades={facades}/*.png", f"--out={tmp_path}")
    assert "no images for the pattern" in refusal(run)


def _imports(script: Path) -> set[str]:
    tree = ast.parse(script.read_text())
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names = {alias.name for node in froms if node.level for alias in node.names}
    return names | {(node.module or "").removeprefix("common.") for node in froms if node.level}


def test_every_script_that_reads_images_takes_the_flag():
    """By importing what defines it; and none lists or reads files in another way.

    Those of the sources are made from their registry, by `inputs`.
    """
    scripts = {path.stem: path for path in EXPERIMENTS.rglob("*.py")}
    reaching = {"images"}
    while more := {n for n, p in scripts.items() if _imports(p) & reaching} - reaching:
        reaching |= more
    named = ("images", "photos", "photographs", "facades", "val_images", "strecha", "dataset")
    reading = {
        name
        for name, path in scripts.items()
        if any(f'DEFINE_{kind}(\n    "{flag}"' in path.read_text()
               or f'DEFINE_{kind}("{flag}"' in path.read_text()
               or f"options.{flag}(" in path.read_text()
               for kind in ("string", "list") for flag in named)
        or "inputs" in _imports(path)
    }  # fmt: skip
    reading -= {"options", "remake"}  # where flags are defined; which hands them on to commands
    assert len(reading) >= 10 and reading <= reaching
    for name, path in scripts.items():
        # products walks through the documents, commands through the scripts
        if name not in ("images", "products", "commands"):
            text = path.read_text()
            assert not any(f"{verb}(" in text for verb in ("read_images", "list_images", "glob"))
