"""A folder of results: an earlier run's are replaced whole, other people's are left alone."""

import contextlib
import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from posenet_jax.errors import InputError, OutputError
from posenet_jax.io import files, storage, whole_files
from posenet_jax.io.output_folder import OutputFolder

PICTURE = np.zeros((4, 4, 3), np.uint8)


def _run(folder, pictures, script="invert", tables=("results.csv",), stop_after=99, told=None):
    """A run that is killed after so many pictures."""
    names = [f"images/{name}.png" for name in pictures]
    out = OutputFolder(folder, script, [*tables, *names])
    out.begin()
    for table in tables:
        files.write_csv(out.held(table), [{"image": name} for name in pictures], ["image"])
    out.write_record({"flags": {}})
    for name in names[:stop_after]:
        with out.spared():
            files.write_png(out.path / name, PICTURE)
    if stop_after < 99:
        out._unlock()  # as the end of the process would
        return None
    return out.finish((told if told is not None else []).append)


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_finished_run_lists_its_files_and_leaves_nothing_else(tmp_path):
    _run(tmp_path, ["a", "b"])
    found = _files(tmp_path)
    assert found == {"results.csv", "run.json", "images/a.png", "images/b.png"}
    record = json.loads((tmp_path / "run.json").read_text())
    assert set(record["files"]) == found and record["script"] == "invert"


def test_a_picture_is_done_without_but_not_where_a_bucket_does_not_answer(tmp_path):
    out = OutputFolder(tmp_path, "invert", ["a.png"])
    for number, ends in {errno.ENOSPC: False, errno.EACCES: False, errno.EIO: True}.items():
        refused = storage.Unanswered(number, "no answer", "s3://runs/a.png")
        error = whole_files.not_written(out.path / "a.png", refused)
        with pytest.raises(OutputError) if ends else contextlib.nullcontext(), out.spared():
            raise error from refused
    assert len(out.failures) == 2


def test_a_second_run_with_fewer_images_leaves_none_of_the_first(tmp_path):
    _run(tmp_path, ["a", "b", "c"], tables=["results.csv", "old.csv"])
    (tmp_path / "images" / "mine.png").write_text("somebody's own")
    (tmp_path / "notes.txt").write_text("somebody's own")
    _run(tmp_path, ["b"])
    own = {"results.csv", "run.json", "images/b.png"}
    assert _files(tmp_path) == own | {"images/mine.png", "notes.txt"}
    assert (tmp_path / "results.csv").read_text() == "image\nb\n"


def test_folders_left_empty_go(tmp_path):
    out = OutputFolder(tmp_path, "decode", ["images/one/a.png"])
    out.begin()
    files.write_png(out.path / "images/one/a.png", PICTURE)
    out.write_record({})
    out.finish([].append)
    _run(tmp_path, [], "decode")
    assert not (tmp_path / "images").exists()


@pytest.mark.parametrize("written", [0, 1, 3])
def test_a_killed_run_looks_unfinished_and_the_next_one_removes_what_it_left(tmp_path, written):
    _run(tmp_path, ["z"])
    _run(tmp_path, ["a", "b", "c"], stop_after=written)
    assert not _files(tmp_path) & {"results.csv", "run.json", "images/z.png"}
    assert "unfinished.json" in _files(tmp_path)
    _run(tmp_path, ["b"])
    assert _files(tmp_path) == {"results.csv", "run.json", "images/b.png"}


def test_a_run_killed_while_it_removes_an_earlier_ones_files(tmp_path, monkeypatch):
    _run(tmp_path, ["a", "b", "c"])
    unlink, left = Path.unlink, [2]

    def stop(path, missing_ok=False):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)

    out = OutputFolder(tmp_path, "invert", ["results.csv", "images/d.png"])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "unlink", stop)
        out.begin()
    out._unlock()
    assert "run.json" not in _files(tmp_path) and len(_files(tmp_path)) > 2
    _run(tmp_path, ["d"])
    assert _files(tmp_path) == {"results.csv", "run.json", "images/d.png"}


def test_until_there_is_something_to_write_the_earlier_results_stay(tmp_path):
    _run(tmp_path, ["a"])
    before = _files(tmp_path)
    OutputFolder(tmp_path, "invert", ["results.csv"])._unlock()
    assert _files(tmp_path) == before


@pytest.mark.parametrize("name", ["results.csv", "images/a.png", "images"])
def test_what_is_not_known_to_be_ours_is_refused_and_kept(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("somebody's own")
    with pytest.raises(InputError, match=f"{name} is not known to be of an earlier run of invert"):
        _run(tmp_path, ["a"])
    assert _files(tmp_path) == {name}


def test_another_scripts_results_are_refused_finished_or_not(tmp_path):
    for folder, stop in (("done", 99), ("killed", 1)):
        _run(tmp_path / folder, ["a", "b"], stop_after=stop)
        before = _files(tmp_path / folder)
        with pytest.raises(InputError, match="holds a run of invert, not of decode; choose ano"):
            _run(tmp_path / folder, ["c"], "decode", ["metrics.json"])
        assert _files(tmp_path / folder) == before


def test_a_folder_of_an_older_version(tmp_path):
    """Its run.json names no files: what is written under the same names is known, no more."""
    for name in ("run.json", "results.csv"):
        (tmp_path / name).write_text('{"flags": {}}')
    _run(tmp_path, [])
    assert _files(tmp_path) == {"run.json", "results.csv"}
    old = tmp_path / "old"
    (old / "images").mkdir(parents=True)
    (old / "run.json").write_text('{"flags": {}}')
    (old / "images" / "a.png").touch()
    with pytest.raises(InputError, match="of an older version, which did not note its files"):
        _run(old, ["b"])
    (old / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json cannot be read"):
        _run(old, ["b"])


def test_a_record_cannot_lead_out_of_the_folder(tmp_path):
    (tmp_path / "precious").touch()
    names = ["../precious", str(tmp_path / "precious"), 7, "results.csv"]
    (tmp_path / "out").mkdir()
    record = {"script": "invert", "files": names}
    (tmp_path / "out" / "run.json").write_text(json.dumps(record))
    _run(tmp_path / "out", ["a"])
    assert (tmp_path / "precious").exists()


def test_two_runs_at_once(tmp_path):
    first = OutputFolder(tmp_path, "invert", ["results.csv"])
    with pytest.raises(InputError, match="another run is at work in"):
        OutputFolder(tmp_path, "invert", ["results.csv"])
    first._unlock()
    OutputFolder(tmp_path, "invert", ["results.csv"])


@pytest.mark.parametrize("name", ["n" * 252 + ".png", "é" * 126 + ".png"])
def test_a_name_too_long_is_refused_before_anything_is_done(tmp_path, name):
    with pytest.raises(InputError, match=f"a name of {len(name.encode())} bytes, of 255 at most"):
        OutputFolder(tmp_path, "invert", [f"images/{name}"])
    assert not _files(tmp_path)


def test_a_path_too_long_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"a path of \d+ bytes, of 4095 at most"):
        OutputFolder(tmp_path, "invert", ["/".join(["n" * 200] * 21)])


def test_a_file_that_cannot_be_written_costs_itself_alone(tmp_path, monkeypatch):
    replace, told = os.replace, []

    def refuse(source, target):
        if Path(target).name == "b.png":
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    missing = _run(tmp_path, ["a", "b", "c"], told=told)
    assert missing.startswith(", but for 1 of them: what is written already stays; make room")
    assert told == [f"not written: {tmp_path}/images/b.png (No space left on device)"]
    assert _files(tmp_path) == {"results.csv", "run.json", "images/a.png", "images/c.png"}
