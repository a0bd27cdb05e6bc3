"""What damage to data sets and to shards of descriptors can do: nothing but be refused.

C++ reads them, which could end the process or take what a number in a file says: they are read in a
process that has little memory. TFDS must not do what a description of a stranger's says.
"""

import json
import random
import shutil

import numpy as np
import pytest
import script_process
from damage import FUZZ, damaged_bytes, damaged_json, refused
from PIL import Image
from test_damaged_files import written_extraction

from posenet_jax.data import dataset_writing, sources, tfds_builder
from posenet_jax.errors import InputError
from posenet_jax.shards import descriptor_shards


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    for number in range(14):
        pixels = np.random.default_rng(number).integers(0, 256, (9, 9, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def dataset(photographs, tmp_path_factory):
    """Folder of a data set of the 14 photographs, in two splits."""
    tfds_builder.tfds.disable_progress_bar()
    out = tmp_path_factory.mktemp("dataset")
    builder = tfds_builder.Photographs(images=photographs, data_dir=out)
    dataset_writing.build(builder)
    return builder.data_path


def _stranger_s_dataset(dataset, folder, name, change):
    """A copy of the data set with one of its JSON files changed."""
    shutil.copytree(dataset, folder)
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))
    return folder


_FEATURE = "a_stranger_s_module.Feature"


@pytest.mark.parametrize(
    "feature",
    [
        {"pythonClassName": _FEATURE, "text": {}},
        {"python_class_name": _FEATURE, "text": {}},
        {"type": _FEATURE, "content": {}},
        {
            "pythonClassName": "tensorflow_datasets.core.features.sequence_feature.Sequence",
            "sequence": {"feature": {"pythonClassName": _FEATURE}, "length": "-1"},
        },
        {
            "pythonClassName": "tensorflow_datasets.core.features.sequence_feature.Sequence",
            "jsonFeature": {"json": json.dumps({"feature": {"type": _FEATURE, "content": {}}})},
        },
    ],
)
def test_a_data_set_does_not_choose_what_is_imported(dataset, tmp_path, monkeypatch, feature):
    (tmp_path / "a_stranger_s_module.py").write_text("raise SystemExit('its code has run')")
    monkeypatch.syspath_prepend(tmp_path)

    def name(content):
        content["featuresDict"]["features"]["name"] = feature

    folder = _stranger_s_dataset(dataset, tmp_path / "set", "features.json", name)
    with pytest.raises(InputError, match=r"features\.json names the feature 'a_stranger_s_module"):
        sources.DatasetExamples(folder)


@pytest.mark.parametrize("count", ["9", "11", "-10", str(2**62), str(10**15)])
def test_numbers_of_examples_are_those_of_the_shards(dataset, tmp_path, count):
    def lengths(content):
        content["splits"][0]["shardLengths"] = [count]

    folder = _stranger_s_dataset(dataset, tmp_path / "set", "dataset_info.json", lengths)
    with pytest.raises(InputError) as error:
        sources.DatasetExamples(folder)
    assert str(folder) in str(error.value)


def test_a_shard_that_is_not_there_is_named(dataset, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(dataset, folder)
    next(folder.glob("*train*")).unlink()
    with pytest.raises(InputError, match="train.* 10 examples, and it has 0 bytes"):
        sources.DatasetExamples(folder)


@pytest.mark.parametrize("length", [2, 5, 10**12, -7])
def test_views_are_as_many_as_an_example_has(dataset, tmp_path, length):
    """One is written; a description that says otherwise makes each example one to be left out."""

    def views(content):
        features = content["featuresDict"]["features"]
        features["image"] = {
            "pythonClassName": "tensorflow_datasets.core.features.sequence_feature.Sequence",
            "sequence": {"feature": features["image"], "length": str(length)},
        }

    folder = _stranger_s_dataset(dataset, tmp_path / "set", "features.json", views)

    def read():
        images = sources.DatasetImages(sources.DatasetExamples(folder))
        assert len(images) == 14 * length
        return images[0]

    assert isinstance(refused(read, folder), InputError)


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json", "metadata.json"])
def test_a_data_set_half_damaged_is_not_taken_for_one_that_is_there(
    dataset, photographs, tmp_path, name
):
    folder = tmp_path / "photographs" / "1.0.0"
    shutil.copytree(dataset, folder)
    (folder / name).write_bytes((folder / name).read_bytes()[:-3])

    def again():
        return dataset_writing.build(
            tfds_builder.Photographs(images=photographs, data_dir=tmp_path)
        )

    assert isinstance(refused(again, folder.parent), InputError)


def _spoil_one(folder, rng):
    """Damages a file of the folder; its name."""
    path = rng.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    content = path.read_bytes()
    if path.suffix == ".json" and rng.random() < 0.7:
        path.write_bytes(damaged_json(json.loads(content), rng))
    else:
        path.write_bytes(damaged_bytes(content, rng))
    return path.name


def test_folders_with_a_damaged_file_are_read_right_or_refused(dataset, tmp_path):
    """In a process that has 1 GiB to itself: C++ may end it, or take what a number says."""

    sources = {"dataset": dataset}
    for file_format in descriptor_shards.FORMATS:
        sources[file_format] = written_extraction(tmp_path / file_format, file_format)[0].path
    spoilt, top = {}, tmp_path / "tried"
    for number in range(70 * FUZZ):
        rng = random.Random(f"folder {number}")
        kind = rng.choice(("dataset", "dataset", *descriptor_shards.FORMATS))
        folder = top / f"{number:05d}-{kind}"
        shutil.copytree(sources[kind], folder)
        spoilt[folder.name] = _spoil_one(folder, rng)
    for kind, folder in sources.items():
        shutil.copytree(folder, top / f"whole-{kind}")
    run = script_process.start("damaged_child", top).end()
    assert run.returncode == 0, (run.stdout[-1000:], run.stderr[-3000:])
    # TFDS prints where a feature wants TensorFlow.
    outcomes = dict(line.split("\t", 1) for line in run.stdout.split("\n") if "\t" in line)
    assert set(outcomes) == set(spoilt) | {f"whole-{kind}" for kind in sources}
    for name, outcome in outcomes.items():
        if name.startswith("whole"):
            assert outcome == "right", (name, outcome)
        else:
            told = name, spoilt[name], outcome
            assert outcome == "right" or outcome.startswith("refused: "), told
    assert sum(outcome != "right" for outcome in outcomes.values()) > 30 * FUZZ
