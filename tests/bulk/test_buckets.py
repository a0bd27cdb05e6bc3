"""Runs that read from a bucket and write to one: the results are those of runs on the disk.

The server is moto's, of S3, in this process; what a run sends it goes through the network.
"""

import csv
import dataclasses
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import script_process
from PIL import Image

from posenet_jax.bulk import bulk_inversion, extraction
from posenet_jax.data.sources import DatasetExamples, FolderImages
from posenet_jax.decoders import decoding
from posenet_jax.encoders import weights
from posenet_jax.errors import InputError, OutputError, Unreachable
from posenet_jax.images.image_list import list_images
from posenet_jax.inversion import recipes
from posenet_jax.io import files, output_folder

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

RECIPE = dataclasses.replace(recipes.CALIBRATED, steps=2)
# How often the runs of 64 images are killed, which take some minutes; without it there are none.
KILLS = int(os.environ.get("POSENET_KILLS", "0"))
SIZES = {"slots": 4, "batch_size": 2, "shard_size": 2}


@pytest.fixture(scope="module")
def photos(s3, tmp_path_factory):
    """Seven images of a folder, one of them none, and what a list leaves out: in a bucket too."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    names = ["b/1.png", "00.png", "b/0.JPG", "03.png", "bad.png", "x é.png", "b/c/2.png"]
    for name in [*names, ".hidden.png", ".hidden/0.png", "raw.cr2", "notes.txt"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (5, 5, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((100, 100)).save(folder / name, format="PNG")
    (folder / "bad.png").write_text("this is not a picture")
    _upload(s3, folder, "photos", "set")
    s3.put_object(Bucket="photos", Key="set/b/", Body=b"")  # as consoles mark folders
    return folder


@pytest.fixture(scope="module")
def encoder():
    return weights.load_encoder("compact-random-0")


def _upload(s3, folder: Path, bucket: str, prefix: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            s3.upload_file(str(path), bucket, f"{prefix}/{path.relative_to(folder)}")


def _names(s3, prefix: str) -> list[str]:
    found = s3.list_objects_v2(Bucket="runs", Prefix=f"{prefix}/")
    return [entry["Key"].removeprefix(f"{prefix}/") for entry in found.get("Contents", [])]


def _in_bucket(s3, prefix: str) -> dict[str, bytes]:
    return {
        name: s3.get_object(Bucket="runs", Key=f"{prefix}/{name}")["Body"].read()
        for name in _names(s3, prefix)
    }


def _on_disk(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {os.fspath(path.relative_to(folder)): path.read_bytes() for path in found}


def _check_same(in_bucket: dict[str, bytes], on_disk: dict[str, bytes], photos: Path) -> None:
    """All files are equal, but for the times of images and the place of one left out."""
    assert in_bucket.keys() == on_disk.keys()
    place = str(photos).encode()
    for name, content in on_disk.items():
        if "traces" in name:
            assert len(in_bucket[name]) == len(content)
        elif place in content:  # and its checksum
            ours, theirs = (json.loads(each[name]) for each in (in_bucket, on_disk))
            assert ours.pop("sha256_of_rest") != theirs.pop("sha256_of_rest")
            told = json.dumps(theirs).replace(str(photos), "s3://photos/set")
            assert json.dumps(ours) == told, name
        else:
            assert in_bucket[name] == content, name


def _invert(encoder, source, out, **changes):
    config = bulk_inversion.BulkConfig(**SIZES, **changes)
    return bulk_inversion.invert_all(encoder, "fc5", source, out, RECIPE, config, judge=encoder)


@pytest.fixture(scope="module")
def inverted(encoder, photos, tmp_path_factory):
    """The run on the disk."""
    out = tmp_path_factory.mktemp("inverted")
    _invert(encoder, FolderImages(photos), out)
    return out


@pytest.mark.parametrize("pattern", ["", "/", "/*.png", "/**/*.png", "/b", "/b/1.png"])
def test_a_bucket_is_listed_as_a_disk_is(photos, pattern):
    here, there = list_images(f"{photos}{pattern}"), list_images(f"s3://photos/set{pattern}")
    assert there.fingerprint == here.fingerprint and there.left_out == here.left_out
    for ask in ("name", "digest"):
        said = [[getattr(one, ask)(i) for i in range(len(one))] for one in (there, here)]
        assert said[0] == said[1] and len(said[0])


def test_a_copied_bucket_has_the_same_times_and_a_changed_image_others(s3, photos):
    times = list_images("s3://photos/set").times
    _upload(s3, photos, "photos", "copy")
    np.testing.assert_array_equal(list_images("s3://photos/copy").times, times)
    s3.upload_file(str(photos / "03.png"), "photos", "copy/00.png")
    changed = (list_images("s3://photos/copy").times != times).any(axis=1)
    assert changed.tolist() == [True] + [False] * 6


def test_what_is_not_there_is_said_in_a_sentence(photos):
    for pattern, sentence in {
        "s3://photos/none": "no images at s3://photos/none; ",
        "s3://no-such-bucket/x": "s3://no-such-bucket/x: cannot be listed (The specified bucket",
    }.items():
        with pytest.raises(InputError) as refused:
            list_images(pattern)
        assert str(refused.value).startswith(sentence)
    with pytest.raises(InputError, match="no weights 's3://runs/none.safetensors'"):
        weights.load_encoder("s3://runs/none.safetensors")
    with pytest.raises(InputError, match="s3://runs/none holds no finished extraction"):
        extraction.read_descriptors("s3://runs/none")


def test_weights_in_a_bucket(s3, encoder):
    weights.save_encoder("s3://runs/weights/net.safetensors", encoder, "float32")
    found = weights.load_encoder("s3://runs/weights/net.safetensors")
    assert (found.name, found.fingerprint) == ("net", encoder.fingerprint)
    decoder = decoding.load_decoder("streetnet-fc5")
    decoding.save_decoder("s3://runs/weights/decoder.safetensors", decoder)
    found = decoding.load_decoder("s3://runs/weights/decoder.safetensors")
    assert found.fingerprint == decoder.fingerprint


@pytest.mark.parametrize("file_format", ["array_record", "safetensors"])
def test_an_extraction_between_buckets(s3, encoder, photos, file_format, tmp_path):
    config = extraction.ExtractionConfig(batch_size=2, shard_size=4, file_format=file_format)
    out = f"s3://runs/{file_format}"
    here = extraction.extract(encoder, "fc5", FolderImages(photos), tmp_path, config)
    there = extraction.extract(encoder, "fc5", FolderImages("s3://photos/set"), out, config)
    assert there[:-1] == here[:-1] and here.finished
    _check_same(_in_bucket(s3, file_format), _on_disk(tmp_path), photos)
    read, expected = (extraction.read_descriptors(folder) for folder in (out, tmp_path))
    assert list(read.names) == list(expected.names) and read.names[4] == expected.names[4]
    np.testing.assert_array_equal(list(read.descriptors), list(expected.descriptors))


def test_two_processes_and_a_repair(s3, encoder, photos, tmp_path):
    """Each owns every other shard; a shard that lost its file is made anew, the others are not."""
    source, out = FolderImages("s3://photos/set"), "s3://runs/two"
    for index in (1, 0):
        share = {"process_index": index, "process_count": 2}
        assert _invert(encoder, source, out, pictures=True, **share).finished == (index == 0)
    whole = _in_bucket(s3, "two")
    _invert(encoder, FolderImages(photos), tmp_path, pictures=True)
    _check_same(whole, _on_disk(tmp_path), photos)
    s3.delete_object(Bucket="runs", Key="two/inversions-images.array_record-00001-of-00004")
    assert _invert(encoder, source, out, pictures=True).new == 2
    assert _in_bucket(s3, "two") == whole
    assert _invert(encoder, source, out, pictures=True).new == 0

    examples, expected = (DatasetExamples(folder) for folder in (out, tmp_path))
    names = [[found[i]["name"] for i in range(len(found))] for found in (examples, expected)]
    assert names[0] == names[1] and len(names[0]) == 6
    np.testing.assert_array_equal(examples[5]["image"], expected[5]["image"])


def test_two_runs_of_the_same_number_write_the_same_bytes(s3, encoder, photos, inverted):
    """There is no lock. The one that ends last began when nothing was there."""
    source, out = FolderImages("s3://photos/set"), "s3://runs/twice"
    inner = []

    def another(images: int) -> None:
        if not inner:
            inner.append(_invert(encoder, source, out))

    config = bulk_inversion.BulkConfig(**SIZES)
    summary = bulk_inversion.invert_all(
        encoder, "fc5", source, out, RECIPE, config, judge=encoder, progress=another
    )
    assert inner[0].finished and summary.finished and summary.new == inner[0].new == 6
    _check_same(_in_bucket(s3, "twice"), _on_disk(inverted), photos)


def _denied(s3, bucket: str, action: str, name: str) -> None:
    statement = {"Effect": "Deny", "Principal": "*", "Action": action}
    statement["Resource"] = f"arn:aws:s3:::{bucket}/{name}"
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))


def test_an_image_that_is_refused_for_now_is_not_left_out(s3, encoder, photos, inverted):
    _denied(s3, "photos", "s3:GetObject", "set/x*")
    source, out = FolderImages("s3://photos/set"), "s3://runs/denied"
    with pytest.raises(Unreachable, match="s3://photos/set/x é.png cannot be read .*the same comm"):
        _invert(encoder, source, out)
    s3.delete_bucket_policy(Bucket="photos")
    assert _invert(encoder, source, out).finished
    _check_same(_in_bucket(s3, "denied"), _on_disk(inverted), photos)


def test_a_bucket_that_is_closed_in_the_middle(s3, encoder, photos, inverted):
    """What is done stays, and the same call finishes the run when it is open again."""
    source, out = FolderImages("s3://photos/set"), "s3://runs/closing"
    config = bulk_inversion.BulkConfig(**SIZES)

    def close(images: int) -> None:
        if any(name.startswith("records/") for name in _names(s3, "closing")):
            _denied(s3, "runs", "s3:PutObject", "closing/*")

    with pytest.raises(OutputError, match="s3://runs/closing/.* cannot be written .*what is done"):
        bulk_inversion.invert_all(
            encoder, "fc5", source, out, RECIPE, config, judge=encoder, progress=close
        )
    s3.delete_bucket_policy(Bucket="runs")
    done = _names(s3, "closing")
    assert "manifest.json" not in done and any(name.startswith("records/") for name in done)
    assert 0 < _invert(encoder, source, out).new < 6
    _check_same(_in_bucket(s3, "closing"), _on_disk(inverted), photos)


def test_a_bucket_that_refuses_to_be_written_to(s3):
    s3.create_bucket(Bucket="closed")
    _denied(s3, "closed", "s3:PutObject", "*")
    for bucket, reason in {"closed": "Forbidden", "no-such-bucket": "bucket does"}.items():
        sentence = f"cannot write to the output folder s3://{bucket}/run .*{reason}"
        with pytest.raises(InputError, match=sentence):
            files.prepare_output(f"s3://{bucket}/run")
    with pytest.raises(InputError, match="s3://closed/t.csv cannot be written .*what is written"):
        files.write_csv("s3://closed/t.csv", [{"a": 1}])


def test_results_of_one_run_at_a_time_in_a_bucket(s3):
    """The folder of `invert` and of others: an earlier run's files go, somebody else's stay."""
    for names in (["a.png", "images/b.png"], ["a.png"]):
        out = output_folder.OutputFolder("s3://runs/pages", "a script", ["t.csv", *names])
        out.begin()
        files.write_csv(out.held("t.csv"), [{"files": len(names)}])
        out.write_record({})
        for name in names:
            files.write_png(out.path / name, np.zeros((2, 2, 3), np.uint8))
        assert out.finish(pytest.fail) == ""
        s3.put_object(Bucket="runs", Key="pages/images/mine.png", Body=b"mine")
    found = _in_bucket(s3, "pages")
    assert set(found) == {"a.png", "t.csv", "run.json", "images/mine.png"}
    assert found["t.csv"] == b"files\n1\n"
    with pytest.raises(InputError, match="s3://runs/pages holds a run of a script, not of another"):
        output_folder.OutputFolder("s3://runs/pages", "another", ["t.csv"])
    with pytest.raises(InputError, match="s3://runs/pages/images/mine.png is not known to be of"):
        output_folder.OutputFolder("s3://runs/pages", "a script", ["images/mine.png"])


def _flags(images: object, out: object) -> list[str]:
    names = {"encoder": "compact-random-0", "judge": "compact-random-0", "steps": 2}
    given = names | SIZES | {"cpu_devices": 2, "feature_networks": "", "images": images, "out": out}
    return ["experiments.bulk_invert", *(f"--{name}={value}" for name, value in given.items())]


def _killed(s3, command: list[str], prefix: str, records: int) -> None:
    """Runs a command until there are so many records of shards, and kills it."""
    child = script_process.start(*command)
    while child.at_work and len(_records(s3, prefix)) < records:
        time.sleep(0.02)
    child.kill()


def _records(s3, prefix: str) -> list[str]:
    return [name for name in _names(s3, f"{prefix}/records") if name.endswith(".json")]


def test_a_killed_script_in_a_bucket_ends_as_a_run_on_the_disk(s3, endpoint, photos, inverted):
    """Killed when its first shard is there; no image is lost and none is done twice."""
    command = ["bucket_child", endpoint, *_flags("s3://photos/set", "s3://runs/killed")]
    _killed(s3, command, "killed", 1)
    begun = _names(s3, "killed")
    assert "inversion.json" in begun and "manifest.json" not in begun
    run = script_process.start(*command).end()
    assert run.returncode == 1 and "Traceback" not in run.stderr, run.stderr
    assert "left out: s3://photos/set/bad.png: not an image" in run.stderr
    assert "6 of 7 images in s3://runs/killed, all shards done; " in run.stdout
    assert "; 6 of them" not in run.stdout
    found = _in_bucket(s3, "killed")
    assert json.loads(found.pop("metrics.json"))["images"] == 6
    assert json.loads(found.pop("run.json"))["flags"]["out"] == "s3://runs/killed"
    _check_same(found, _on_disk(inverted), photos)


@pytest.fixture(scope="module")
def many(s3, tmp_path_factory):
    """64 images, in a bucket too, and the run of them on the disk: (photos, run)."""
    if not KILLS:
        pytest.skip("minutes: POSENET_KILLS=5 says how often a run of 64 images is killed")
    photos, run = tmp_path_factory.mktemp("many"), tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    for number in range(64):
        coarse = rng.integers(0, 256, (5, 5, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((100, 100)).save(photos / f"{number:02d}.png")
    _upload(s3, photos, "photos", "many")
    assert script_process.start(*_flags(photos, run)).end().returncode == 0
    return photos, run


def _check_many(s3, prefix: str, photos: Path, run: Path) -> None:
    found, expected = _in_bucket(s3, prefix), _on_disk(run)
    for content in (found, expected):
        del content["run.json"]  # its flags, and how long it took
    _check_same(found, expected, photos)
    rows = found["results.csv"].decode().splitlines()
    assert len(rows) == 65 and len({row["image"] for row in csv.DictReader(rows)}) == 64


def test_sixty_four_images_in_a_bucket_killed_again_and_again(s3, endpoint, many):
    command = ["bucket_child", endpoint, *_flags("s3://photos/many", "s3://runs/many")]
    for kill in range(KILLS):
        _killed(s3, command, "many", 1 + 31 * kill // KILLS)
        assert "manifest.json" not in _names(s3, "many")
    run = script_process.start(*command).end()
    assert run.returncode == 0, run.stderr
    _check_many(s3, "many", *many)


def test_two_processes_at_once_into_one_bucket_one_of_them_killed(s3, endpoint, many):
    command = ["bucket_child", endpoint, *_flags("s3://photos/many", "s3://runs/pair")]
    shares = [[*command, "--process_count=2", f"--process_index={index}"] for index in (0, 1)]
    other = script_process.start(*shares[1])
    _killed(s3, shares[0], "pair", 6)
    assert other.end().returncode == 0
    assert script_process.start(*shares[0]).end().returncode == 0
    _check_many(s3, "pair", *many)


def test_where_no_bucket_can_be_none_is_taken_for_a_folder():
    refused = script_process.run("remake", "--run=demo", "--out=s3://runs/remade")
    assert refused.returncode == 2, refused
    said = "error: --out=s3://runs/remade must be a local path (paths in buckets are taken by "
    assert refused.stderr.startswith(said) and "--encoder" in refused.stderr
    assert refused.stderr.count("\n") == 1 and not Path(script_process.ROOT, "s3:").exists()
