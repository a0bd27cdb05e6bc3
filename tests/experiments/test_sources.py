"""Scripts take images from every source there is, one from outside among them."""

import csv
import json
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

import numpy as np
import pytest
import script_process
from PIL import Image

from experiments.common.source import Given
from experiments.common.sources import SOURCES
from posenet_jax import scenes
from posenet_jax.bulk import extraction
from posenet_jax.data.sources import DatasetExamples

ROOT = Path(__file__).parents[2]
READING = {
    "bulk_invert",
    "decode",
    "essence",
    "extract_descriptors",
    "extreme_directions",
    "invert",
    "maximise_units",
    "operate_descriptors",
    "search_decoder",
    "search_inversion",
    "train_adversarial",
    "train_decoder",
}
FEW = "--encoder=compact-random-0", "--cpu_devices=1", "--layer=fc5"


def _flags(*command):
    """Name -> help of the flags that a script lists."""
    done = script_process.run_module(*command, "--helpxml")
    root = xml.etree.ElementTree.fromstring(done.stdout)
    return {flag.findtext("name"): flag.findtext("meaning") for flag in root.iter("flag")}


def _rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _run(script, *flags):
    return script_process.run(script, "--cpu_devices=1", *flags)


def _striped(script, *flags):
    return script_process.run_module("stripes_source", f"experiments.{script}", *flags)


# A source from outside --------------------------------------------------------------------------


def test_scripts_that_read_images_take_every_source():
    without = {"__init__", "__main__", "demo", "completion"}  # of flags of their own
    scripts = {path.stem for path in ROOT.glob("experiments/*.py")} - without
    listed = {script: _flags(f"experiments.{script}") for script in sorted(scripts)}
    assert {script for script, flags in listed.items() if "dataset" in flags} == READING
    for script in READING:
        assert {*SOURCES, "limit", "threads"} <= set(listed[script]), script
        assert "stripes" not in listed[script]


@pytest.mark.parametrize("script", sorted(READING))
def test_a_source_from_outside_is_a_flag(script):
    listed = _flags("stripes_source", f"experiments.{script}")
    assert listed["stripes"] == "Number of striped images to take instead of files."
    assert listed["contrast"].startswith("Grey levels")


def test_a_source_from_outside_is_inverted(tmp_path):
    flags = *FEW, "--steps=2", "--slots=2", f"--out={tmp_path}"
    run = _striped("invert", "--stripes=5", "--limit=4", *flags)
    assert run.returncode == 1, run.stderr
    assert run.stderr.count("left out: stripes/2-wide: torn") == 1
    rows = _rows(tmp_path / "results.csv")
    assert [row["position"] for row in rows] == ["0", "2", "3"]
    assert [row["image"] for row in rows] == [f"stripes/{i}-wide" for i in (1, 3, 4)]
    names = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert names == ["1-wide.png", "3-wide.png", "4-wide.png"]
    assert json.loads((tmp_path / "run.json").read_text())["flags"]["stripes"] == 5


def test_a_source_from_outside_is_inverted_in_bulk(tmp_path):
    flags = *FEW, "--steps=2", "--slots=2", "--judge=compact-random-1", f"--out={tmp_path}"
    run = _striped("bulk_invert", "--stripes=5", "--limit=4", *flags)
    assert run.returncode == 1 and "left out: stripes/2-wide: torn" in run.stderr, run.stderr
    rows = _rows(tmp_path / "results.csv")
    assert [row["image"] for row in rows] == [f"stripes/{i}-wide" for i in (1, 3, 4)]


def test_descriptors_of_a_source_from_outside_are_extracted(tmp_path):
    made = []
    for contrast in (200, 90):
        out = tmp_path / str(contrast)
        flags = "--stripes=3", f"--contrast={contrast}", f"--out={out}"
        run = _striped("extract_descriptors", *FEW, *flags)
        assert run.returncode == 1, run.stderr
        made.append(extraction.read_descriptors(out))
    assert list(made[0].names) == ["stripes/1-wide", "stripes/3-wide"]
    first, second = (np.asarray(found.descriptors[:]) for found in made)
    assert first.shape == second.shape and not np.allclose(first, second)


def test_options_of_two_sources_have_two_names():
    options = {option for source in SOURCES.values() for option in source.options}
    assert len({option.name for option in options} - set(SOURCES)) == len(options)


# Those there are --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Flags that name the same six images in the same order, as a data set and as a folder."""
    top = tmp_path_factory.mktemp("sources")
    folder, files, sets = top / "photos", top / "files", top / "sets"
    for each in (folder, files):
        each.mkdir()
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (10, 10, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((120, 110)).save(files / f"{number}.png")
    run = _run("build_dataset", "--source=photographs", f"--images={files}", f"--out={sets}")
    assert run.returncode == 0, run.stderr
    examples = DatasetExamples(sets)
    for number in range(len(examples)):
        Image.fromarray(examples[number]["image"][0]).save(folder / f"{number}.png")
    return {"images": folder, "dataset": sets}


@pytest.mark.parametrize(
    ("script", "table", "flags"),
    [
        ("invert", "results.csv", (*FEW, "--steps=2", "--slots=2")),
        ("decode", "results.csv", ("--judge=",)),
        ("operate_descriptors", "surgery.csv", ("--encoder=compact-random-0",)),
    ],
)
def test_a_folder_and_a_data_set_of_the_same_images_give_the_same(
    sources, tmp_path, script, table, flags
):
    tables = {}
    for name, value in sources.items():
        run = _run(script, f"--{name}={value}", *flags, f"--out={tmp_path / name}")
        assert run.returncode == 0, run.stderr
        tables[name] = _rows(tmp_path / name / table)
    named = [[row.pop("image", "") for row in rows] for rows in tables.values()]
    assert tables["images"] == tables["dataset"]
    if table == "results.csv":
        assert named[0] == [f"{number}.png" for number in range(6)] and len(set(named[1])) == 6


def test_rendered_scenes_are_taken_as_many_as_the_limit(monkeypatch):
    monkeypatch.setattr(scenes, "procedural_atlas", lambda key, num: None)  # nothing is rendered
    options = {"scenes": 2, "scene_seed": 7, "facades": None}
    most, whole = (SOURCES["render"].open(Given("cities", options, "out", n, 1)) for n in (3, 0))
    named = [f"cities/7/{scene}/{view}" for scene in (0, 1) for view in (0, 1)]
    assert [most.name(i) for i in range(len(most))] == named[:3]
    assert [whole.name(i) for i in range(len(whole))] == named
    assert most.fingerprint != whole.fingerprint
    with pytest.raises(IndexError):
        most[3]


def test_a_data_set_in_the_output_folder_is_refused(sources, tmp_path):
    (inside,) = sources["dataset"].glob("*/*/dataset_info.json")
    for script in ("invert", "extract_descriptors"):
        run = _run(script, f"--dataset={sources['dataset']}", f"--out={inside.parent}", *FEW[::2])
        assert run.returncode == 2 and "Traceback" not in run.stderr
        assert "choose another for output" in run.stderr


@pytest.mark.parametrize("script", ["invert", "decode", "extract_descriptors", "search_inversion"])
def test_one_source_is_wanted_before_anything_is_imported(script, tmp_path):
    folder = "workdir" if script == "search_inversion" else "out"
    stage = ("--stage=1",) if script == "search_inversion" else ()
    for given in ((), ("--images=a", "--render=streets")):
        command = [sys.executable, "-X", "importtime", "-m", f"experiments.{script}"]
        done = subprocess.run(
            [*command, f"--{folder}={tmp_path}", *stage, *given],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 2
        (told,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
        assert "give one of --images, --dataset and --render" in told
        assert "numpy" not in done.stderr.replace(told, "")


def test_pairs_are_not_counted_by_scenes(tmp_path):
    run = _run("operate_descriptors", "--scenes=5", f"--out={tmp_path / 'out'}")
    assert run.returncode == 2 and "pairs are counted by --pairs" in run.stderr
    assert run.stderr.count("\n") == 1 and not (tmp_path / "out").exists()
