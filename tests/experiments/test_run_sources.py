"""Trainings and searches go on with the sources that they were begun with, and no others."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from experiments.common import run_sources
from posenet_jax.data import sources, traces
from posenet_jax.errors import InputError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(6):
        pixels = np.full((4, 4, 3), number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.bmp")
    return tmp_path / "images"


def _begun(tmp_path, folder, **more):
    record = tmp_path / "run.json"
    record.write_text(
        json.dumps({"sources": {"images": run_sources.files(str(folder), "elsewhere")}} | more)
    )
    return record


def _go_on(record, folder, options=None, **more):
    now = {"images": run_sources.files(str(folder), "elsewhere")} | more
    run_sources.check(record, "the 8 steps done", now, options)


def test_the_same_folder_and_a_copy_of_it_go_on(tmp_path, folder, capsys):
    record = _begun(tmp_path, folder)
    _go_on(record, folder)
    _go_on(record, shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile))
    assert not capsys.readouterr().err


def test_other_images_are_refused_with_what_differs(tmp_path, folder):
    record = _begun(tmp_path, folder)
    before = (folder / "3.bmp").stat()
    Image.fromarray(np.full((4, 4, 3), 99, np.uint8)).save(folder / "3.bmp")
    os.utime(folder / "3.bmp", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(InputError, match=r"8 steps done --images had .*of the same names and siz"):
        _go_on(record, folder)
    (folder / "3.bmp").unlink()
    with pytest.raises(InputError, match="names or sizes.*give the same again, or another --work"):
        _go_on(record, folder)


def test_a_source_more_or_less_is_named(tmp_path, folder):
    facts = run_sources.files(str(folder), "elsewhere")
    with pytest.raises(InputError, match="--facades was not given"):
        _go_on(_begun(tmp_path, folder), folder, facades=facts)
    both = {"images": facts, "facades": facts}
    with pytest.raises(InputError, match="--facades was given"):
        _go_on(_begun(tmp_path, folder, sources=both), folder)


def test_other_options_are_named_with_both_values(tmp_path, folder):
    record = _begun(tmp_path, folder, options={"batches": 500})
    _go_on(record, folder, {"batches": 500, "unheard_of": 1})
    with pytest.raises(InputError, match="the 8 steps done had batches 500, not 20; give that"):
        _go_on(record, folder, {"batches": 20})


def test_records_that_are_not_there_or_older_are_compared_with_nothing(tmp_path, folder):
    _go_on(tmp_path / "nowhere.json", folder)
    (tmp_path / "old.json").write_text('{"flags": {}}')
    _go_on(tmp_path / "old.json", folder, {"batches": 20})
    (tmp_path / "half.json").write_text("{")
    with pytest.raises(InputError, match=r"half\.json is not JSON"):
        _go_on(tmp_path / "half.json", folder)


def test_of_many_images_some_are_read_and_touched_ones_are_said(tmp_path, folder, capsys):
    source = sources.FolderImages(folder)
    facts = [traces.source_facts(source, most=3)._asdict()]
    os.utime(folder / "1.bmp")  # not one of the three
    facts.append(traces.source_facts(sources.FolderImages(folder), most=3)._asdict())
    assert facts[0] != facts[1] and not facts[0]["whole"]
    record = tmp_path / "run.json"
    record.write_text(json.dumps({"sources": {"images": facts[0]}}))
    run_sources.check(record, "the 8 steps done", {"images": facts[1]})
    assert "--images have been copied or changed since" in capsys.readouterr().err
