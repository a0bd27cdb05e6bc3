"""Extraction against plain loops; killed at random moments; shared; given bad files."""

import json
import os
import random
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import script_process
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader
from PIL import Image
from safetensors.numpy import load_file

from posenet_jax.bulk import extraction
from posenet_jax.data.sources import FolderImages, NamedImage
from posenet_jax.encoders import weights
from posenet_jax.errors import ImageError, InputError

pytestmark = pytest.mark.optimised

COUNT = 29
SMALL = {"batch_size": 4, "shard_size": 8}
FORMATS = ["array_record", "safetensors"]


@pytest.fixture(scope="module")
def encoder():
    return weights.load_encoder("compact-random-0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """29 PNGs of the network's size, in two folders."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "sub").mkdir()
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        coarse = rng.integers(0, 256, (5, 5, 3)).astype(np.uint8)
        name = f"sub/{number:03d}.png" if number % 3 else f"{number:03d}.png"
        Image.fromarray(coarse).resize((100, 100)).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def damaged(folder, tmp_path_factory):
    """The same with a file cut short in the first shard and one of text in the last."""
    copy = tmp_path_factory.mktemp("damaged")
    for name in _names(folder):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes((folder / name).read_bytes())
    bad = _names(copy)[2], _names(copy)[-1]
    (copy / bad[0]).write_bytes((copy / bad[0]).read_bytes()[:60])
    (copy / bad[1]).write_text("this is not a picture")
    return copy, bad


def _names(folder) -> list[str]:
    return sorted(os.fspath(path.relative_to(folder)) for path in folder.rglob("*.png"))


def _pixels(folder, names) -> np.ndarray:
    """[N, 100, 100, 3] by Pillow."""
    return np.stack([np.asarray(Image.open(folder / name).convert("RGB")) for name in names])


def _expected(encoder, folder, layer="fc5") -> np.ndarray:
    """One image after another through the network itself."""
    phi = jax.jit(encoder.tap(layer))
    mean = np.array(encoder.preprocessing.means, np.float32)
    pixels = _pixels(folder, _names(folder))[..., ::-1].astype(np.float32) - mean
    return np.stack([np.asarray(phi(image)) for image in pixels])


def _extract(encoder, source, out, layer="fc5", *, progress=None, report=None, **options):
    config = extraction.ExtractionConfig(**(SMALL | options))
    source = source if hasattr(source, "fingerprint") else FolderImages(source)
    return extraction.extract(encoder, layer, source, out, config, progress=progress, report=report)


def _content(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {os.fspath(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("layer", ["fc5", "conv4"])
@pytest.mark.parametrize("file_format", FORMATS)
def test_descriptors_are_those_of_a_plain_loop(encoder, folder, tmp_path, file_format, layer):
    _extract(encoder, folder, tmp_path / "out", layer, file_format=file_format)
    read = extraction.read_descriptors(tmp_path / "out")
    expected = _expected(encoder, folder, layer)
    assert list(read.names) == _names(folder)
    assert read.descriptors.shape == expected.shape and read.descriptors.dtype == np.float32
    scale = np.abs(expected).max()
    np.testing.assert_allclose(np.stack(list(read.descriptors)), expected, atol=1e-5 * scale)


@pytest.mark.parametrize("file_format", FORMATS)
def test_reading_is_by_index_or_slice_across_shards(encoder, folder, tmp_path, file_format):
    _extract(encoder, folder, tmp_path, file_format=file_format)
    names, descriptors = extraction.read_descriptors(tmp_path)[:2]
    everything, every_name = np.stack(list(descriptors)), list(names)
    assert len(descriptors) == len(names) == COUNT
    for index in (0, 7, 8, COUNT - 1, -1, -COUNT):
        np.testing.assert_array_equal(descriptors[index], everything[index])
        assert names[index] == every_name[index]
    for cut in (slice(6, 18), slice(None), slice(3, 3), slice(1, 28, 5), slice(-4, None)):
        np.testing.assert_array_equal(descriptors[cut], everything[cut])
        assert names[cut] == every_name[cut]
    for index in (COUNT, -COUNT - 1):
        with pytest.raises(IndexError, match="29 descriptors"):
            descriptors[index]


def test_the_shards_can_be_read_by_others(encoder, folder, tmp_path):
    """By safetensors, by TFDS from its metadata, and as many ArrayRecord records as images."""
    for file_format in FORMATS:
        _extract(encoder, folder, tmp_path / file_format, file_format=file_format)
    shards = sorted((tmp_path / "safetensors").glob("*.safetensors"))
    expected = np.concatenate([load_file(path)["descriptor"] for path in shards])
    builder = tfds.builder_from_directory(tmp_path / "array_record")
    examples = list(builder.as_data_source("images"))
    np.testing.assert_array_equal(np.stack([e["descriptor"] for e in examples]), expected)
    assert [e["name"].decode() for e in examples] == _names(folder)
    files = sorted((tmp_path / "array_record").glob("*.array_record-*"))
    counts = [ArrayRecordReader(str(path)).num_records() for path in files]
    assert counts == [8, 8, 8, 5] and len(shards) == 4


def test_half_precision(encoder, folder, tmp_path):
    _extract(encoder, folder, tmp_path / "half", dtype="float16")
    _extract(encoder, folder, tmp_path / "full")
    half = extraction.read_descriptors(tmp_path / "half").descriptors
    full = extraction.read_descriptors(tmp_path / "full").descriptors
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half[:], full[:].astype(np.float16))
    loud = encoder.replace(params=jax.tree.map(lambda x: x * 30.0, encoder.params))
    with pytest.raises(InputError, match="not finite in float16"):
        _extract(loud, folder, tmp_path / "loud", dtype="float16")
    assert not list((tmp_path / "loud").glob("*array_record*"))


def test_channel_means_are_exact_and_add_up_over_shards(encoder, folder, tmp_path):
    _extract(encoder, folder, tmp_path)
    sums = _pixels(folder, _names(folder)).sum(axis=(0, 1, 2), dtype=np.int64)
    means = extraction.read_descriptors(tmp_path).channel_means
    assert list(means) == [int(total) / (COUNT * 10_000) for total in sums[::-1]]


@pytest.mark.parametrize("file_format", FORMATS)
def test_what_is_left_out_counts_nowhere(encoder, damaged, tmp_path, file_format):
    folder, bad = damaged
    told = []
    summary = _extract(encoder, folder, tmp_path, report=told.append, file_format=file_format)
    assert (summary.extracted, summary.left_out) == (COUNT - 2, 2)
    assert [name in sentence for name, sentence in zip(bad, told, strict=True)] == [True, True]
    good = [name for name in _names(folder) if name not in bad]
    sums = _pixels(folder, good).sum(axis=(0, 1, 2), dtype=np.int64)
    names, descriptors, means = extraction.read_descriptors(tmp_path)[:3]
    assert list(names) == good and len(descriptors) == len(good)
    assert list(means) == [int(total) / (len(good) * 10_000) for total in sums[::-1]]


def test_all_batches_have_one_shape_and_compile_once(encoder, folder, tmp_path):
    extraction._encode.clear_cache()
    _extract(encoder, folder, tmp_path / "a")
    _extract(encoder, folder, tmp_path / "b", shard_size=12)
    assert extraction._encode._cache_size() == 1


@pytest.mark.bytes
def test_processes_share_without_overlap(encoder, folder, tmp_path):
    _extract(encoder, folder, tmp_path / "alone")
    out = tmp_path / "shared"
    first = _extract(encoder, folder, out, process_index=0, process_count=2)
    assert not first.finished
    with pytest.raises(InputError, match="no finished extraction"):
        extraction.read_descriptors(out)
    before = _content(out)
    second = _extract(encoder, folder, out, process_index=1, process_count=2)
    assert second.finished and first.new + second.new == second.extracted == COUNT
    after = _content(out)
    assert all(after[name] == content for name, content in before.items())
    assert after == _content(tmp_path / "alone")


def test_a_finished_run_begun_again_does_nothing(encoder, damaged, tmp_path):
    folder, bad = damaged
    _extract(encoder, folder, tmp_path)
    before, told, counted = _content(tmp_path), [], []
    summary = _extract(encoder, folder, tmp_path, report=told.append, progress=counted.append)
    assert summary.new == 0 and summary.finished and summary.left_out == len(told) == len(bad)
    assert sum(counted) == COUNT and _content(tmp_path) == before


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.bytes
def test_a_run_stopped_anywhere_ends_as_if_it_had_not_been(encoder, damaged, tmp_path, file_format):
    folder, bad = damaged
    _extract(encoder, folder, tmp_path / "whole", file_format=file_format)
    for stop in (1, 3, 5, 7):
        out, seen, told = tmp_path / f"stopped-{stop}", [], []

        def count(number, stop=stop, seen=seen):
            seen.append(number)
            if len(seen) == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            _extract(encoder, folder, out, progress=count, file_format=file_format)
        _extract(encoder, folder, out, report=told.append, file_format=file_format)
        assert _content(out) == _content(tmp_path / "whole")
        assert [name in sentence for name, sentence in zip(bad, told, strict=True)] == [True] * 2


@pytest.mark.bytes
def test_runs_killed_at_random_moments_end_as_if_they_had_not_been(encoder, damaged, tmp_path):
    """And what one process writes another writes to the byte."""
    folder, _ = damaged
    _extract(encoder, folder, tmp_path / "whole")
    out, moments = tmp_path / "killed", random.Random(3)

    def start(seconds):
        arguments = folder, out, "array_record", seconds
        return script_process.start("extraction_child", *arguments, quick=False)

    unfinished = 0
    for _ in range(3):
        process = start(0.3)
        process.wait_for_lines(moments.randint(1, 3))
        time.sleep(moments.uniform(0.0, 0.2))
        process.kill()
        unfinished += not (out / "manifest.json").exists()
    # On a busy machine the last kill may come after the end.
    assert unfinished
    last = start(0.0).end()
    assert last.returncode == 0, last.stderr
    assert _content(out) == _content(tmp_path / "whole")


@pytest.mark.parametrize("file", ["*.array_record-00001-*", "records/*-00001-of-*.json"])
@pytest.mark.bytes
def test_a_shard_cut_short_or_whose_record_is_damaged_is_made_again(
    encoder, folder, tmp_path, file
):
    _extract(encoder, folder, tmp_path)
    before = _content(tmp_path)
    (path,) = tmp_path.glob(file)
    content = path.read_bytes()
    # Of the record: a digit more in the last number, a sum of pixels.
    path.write_bytes(content[:-10] if path.suffix != ".json" else content.replace(b"8,", b"88,"))
    assert _extract(encoder, folder, tmp_path).new == 8
    assert _content(tmp_path) == before


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_shard_overwritten_is_named_when_read(encoder, folder, tmp_path, file_format):
    _extract(encoder, folder, tmp_path, file_format=file_format)
    shard = sorted(tmp_path.glob(f"*.{file_format}*"))[1]
    shard.write_bytes(bytes(len(shard.read_bytes())))
    with pytest.raises(InputError, match=f"{shard.name}: not a readable shard"):
        list(extraction.read_descriptors(tmp_path).descriptors)


def test_a_folder_of_another_run_is_refused(encoder, folder, tmp_path):
    _extract(encoder, folder, tmp_path)
    before = _content(tmp_path)
    for change, named in [
        ({"dtype": "float16"}, "dtype 'float32', not 'float16'"),
        ({"file_format": "safetensors"}, "format"),
        ({"batch_size": 8}, "batch_size 4"),
        ({"shard_size": 16}, "shard_size 8"),
        ({"layer": "conv4"}, "layer 'fc5'"),
    ]:
        with pytest.raises(InputError, match=named):
            _extract(encoder, folder, tmp_path, **change)
    with pytest.raises(InputError, match="source"):
        _extract(encoder, folder / "sub", tmp_path)
    with pytest.raises(InputError, match="weights|encoder"):
        _extract(weights.load_encoder("compact-random-1"), folder, tmp_path)
    assert _content(tmp_path) == before
    (tmp_path / "extraction.json").write_text("{")
    with pytest.raises(InputError, match=r"extraction\.json"):
        _extract(encoder, folder, tmp_path)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"batch_size": 3, "shard_size": 9}, "batch_size"),
        ({"shard_size": 9}, "shard_size must be a multiple of batch_size"),
        ({"file_format": "csv"}, "file_format must be one of array_record, safetensors, not 'csv'"),
        ({"dtype": "int8"}, "dtype"),
        ({"process_index": 2, "process_count": 2}, "2 of 2"),
    ],
)
def test_options_without_sense(encoder, folder, tmp_path, options, named):
    if jax.device_count() == 1 and "batch_size" in options:
        pytest.skip("any number divides over one device")
    with pytest.raises(InputError, match=named):
        _extract(encoder, folder, tmp_path / "out", **options)
    assert not list((tmp_path / "out").glob("*.json"))


@pytest.mark.parametrize("content", [None, "", "{}", '{"format": "csv"}', "[1]", "null"])
def test_a_folder_without_descriptors(tmp_path, content):
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=str(tmp_path)):
        extraction.read_descriptors(tmp_path)


class Noise:
    """Images made from their position, one above another in none; it notes what is asked for."""

    fingerprint = "noise"

    def __init__(self, count, bad=(), error=ImageError):
        self._count, self._bad, self._error = count, bad, error
        self.asked = []
        self._lock = threading.Lock()

    def __len__(self):
        return self._count

    def name(self, position):
        return str(position)

    def __getitem__(self, position):
        with self._lock:
            self.asked.append(position)
        if position in self._bad:
            raise self._error(f"image {position} is bad")
        image = np.random.default_rng(position).integers(0, 256, (100, 100, 3)).astype(np.uint8)
        return NamedImage(str(position), image)


def test_reading_keeps_just_ahead_of_the_devices(encoder, tmp_path):
    source, done, ahead = Noise(240), [], []

    def count(number):
        done.append(number)
        ahead.append(len(source.asked) - sum(done))

    _extract(encoder, source, tmp_path, threads=2, progress=count)
    assert sorted(source.asked) == list(range(240))
    assert 4 <= max(ahead) <= 4 * 12  # some batches, however many images there are


def test_one_image_and_none_that_can_be_read(encoder, tmp_path):
    assert _extract(encoder, Noise(1), tmp_path / "one").extracted == 1
    for file_format in FORMATS:
        with pytest.raises(InputError, match="none of the 9 images could be read"):
            _extract(
                encoder, Noise(9, bad=range(9)), tmp_path / file_format, file_format=file_format
            )


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_shard_of_which_nothing_can_be_read(encoder, tmp_path, file_format):
    _extract(encoder, Noise(20, bad=range(8, 16)), tmp_path, file_format=file_format)
    names, descriptors = extraction.read_descriptors(tmp_path)[:2]
    assert list(names) == [str(n) for n in (*range(8), *range(16, 20))]
    assert descriptors[6:10].shape == (4, 512) and len(list(descriptors)) == 12


def test_an_error_that_is_no_fault_of_an_image_stops_the_run(encoder, tmp_path):
    with pytest.raises(RuntimeError, match="image 5 is bad"):
        _extract(encoder, Noise(9, bad=[5], error=RuntimeError), tmp_path)
    assert not list(tmp_path.glob("*array_record*"))
    assert _extract(encoder, Noise(9), tmp_path).finished


ENCODER = "--encoder=compact-random-0", "--cpu_devices=2"


def _script(*flags):
    return script_process.run("extract_descriptors", *flags, *ENCODER, quick=False)


@pytest.mark.bytes
def test_two_scripts_at_once_and_damaged_files_named_also_by_a_third(encoder, damaged, tmp_path):
    folder, bad = damaged
    out = tmp_path / "shared"
    flags = [f"--images={folder}", f"--out={out}", "--batch_size=4", "--shard_size=8"]
    script = "experiments.extract_descriptors", *flags, *ENCODER, "--process_count=2"
    shares = [
        script_process.start(*script, f"--process_index={index}", quick=False) for index in (0, 1)
    ]
    ends = [share.end() for share in shares]
    assert {end.returncode for end in ends} <= {0, 1}, ends
    _extract(encoder, folder, tmp_path / "alone")
    shared = _content(out)
    record = json.loads(shared.pop("run.json"))
    assert record["flags"]["layer"] == "fc5"
    assert shared == _content(tmp_path / "alone")
    left_out = json.loads(shared["manifest.json"])["left_out"]
    assert [failure["name"] for failure in left_out] == list(bad)

    third = _script(*flags)
    assert third.returncode == 1, third.stderr
    assert f"{COUNT - 2} of {COUNT} images" in third.stdout
    lines = [line for line in third.stderr.splitlines() if "left out: " in line]
    assert [name in line for name, line in zip(bad, lines, strict=True)] == [True, True]
    assert "Traceback" not in third.stderr


def test_the_script_exits_with_zero_or_one_sentence(folder, tmp_path):
    run = _script(f"--images={folder}", f"--out={tmp_path}/a", "--limit=5")
    assert run.returncode == 0 and "5 of 5 images" in run.stdout, run.stderr
    assert list(extraction.read_descriptors(tmp_path / "a").names) == _names(folder)[:5]
    refused = _script(f"--dataset={folder}", f"--out={tmp_path}/b")
    assert refused.returncode == 2 and "no data set" in refused.stderr, refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "b").exists()
