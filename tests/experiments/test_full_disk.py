"""Scripts whose files cannot be written: each is named with the reason, and the rest is kept."""

import csv
import errno
import json
import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import script_process
from PIL import Image

from experiments.common import runtime
from posenet_jax.errors import InputError, OutputError
from posenet_jax.images.image_files import unique_names
from posenet_jax.io import files, whole_files
from posenet_jax.training import training_loop
from posenet_jax.training.event_log import EventLog


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two images, one of a name that leaves no room for an extension."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name in ("a", "n" * 251):
        coarse = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((160, 120)).save(folder / f"{name}.png")
    return folder


def _limited(limit, module, *flags):
    return script_process.start("limited_child", limit, module, *flags).end()


def _inverted(limit, *flags):
    return script_process.run_module("limited_child", limit, "experiments.invert", *flags)


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_inversions_with_too_little_room_and_into_a_folder_that_is_not_empty(images, tmp_path):
    """A long name is cut: with the layer it would be too long for any file system."""
    few = f"--images={images}", f"--out={tmp_path}", "--encoder=compact", "--steps=3"
    few = *few, "--cpu_devices=1"
    both = *few, "--layer=fc5,conv4"  # as test_invert_script compiles it
    run = _inverted(60_000, *both)
    assert run.returncode == 1 and "Traceback" not in run.stderr, run.stderr
    assert f"not written: {tmp_path}/grid.png (File too large)" in run.stderr
    with (tmp_path / "results.csv").open(newline="") as file:
        names = [row["image"] for row in csv.DictReader(file)]
    assert names == ["a.png", "n" * 251 + ".png"] * 2
    stems = unique_names([images / name for name in names[:2]])
    assert stems[0] == "a" and stems[1].startswith("n" * 190)
    tables = {"results.csv", "run.json"}
    layers = "fc5", "conv4"
    pictures = {f"images/{name}.{layer}.png" for name in stems for layer in layers}
    assert _files(tmp_path) == tables | pictures
    noted = json.loads((tmp_path / "run.json").read_text())["files"]
    assert set(noted) == tables | pictures | {"grid.png"}

    run = _inverted(12_000, *few, "--layer=fc5")
    assert run.returncode == 1 and "Traceback" not in run.stderr, run.stderr
    told = [line for line in run.stderr.splitlines() if line.startswith("not written: ")]
    pictures = [f"{tmp_path}/images/{name}.png" for name in stems]
    wanted = [
        f"not written: {path} (File too large)" for path in [*pictures, tmp_path / "grid.png"]
    ]
    assert told == wanted
    assert "but for 3 of them: what is written already stays" in run.stdout
    assert _files(tmp_path) == tables  # and nothing of the run before

    run = _inverted(1500, *both)
    assert run.returncode == 2 and "Traceback" not in run.stderr, run.stderr
    said = run.stderr.splitlines()[-1]
    assert said.startswith(f"error: {tmp_path}/") and "cannot be written (File too large)" in said
    assert "what is written already stays" in said and "None" not in said
    assert not _files(tmp_path) & tables


def test_rendered_pictures_without_room(tmp_path):
    flags = "--scenes=2", f"--out={tmp_path}"
    run = _limited(8000, "streets_child", *flags)
    assert run.returncode == 1 and "Traceback" not in run.stderr, run.stderr
    assert f"not written: {tmp_path}/images/0001_0.png (File too large)" in run.stderr
    assert "but for 5 of them: what is written already stays" in run.stdout
    assert _files(tmp_path) == {"run.json"}
    for count, names in ((2, ["0000_0", "0000_1", "0001_0", "0001_1"]), (1, ["0000_0", "0000_1"])):
        run = script_process.start("streets_child", *flags, f"--scenes={count}").end()
        assert run.returncode == 0, run.stderr
        expected = {f"images/{name}.png" for name in names} | {"grid.png", "run.json"}
        assert _files(tmp_path) == expected


@pytest.mark.parametrize("limit", [1000, 20_000])
def test_a_data_set_without_room_leaves_nothing(images, tmp_path, limit):
    flags = "--source=photographs", f"--images={images}", f"--out={tmp_path / 'sets'}"
    run = _limited(limit, "experiments.build_dataset", *flags)
    assert run.returncode == 2 and "Traceback" not in run.stderr, run.stderr
    said = run.stderr.splitlines()[-1]
    assert "photographs/1.0.0 cannot be written (File too large); nothing of it stays" in said
    assert not _files(tmp_path)
    assert script_process.run("build_dataset", *flags).returncode == 0


def test_a_checkpoint_without_room_says_which_one_stays(tmp_path):
    """Written by another library, in another language, which quotes the operating system."""
    run = script_process.start("training_child", tmp_path, "slowly")
    run.wait_for_lines(8)
    run.kill()
    before = {path.name for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit()}
    run = _limited(60, "training_child", tmp_path)
    said = run.stderr.splitlines()[-1]
    assert "cannot be written (File too large); the checkpoint of step" in said, run.stderr
    assert f"of step {max(map(int, before))} stays" in said and "the same command goes on" in said
    run = script_process.start("training_child", tmp_path).end()
    assert run.returncode == 0 and (tmp_path / "final.npy").exists(), run.stderr


def test_what_a_library_quotes_is_recognised_and_nothing_else():
    quoted = RuntimeError("write() failed: No space left on device; writing /a/b")
    assert whole_files.refusal(quoted).errno == errno.ENOSPC
    wrapped = ValueError("task failed")
    wrapped.__cause__ = OSError(errno.EDQUOT, "Disk quota exceeded")
    assert whole_files.refusal(wrapped).errno == errno.EDQUOT
    assert whole_files.refusal(ValueError("shapes (3,) and (4,) do not fit")) is None
    assert whole_files.refusal(OSError("no number")) is None


def test_events_without_room_are_an_error_once(tmp_path, monkeypatch):
    log = EventLog(tmp_path, 0)
    log.write(1, {"loss": 0.5})

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        log.write(2, {"loss": 0.25})
    log.close()


def test_a_training_that_cannot_write_its_log_stops_with_a_sentence(tmp_path, monkeypatch):
    config = training_loop.LoopConfig(steps=4, log_every=2, checkpoint_every=1)

    def train():
        return training_loop.train(
            {"w": jnp.zeros(2)},
            step=lambda state, batch: (state, {"loss": jnp.float32(1.0)}),
            batch=lambda number: None,
            evaluate=lambda state: {},
            workdir=tmp_path,
            config=config,
        )

    def full(path, rows):
        raise OutputError(str(path), "No space left on device", "whatever")

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_csv", full)
        with pytest.raises(OutputError, match=r"metrics.csv.*; the checkpoint of step 1 stays"):
            list(train())
    assert [done for done, _, _ in train()] == [2, 3, 4]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "error: No space left on device"),
        (FileNotFoundError(2, "No such file", "/a/b"), "error: /a/b: No such file"),
        (
            PermissionError(13, "Permission denied", b"/a/b\xff"),
            "error: /a/b\ufffd: Permission den",
        ),
        (OSError("encoder error -2"), "error: encoder error -2"),
        (OSError(), "error: OSError"),
    ],
)
def test_an_error_of_the_operating_system_is_never_none(error, said, monkeypatch, capsys):
    def main():
        raise error

    ends = []
    monkeypatch.setattr(runtime, "configure", lambda: None)
    monkeypatch.setattr(runtime, "parse", lambda: None)
    monkeypatch.setattr(runtime.app, "run", lambda guarded, **_: ends.append(guarded(["script"])))
    runtime.run(main)
    told = capsys.readouterr().err
    assert ends == [2] and told.startswith(said) and told.count("\n") == 1 and "None" not in told


def test_reporting_names_the_file_and_what_to_do(tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError) as error:
        files.write_json(tmp_path / "metrics.json", {})
    assert str(error.value) == (
        f"{tmp_path}/metrics.json cannot be written (No space left on device); what is written"
        " already stays; make room there or choose another folder, and run again"
    )
    assert not list(tmp_path.iterdir())
