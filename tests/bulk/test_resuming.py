"""Resuming where something is not as it was: images changed, folders copied, other devices."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import script_process
import tensorflow_datasets as tfds
from jax.sharding import Mesh
from PIL import Image

from posenet_jax.bulk import bulk_inversion, extraction
from posenet_jax.data import dataset_writing, sources, tfds_builder
from posenet_jax.encoders import weights
from posenet_jax.errors import InputError
from posenet_jax.images import image_list
from posenet_jax.inversion import recipes, slot_programs
from posenet_jax.io.run_files import checksummed

COUNT, SHARD = 6, 2
RECIPE = dataclasses.replace(recipes.CALIBRATED, steps=1)


@pytest.fixture(scope="module")
def encoder():
    return weights.load_encoder("compact-random-0")


def _picture(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((100, 100))


@pytest.fixture
def folder(tmp_path):
    """Six BMPs: whatever they show, they are of one size."""
    (tmp_path / "images").mkdir()
    for number in range(COUNT):
        _picture(number).save(tmp_path / "images" / f"{number:02d}.bmp")
    return tmp_path / "images"


def _mesh(devices: int) -> Mesh:
    if jax.device_count() < devices:
        pytest.skip(f"needs {devices} devices")
    return Mesh(np.asarray(jax.devices()[:devices]), ("devices",))


def _extract(encoder, source, out, *, devices=2, **options):
    config = extraction.ExtractionConfig(**({"batch_size": 2, "shard_size": SHARD} | options))
    mesh = _mesh(devices)
    return extraction.extract(encoder, "fc5", source, out, config, mesh=mesh)


def _invert(encoder, source, out, *, devices=2, **options):
    sizes = {"slots": 4, "batch_size": 2, "shard_size": SHARD}
    config = bulk_inversion.BulkConfig(**(sizes | options))
    mesh = _mesh(devices)
    return bulk_inversion.invert_all(
        encoder, "fc5", source, out, RECIPE, config, judge=encoder, mesh=mesh
    )


RUNS = pytest.mark.parametrize("run", [_extract, _invert])


def _content(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {os.fspath(path.relative_to(folder)): path.read_bytes() for path in files}


def _results(folder: Path) -> dict[str, bytes]:
    """All but the times of the images."""
    return {name: data for name, data in _content(folder).items() if "traces" not in name}


def _replace(path: Path, seed: int) -> None:
    """Another image under the same name, of the same size and time."""
    before = path.stat()
    _picture(seed).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def _shard(out: Path, number: int) -> Path:
    return sorted(out.glob("*.array_record-*"))[number]


@RUNS
def test_nothing_is_read_again_where_nothing_was_touched(
    run, encoder, folder, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    run(encoder, sources.FolderImages(folder), out)
    before = _content(out)
    monkeypatch.setattr(image_list, "file_digest", pytest.fail)
    assert run(encoder, sources.FolderImages(folder), out).new == 0
    assert _content(out) == before


@RUNS
def test_a_copy_of_the_folder_is_as_good(run, encoder, folder, tmp_path, monkeypatch):
    """Its times are others: it is read once, and from then on its times are known."""
    out = tmp_path / "out"
    run(encoder, sources.FolderImages(folder), out)
    _shard(out, 1).unlink()  # as if killed before
    whole = _results(out)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, copy_function=shutil.copyfile)
    assert run(encoder, sources.FolderImages(copy), out).new == SHARD
    assert _results(out).items() >= whole.items()
    monkeypatch.setattr(image_list, "file_digest", pytest.fail)
    assert run(encoder, sources.FolderImages(copy), out).new == 0


@RUNS
def test_an_image_changed_between_a_run_and_its_resumption_is_noticed(
    run, encoder, folder, tmp_path
):
    out = tmp_path / "out"
    run(encoder, sources.FolderImages(folder), out)
    _shard(out, 0).unlink()
    for changed in ("03.bmp", "05.bmp"):
        _replace(folder / changed, 77)
    before = _content(out)
    with pytest.raises(InputError, match=r"03\.bmp is not the image any more that .*00001") as said:
        run(encoder, sources.FolderImages(folder), out)
    assert "1 more have changed, in 2 shards" in str(said.value)
    assert _content(out) == before
    for number in (1, 0):  # the first was never there
        _shard(out, number).unlink()
    run(encoder, sources.FolderImages(folder), out)
    run(encoder, sources.FolderImages(folder), tmp_path / "fresh")
    assert _content(out) == _content(tmp_path / "fresh")


def test_a_damaged_image_put_right_is_noticed_and_one_still_damaged_is_not(
    encoder, folder, tmp_path
):
    size = (folder / "03.bmp").stat().st_size
    (folder / "03.bmp").write_bytes(bytes(size))
    assert _extract(encoder, sources.FolderImages(folder), tmp_path / "out").left_out == 1
    os.utime(folder / "03.bmp")
    assert _extract(encoder, sources.FolderImages(folder), tmp_path / "out").left_out == 1
    _replace(folder / "03.bmp", 3)
    with pytest.raises(InputError, match=r"03\.bmp is not the image any more"):
        _extract(encoder, sources.FolderImages(folder), tmp_path / "out")


def _dataset(folder: Path, out: Path) -> sources.DatasetImages:
    tfds.disable_progress_bar()
    dataset_writing.build(tfds_builder.Photographs(images=folder, data_dir=out), restart=True)
    return sources.DatasetImages(sources.DatasetExamples(out))


def test_a_data_set_built_anew_is_read_again_and_one_of_other_images_noticed(
    encoder, folder, tmp_path
):
    out = tmp_path / "out"
    source = _dataset(folder, tmp_path / "set")
    _extract(encoder, source, out)
    before = _results(out)
    again = _dataset(folder, tmp_path / "set")
    assert again.fingerprint == source.fingerprint
    assert _extract(encoder, again, out).new == 0 and _results(out) == before

    class Other(sources.DatasetExamples):
        """As if example 2 were another one, in files of the same sizes."""

        def encoded(self, position):
            example = super().encoded(position)
            if position == 2:
                example["image"] = [b"\0" + example["image"][0][1:]]
            return example

    other = sources.DatasetImages(Other(tmp_path / "set"))
    assert other.fingerprint == source.fingerprint
    os.utime(next((tmp_path / "set").rglob("*train*")))
    other = sources.DatasetImages(Other(tmp_path / "set"))
    with pytest.raises(InputError, match=f"{other.name(2)} is not the image any more"):
        _extract(encoder, other, out)


@RUNS
def test_folders_that_older_versions_wrote_are_gone_on_with(run, encoder, folder, tmp_path):
    """Without traces, devices, facades and checksums."""
    out = tmp_path / "out"
    run(encoder, sources.FolderImages(folder), out)
    whole = _results(out)
    kind = "extraction" if run is _extract else "inversion"
    _shard(out, 2).unlink()
    for path in out.rglob("*.traces.npy"):
        path.unlink()
    for name in (f"{kind}.json", "manifest.json"):
        record = json.loads((out / name).read_text())
        newer = ("devices", "facades", "sha256_of_rest")
        record = {k: v for k, v in record.items() if k not in newer}
        (out / name).write_text(json.dumps(record))
        again = checksummed(record) if name == "manifest.json" else record  # written anew
        whole[name] = json.dumps(again, indent=1, ensure_ascii=False).encode() + b"\n"
    assert run(encoder, sources.FolderImages(folder), out).new == SHARD
    found = _results(out)
    assert json.loads(found.pop(f"{kind}.json")) == json.loads(whole.pop(f"{kind}.json"))
    assert found == whole


@RUNS
def test_while_a_shard_is_missing_the_folder_does_not_look_whole(run, encoder, folder, tmp_path):
    out = tmp_path / "out"
    run(encoder, sources.FolderImages(folder), out)
    _shard(out, 1).unlink()

    class Stopped(sources.FolderImages):
        def __getitem__(self, position):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(encoder, Stopped(folder), out)
    names = {path.name for path in out.iterdir()}
    assert not names & {"manifest.json", "results.csv", "dataset_info.json"}
    with pytest.raises(InputError, match="no finished extraction"):
        extraction.read_descriptors(out)


@RUNS
def test_other_devices_than_the_run_was_begun_on(run, encoder, folder, tmp_path):
    out = tmp_path / "out"
    run(encoder, sources.FolderImages(folder), out)
    before = _content(out)
    with pytest.raises(InputError, match=r"begun on 2 devices.*--cpu_devices=2") as said:
        run(encoder, sources.FolderImages(folder), out, devices=1, batch_size=0, shard_size=0)
    assert "batch_size 2" in str(said.value) and "not on 1 device as here" in str(said.value)
    assert _content(out) == before


def test_slots_that_were_halved_are_the_folders_from_then_on(
    encoder, folder, tmp_path, monkeypatch
):
    """The same command goes on in as many, whatever memory there is then."""
    source, out, half = sources.FolderImages(folder), tmp_path / "out", tmp_path / "half"
    advance = slot_programs.advance

    def full(state, *rest, **options):
        if len(state.status) > 4:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")
        return advance(state, *rest, **options)

    with monkeypatch.context() as patch, pytest.warns(RuntimeWarning, match="going on with 4"):
        patch.setattr(slot_programs, "advance", full)
        _invert(encoder, source, out, slots=8)
    facts = json.loads((out / "inversion.json").read_text())
    assert facts["slots"] == 8 and facts["slots_that_fit"] == 4
    whole = _results(out)
    _shard(out, 1).unlink()
    assert _invert(encoder, source, out, slots=8).new == SHARD
    assert _results(out) == whole
    _invert(encoder, source, half, slots=4)
    assert _shard(half, 0).read_bytes() == _shard(out, 0).read_bytes()
    facts["slots_that_fit"] = 16
    del facts["sha256_of_rest"]
    (out / "inversion.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match="slots_that_fit"):
        _invert(encoder, source, out, slots=8)


def test_slots_that_do_not_divide_are_refused_before_the_folder_is_theirs(
    encoder, folder, tmp_path
):
    _mesh(2)
    with pytest.raises(InputError, match="3 slots do not divide over 2 devices"):
        _invert(encoder, sources.FolderImages(folder), tmp_path / "out", slots=3)
    assert not (tmp_path / "out").exists()


def test_an_older_run_whose_sizes_do_not_divide_over_the_devices(encoder, folder, tmp_path):
    out, sizes = tmp_path / "out", {"batch_size": 3, "shard_size": 3}
    _extract(encoder, sources.FolderImages(folder), out, devices=1, **sizes)
    record = json.loads((out / "extraction.json").read_text())
    del record["devices"], record["sha256_of_rest"]
    (out / "extraction.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"with batch_size 3.*give --cpu_devices=1"):
        _extract(encoder, sources.FolderImages(folder), out, batch_size=0, shard_size=0)
    assert _extract(encoder, sources.FolderImages(folder), out, devices=1, **sizes).new == 0


def test_the_script_says_how_to_go_on_on_another_machine(folder, tmp_path):
    def run(devices, *sizes):
        flags = f"--images={folder}", f"--out={tmp_path / 'out'}", f"--cpu_devices={devices}"
        flags = *flags, "--encoder=compact-random-0", *sizes
        # As in test_extraction, whose programs serve here.
        return script_process.run("extract_descriptors", *flags, quick=False)

    assert run(2, "--batch_size=4", "--shard_size=8").returncode == 0
    refused = run(3)
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    said = refused.stderr.splitlines()[-1]
    assert said.startswith("error: ") and "begun on 2 devices, with batch_size 4" in said
    assert "give --cpu_devices=2" in said


class Rendered(sources.FolderImages):
    """As scenes rendered with photographs of facades: of the same recipe, not the same texels."""

    facades = "one"


def test_facades_of_other_contents_are_another_source(encoder, folder, tmp_path):
    _extract(encoder, Rendered(folder), tmp_path / "out")
    other = Rendered(folder)
    other.facades = "two"
    with pytest.raises(InputError, match="facades 'one', not 'two'.*the contents of --facades"):
        _extract(encoder, other, tmp_path / "out")


def test_descriptors_are_not_those_of_images_that_changed(encoder, folder, tmp_path):
    _extract(encoder, sources.FolderImages(folder), tmp_path / "out")
    before = _content(tmp_path / "out")
    copy = shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    extraction.check_images(tmp_path / "out", sources.FolderImages(copy))
    _replace(copy / "04.bmp", 77)
    with pytest.raises(InputError, match=r"04\.bmp is not the image any more that .*00002"):
        extraction.check_images(tmp_path / "out", sources.FolderImages(copy))
    (copy / "05.bmp").unlink()  # another list, which descriptors are found in by name
    extraction.check_images(tmp_path / "out", sources.FolderImages(copy))
    assert _content(tmp_path / "out") == before


@RUNS
@pytest.mark.parametrize("name", ["results.csv", "manifest.json", "run.json"])
def test_a_folder_with_somebody_elses_results_is_refused(run, name, encoder, folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("{}")
    with pytest.raises(InputError, match=f"holds {name} of another run"):
        run(encoder, sources.FolderImages(folder), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_file()] == [name]
