"""results.csv of `invert` and of `bulk_invert`: one schema, joined, with a measure from outside."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import script_process
import tensorflow_datasets as tfds
from PIL import Image

from posenet_jax.bulk import bulk_inversion
from posenet_jax.data.sources import FolderImages
from posenet_jax.encoders import weights
from posenet_jax.evaluation import measures, results_table
from posenet_jax.inversion import recipes
from posenet_jax.io import run_files

KEY = "image", "layer", "restart"
NAMES = ["0.png", "more/0.png", "more/3.png"]


def _save(path, seed):
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3)).astype(np.uint8)
    Image.fromarray(coarse).resize((100, 100)).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of which two have one stem, and in their midst and last files that are none."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "more").mkdir()
    for seed, name in enumerate(NAMES):
        _save(folder / name, seed)
    for name in ("more/1.png", "zz.png"):
        (folder / name).write_text("this is not a picture")
    return folder


def _table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def runs(folder, tmp_path_factory):
    """Script -> (what it said, its table); a measure of the test's own is registered in both."""
    few = "--layer=fc5", "--encoder=compact-random-0", "--steps=2", "--slots=2", "--cpu_devices=1"
    found = {}
    for script, more in (("invert", ()), ("bulk_invert", ("--judge=compact-random-0",))):
        out = tmp_path_factory.mktemp("runs") / script
        flags = f"--images={folder}", f"--out={out}", *few, *more
        run = script_process.run_module("measure_child", f"experiments.{script}", *flags)
        assert run.returncode == 1 and "zz.png" in run.stderr, run.stderr
        found[script] = run.stdout, _table(out / "results.csv")
    return found


def test_two_runs_join_on_image_layer_and_restart(runs):
    tables = [{tuple(row[k] for k in KEY): row for row in table} for _, table in runs.values()]
    plain, bulk = tables
    assert list(plain) == list(bulk) == [(name, "fc5", "0") for name in NAMES]
    compared = set()
    for key, one in plain.items():
        other = bulk[key]
        assert list(one) == list(other)
        for name in ("position", "steps", "starts", "status", "luminance_rank"):
            assert one[name] == other[name], name
        for name in set(results_table.header()) - {*KEY, "position", "status"}:
            if one[name] and other[name]:
                # Rounding of targets encoded in another batch.
                wanted = pytest.approx(float(other[name]), rel=0.05, abs=1e-3)
                assert float(one[name]) == wanted, (key, name)
                compared.add(name)
    assert [row["position"] for row in plain.values()] == ["0", "1", "3"]
    judged = {"judge_relative_loss", "other_judge_relative_loss"}
    assert {"loss", "relative_loss", "psnr", "chance_rank"} <= compared and not judged & compared
    assert all(not row["judge_relative_loss"] for row in plain.values())
    assert all(float(row["judge_relative_loss"]) > 0 for row in bulk.values())


@pytest.mark.parametrize("script", ["invert", "bulk_invert"])
def test_a_registered_measure_is_in_table_and_summary(runs, folder, script):
    said, table = runs[script]
    assert list(table[0]) == [*results_table.header(), "brightness", "original_brightness"]
    own = [float(np.asarray(Image.open(folder / row["image"])).mean()) for row in table]
    np.testing.assert_allclose([float(row["original_brightness"]) for row in table], own)
    line = next(line for line in said.splitlines() if "mean brightness, levels" in line)
    median = np.median([float(row["brightness"]) for row in table])
    assert line.split()[3:] == [f"{x:.4f}" for x in (median, *_worst_and_control(table, own))]


def _worst_and_control(table, own):
    return max(float(row["brightness"]) for row in table), np.median(own)


def test_a_folder_of_a_version_with_fewer_columns_is_finished(folder, tmp_path, monkeypatch):
    """Its tables had no layer, and its shards fewer measures."""
    encoder = weights.load_encoder("compact-random-0")

    def invert():
        config = bulk_inversion.BulkConfig(slots=2, batch_size=2, shard_size=2)
        recipe = dataclasses.replace(recipes.CALIBRATED, steps=2)
        source = FolderImages(folder)
        return bulk_inversion.invert_all(encoder, "fc5", source, tmp_path, recipe, config)

    with monkeypatch.context() as patch:
        patch.setattr(measures, "MEASURES", measures.MEASURES[:4])
        invert()
    whole = _table(tmp_path / "results.csv")
    for path in (tmp_path / "records").glob("*.json"):
        record = json.loads(path.read_text())
        if not record["images"]:  # no table
            continue
        table = tmp_path / "tables" / f"{record['file']}.csv"
        rows = [{k: v for k, v in row.items() if k != "layer"} for row in _table(table)]
        table.write_text("\n".join(",".join(row) for row in (rows[0], *map(dict.values, rows))))
        table.write_text(table.read_text() + "\n")
        del record["sha256_of_rest"]
        record["table_sha256"] = run_files.file_sha256(table)
        path.write_text(json.dumps(run_files.checksummed(record)))
    sorted(tmp_path.glob("*.array_record*"))[1].unlink()
    assert invert().new == 1
    found = _table(tmp_path / "results.csv")
    assert [list(row) for row in found] == [results_table.header()] * 3
    assert [bool(row["psnr"]) for row in found] == [False, False, True]
    for row, before in zip(found, whole, strict=True):
        same = {name: row[name] for name in (*KEY, "position", "status", "steps")}
        assert same == {name: before[name] for name in same}
    examples = list(tfds.builder_from_directory(tmp_path).as_data_source("images"))
    assert [example["name"].decode() for example in examples] == NAMES
    for row, example in zip(found, examples, strict=True):
        correlation = float(row["luminance_correlation"])
        np.testing.assert_allclose(example["luminance_correlation"], correlation, rtol=1e-6)
        assert "psnr" not in example
