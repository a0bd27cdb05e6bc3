"""What damage to the files of a run, and to a stranger's files, can do: nothing but be refused.

Each is read right, or refused by one sentence that names it; a shard whose record or table is
damaged is not done.
"""

import importlib
import json
import math
import shutil
import warnings

import jax
import numpy as np
import pytest
import street_view_files
from damage import damaged_bytes, damaged_csv, damaged_json, refused, seeds, tried
from hypothesis import given
from jax.sharding import Mesh
from scipy.spatial.transform import Rotation

from posenet_jax.bulk import extraction_shards, inversion_shards, search
from posenet_jax.data import (
    colmap,
    photograph_cameras,
    street_view,
    street_view_pairs,
    tfds_builder,
)
from posenet_jax.data.traces import TracedSource
from posenet_jax.errors import InputError
from posenet_jax.io import files, run_files
from posenet_jax.shards import descriptor_shards, reconstruction_shards
from posenet_jax.shards.descriptor_shards import Shard
from posenet_jax.shards.folder import ShardFolder
from posenet_jax.shards.plan import ShardPlan
from posenet_jax.training import training_loop

MESH = Mesh(np.asarray(jax.devices()[:1]), ("images",))
UNTRACED = TracedSource(())
PLAN = ShardPlan(images=10, batch_size=2, shard_size=4)
LEFT_OUT = [{"name": "bad.png", "reason": "bad.png: damaged"}]


def _stranger_s(folder, name, content, rng):
    """Damage under which the JSON file's checksum would still be right, as one who wrote it has."""
    damaged = damaged_json(content, rng)
    try:
        damaged = json.dumps(run_files.checksummed(json.loads(damaged))).encode()
    except (ValueError, TypeError, RecursionError):
        pass
    (folder / name).write_bytes(damaged)


# Folders of shards ------------------------------------------------------------------------------

_IDENTITY = {
    "layer": "fc5",
    "preprocessing": {"size": 100, "means": [1.0, 2.0, 3.0]},
    "images": PLAN.images,
    "format": "safetensors",
    "batch_size": 0,
    "shard_size": 0,
}
_SIZES = {"batch_size": PLAN.batch_size, "shard_size": PLAN.shard_size}


def written_extraction(path, file_format="safetensors", left_out=0):
    """(folder, its records) of a finished extraction of ten images of which the last are left out.

    Image i of shard s is called str(i), and its descriptor is the next [5] of seed s.
    """
    folder = ShardFolder(path, "extraction", "0-of-1")
    wanted = _IDENTITY | {"format": file_format}
    folder.path.mkdir(exist_ok=True)
    folder.agreed(wanted, _SIZES, MESH)
    identity = wanted | _SIZES | {"shape": [5], "dtype": "float32", "weights": "a"}
    for number in range(PLAN.shards):
        names = [str(i) for i in range(4 * number, min(4 * number + 4, 10 - left_out))]
        rows = np.random.default_rng(number).normal(size=(len(names), 5)).astype(np.float32)
        pixels = 10_000 * len(names)
        failures = LEFT_OUT * left_out if number == PLAN.shards - 1 else []
        facts = {"pixels": pixels, "channel_sums": [pixels] * 3, "left_out": failures}
        extraction_shards.write(folder, identity, PLAN, UNTRACED, number, Shard(names, rows), facts)
    pending, records = extraction_shards.pending(folder, identity, PLAN, range(PLAN.shards))
    assert not pending
    extraction_shards.write_manifest(folder, identity, list(records.values()))
    return folder, list(records.values())


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    return written_extraction(tmp_path_factory.mktemp("extracted"), left_out=1)


@given(seeds)
@tried(80)
def test_a_damaged_record_is_of_a_shard_not_done(extracted, rng):
    folder, records = extracted
    number = rng.randrange(PLAN.shards)
    path = folder.path / "records" / f"{records[number]['file']}.json"
    whole = path.read_bytes()
    by_chance = rng.random() < 0.5
    try:
        if by_chance:
            path.write_bytes(damaged_bytes(whole, rng))
        else:
            _stranger_s(path.parent, path.name, records[number], rng)
        pending, done = refused(
            lambda: extraction_shards.pending(folder, _IDENTITY, PLAN, range(PLAN.shards)), path
        )
    finally:
        path.write_bytes(whole)
    assert pending in ([], [number]) and len(done) == PLAN.shards - len(pending)
    if by_chance and not pending:
        assert done[number].items() >= records[number].items()
    for record in done.values():
        pixels = 10_000 * record["images"]
        assert record["pixels"] == pixels and max(record["channel_sums"]) <= 255 * pixels


@pytest.fixture(scope="module")
def inverted(tmp_path_factory):
    """(folder, records) of a bulk inversion of ten images, twice each; the last left out."""
    folder = ShardFolder(tmp_path_factory.mktemp("inverted"), "inversion", "0-of-1")
    for number in range(PLAN.shards):
        images = [
            reconstruction_shards.InvertedImage(
                i, f"{i}.png", np.zeros((2, 8, 8, 3), np.uint8),
                [{"steps": 3, "status": "converged", "relative_loss": 0.25 / (i + 1)}] * 2,
            )
            for i in range(4 * number, min(4 * number + 4, 9))
        ]  # fmt: skip
        left_out = LEFT_OUT if number == PLAN.shards - 1 else []
        inversion_shards.write_images(folder, PLAN, number, "fc5", images, left_out)
    pending, records = inversion_shards.pending(folder, PLAN, range(PLAN.shards))
    assert not pending
    return folder, list(records.values())


@given(seeds)
@tried(80)
def test_a_damaged_table_is_of_a_shard_not_done(inverted, rng):
    folder, records = inverted
    number = rng.randrange(PLAN.shards)
    path = folder.path / reconstruction_shards.table_file(records[number]["file"])
    whole = path.read_bytes()
    damage = damaged_csv if rng.random() < 0.5 else damaged_bytes
    path.write_bytes(damaged := damage(whole, rng))
    try:
        pending, _ = inversion_shards.pending(folder, PLAN, range(PLAN.shards))
    finally:
        path.write_bytes(whole)
    assert pending == ([] if damaged == whole else [number])


@given(seeds)
@tried(40)
def test_a_stranger_s_record_of_an_inversion_is_of_its_kind(inverted, rng):
    folder, records = inverted
    path = folder.path / "records" / f"{records[1]['file']}.json"
    whole = path.read_bytes()
    try:
        _stranger_s(path.parent, path.name, records[1], rng)
        pending, done = inversion_shards.pending(folder, PLAN, range(PLAN.shards))
    finally:
        path.write_bytes(whole)
    assert pending in ([], [1])
    for record in done.values():
        assert reconstruction_shards.features((8, 8, 3), 2, record["figures"])


def test_a_missing_table_or_one_that_is_a_folder_is_of_a_shard_not_done(inverted, tmp_path):
    copy = ShardFolder(tmp_path / "copy", "inversion", "0-of-1")
    shutil.copytree(inverted[0].path, copy.path)
    tables = [copy.path / reconstruction_shards.table_file(r["file"]) for r in inverted[1]]
    for table in tables[:2]:
        table.unlink()
    tables[1].mkdir()
    assert inversion_shards.pending(copy, PLAN, range(PLAN.shards))[0] == [0, 1]


def test_records_without_checksum_and_digest_are_those_of_earlier_versions(inverted, tmp_path):
    copy = ShardFolder(tmp_path / "copy", "inversion", "0-of-1")
    shutil.copytree(inverted[0].path, copy.path)
    for record in inverted[1]:
        earlier = {name: value for name, value in record.items() if name != "table_sha256"}
        (copy.path / "records" / f"{record['file']}.json").write_text(json.dumps(earlier))
    assert inversion_shards.pending(copy, PLAN, range(PLAN.shards))[0] == []


@given(seeds)
@tried(80)
def test_what_a_folder_is_of_is_read_right_or_refused(extracted, rng):
    """KIND.json; sizes that nobody asked for are no reason for much memory."""
    folder, _ = extracted
    path = folder.path / "extraction.json"
    whole = path.read_bytes()
    chosen = _IDENTITY | _SIZES
    wanted = chosen if rng.random() < 0.5 else _IDENTITY
    by_chance = rng.random() < 0.5
    try:
        if by_chance:
            path.write_bytes(damaged_bytes(whole, rng))
        else:
            _stranger_s(folder.path, path.name, chosen, rng)
        found = refused(lambda: folder.agreed(wanted, _SIZES, MESH), folder.path)
    finally:
        path.write_bytes(whole)
    if isinstance(found, InputError):
        return
    identity, plan = found
    assert {name: identity[name] for name in _IDENTITY if name not in _SIZES} == {
        name: value for name, value in _IDENTITY.items() if name not in _SIZES
    }
    assert all(type(size) is int and 0 < size <= 2**17 for size in plan)
    if by_chance or wanted is chosen:
        assert plan == PLAN


@pytest.mark.parametrize("size", [0, -4, 2**17 + 4, 2**40, 4.0, True, "4", None, [4]])
@pytest.mark.parametrize("name", _SIZES)
def test_a_size_that_nobody_asked_for_is_small(tmp_path, size, name):
    folder = ShardFolder(tmp_path, "extraction", "0-of-1")
    folder.write_json("extraction.json", _IDENTITY | _SIZES | {name: size})
    with pytest.raises(InputError, match=rf"extraction\.json cannot be used: {name} is"):
        folder.agreed(_IDENTITY, _SIZES, MESH)


def test_a_size_that_was_asked_for_may_be_large(tmp_path):
    folder = ShardFolder(tmp_path, "extraction", "0-of-1")
    wanted = _IDENTITY | {"batch_size": 2**20, "shard_size": 2**20}
    assert folder.agreed(wanted, _SIZES, MESH) == folder.agreed(wanted, _SIZES, MESH)
    with pytest.raises(InputError, match="batch_size is 1048576, not a whole number from 1 to"):
        folder.agreed(_IDENTITY, _SIZES, MESH)


@given(seeds)
@tried(60)
def test_a_bit_of_a_shard_is_missed(extracted, rng):
    """Safetensors has no checksums of its own."""
    folder, records = extracted
    path = folder.path / rng.choice(records)["file"]
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
    found = descriptor_shards.read_descriptors(folder.path).descriptors
    path.write_bytes(flipped)
    try:
        with pytest.raises(InputError, match=f"{path.name}: not a readable shard .another content"):
            list(found)
    finally:
        path.write_bytes(whole)


def test_a_shard_of_another_size_is_named_before_anything_is_read(extracted, tmp_path):
    shutil.copytree(extracted[0].path, tmp_path / "copy")
    path = tmp_path / "copy" / extracted[1][1]["file"]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=f"{path.name}: not a readable shard .215 bytes, written"):
        descriptor_shards.read_descriptors(tmp_path / "copy")
    path.unlink()
    with pytest.raises(InputError, match=f"{path.name}: not a readable shard .0 bytes"):
        descriptor_shards.read_descriptors(tmp_path / "copy")


def test_a_folder_in_place_of_its_file_is_named(extracted, tmp_path):
    copy = ShardFolder(tmp_path / "copy", "extraction", "0-of-1")
    shutil.copytree(extracted[0].path, copy.path)
    for name in ("extraction.json", "manifest.json"):
        (copy.path / name).unlink()
        (copy.path / name).mkdir()
    with pytest.raises(InputError, match=r"extraction\.json is not a file"):
        copy.agreed(_IDENTITY, _SIZES, MESH)
    with pytest.raises(InputError, match=r"manifest\.json is not a file"):
        descriptor_shards.read_descriptors(copy.path)


@given(seeds)
@tried(100)
def test_a_manifest_is_read_right_or_refused(extracted, rng):
    folder, _ = extracted
    path = folder.path / "manifest.json"
    whole = path.read_bytes()
    content = json.loads(whole)
    del content["sha256_of_rest"]
    by_chance = rng.random() < 0.4

    def read():
        found = descriptor_shards.read_descriptors(folder.path)
        return list(found.names), np.stack(list(found.descriptors)), found.channel_means

    try:
        if by_chance:
            path.write_bytes(damaged_bytes(whole, rng))
        else:
            _stranger_s(folder.path, path.name, content, rng)
        found = refused(read, folder.path)
    finally:
        path.write_bytes(whole)
    if not isinstance(found, InputError):
        names, rows, means = found
        assert names == [str(i) for i in range(9)] and rows.shape == (9, 5)
        assert all(math.isfinite(mean) for mean in means)
        assert not by_chance or means == (1.0, 1.0, 1.0)


# Tables -----------------------------------------------------------------------------------------


def _table(path, rows):
    files.write_csv(path, rows)
    return path, path.read_bytes()


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    numbers = dict.fromkeys(search.measure_names(), 0.5)
    results = [{"position": i, "image": f"{i}.png", **numbers, "status": "ok"} for i in range(6)]
    metrics = [{"step": 50 * i, "loss": 1.0 / (i + 1), "train_mse": None} for i in range(5)]
    return {
        "results": _table(folder / "results.csv", results),
        "metrics": _table(folder / "metrics.csv", metrics),
    }


def _spoil(table, rng):
    path, whole = table
    damage = damaged_csv if rng.random() < 0.6 else damaged_bytes
    path.write_bytes(damage(whole, rng))
    return path


@given(seeds)
@tried(60)
def test_results_of_a_search_are_numbers_or_refused(tables, rng):
    path = _spoil(tables["results"], rng)
    found = refused(lambda: search.read_measures(path, 3), path)
    if not isinstance(found, InputError):
        assert set(found) == {*search.measure_names(), "not_finite"}
        assert all(column.shape == (3,) for column in found.values())
        assert np.isfinite(search.score(found)).all()


@given(seeds)
@tried(60)
def test_a_log_of_training_is_numbers_or_refused(tables, rng):
    path = _spoil(tables["metrics"], rng)
    found = refused(lambda: training_loop.read_metrics(path, ("step", "loss")), path)
    if not isinstance(found, InputError):
        assert {"step", "loss"} <= set(found) and len({len(each) for each in found.values()}) == 1


@given(seeds)
@tried(8)
def test_a_training_goes_on_after_the_log_or_refuses_it(tables, tmp_path_factory, rng):
    path = _spoil(tables["metrics"], rng)
    importlib.import_module("tensorboardX")  # whose memory is not the log's
    workdir = tmp_path_factory.mktemp("workdir")
    shutil.copy(path, workdir / "metrics.csv")
    before = (workdir / "metrics.csv").read_bytes()
    log = refused(lambda: training_loop.MetricLog(workdir, 100), workdir / "metrics.csv")
    if isinstance(log, InputError):
        assert (workdir / "metrics.csv").read_bytes() == before
    else:
        log.write(150, {"loss": 0.1})
        log.close()
        steps = training_loop.read_metrics(workdir / "metrics.csv")["step"]
        assert steps[-1] == 150 and (steps[:-1] <= 100).all()


# Cameras ----------------------------------------------------------------------------------------

_CAMERA = "\n".join([
    "2759.48 0 1520.69", "0 2764.16 1006.81", "0 0 1", "0 0 0",
    *(" ".join(f"{v:.6f}" for v in row) for row in Rotation.from_euler("y", 0.4).as_matrix()),
    "-19.63 -3.81 -0.0078", "3072 2048", "",
])  # fmt: skip
_NUMBERS = ("nan", "inf", "-inf", "1e400", "1e300", "-1e30", "1e15", "0", "-1", "1e-300", "1_0",
            "9" * 5000, "x", "0.5", "٣")  # fmt: skip


def _other_number(text, rng):
    words = text.split(" ")
    words[rng.randrange(len(words))] = rng.choice(_NUMBERS)
    return " ".join(words)


@given(seeds)
@tried(120)
def test_a_camera_file_is_a_camera_or_refused(tmp_path_factory, rng):
    path = tmp_path_factory.getbasetemp() / "a.png.camera"
    lines = [rng.choice((line, line, _other_number(line, rng))) for line in _CAMERA.split("\n")]
    text = "\n".join(lines).encode()
    path.write_bytes(text if rng.random() < 0.6 else damaged_bytes(text, rng))
    image = np.full((20, 30, 3), 77, np.uint8)

    def read():
        camera = photograph_cameras.read_camera(path)
        photograph_cameras.check_shape(path, image, camera)
        return camera, photograph_cameras.square_frame(image, camera, photograph_cameras.FRAME, 10)

    found = refused(read, path)
    if not isinstance(found, InputError):
        camera, frame = found
        assert (frame == 77).all() and np.isfinite(camera.centre).all()
        assert np.linalg.det(camera.rotation) == pytest.approx(1.0, abs=0.01)
        assert 0.005 < camera.calibration[0, 0] / max(camera.width, camera.height) < 10


@given(seeds)
@tried(120)
def test_a_colmap_model_is_cameras_or_refused(tmp_path_factory, rng):
    folder = tmp_path_factory.mktemp("colmap", numbered=True)
    good = {
        "cameras.txt": "1 PINHOLE 300 200 250 250 150 100\n",
        "images.txt": "1 1 0 0 0 1 2 3 1 a.png\n1 2 3\n2 0 1 0 0 1 2 3 1 b.png\n\n",
    }
    for name, text in good.items():
        lines = [rng.choice((line, _other_number(line, rng))) for line in text.split("\n")]
        changed = "\n".join(lines).encode()
        (folder / name).write_bytes(changed if rng.random() < 0.5 else damaged_bytes(changed, rng))
    found = refused(lambda: colmap.read_model(folder), folder)
    if not isinstance(found, InputError):
        for camera in found.values():
            assert np.isfinite(camera.centre).all() and camera.width > 0 < camera.height
            assert np.linalg.det(camera.rotation) == pytest.approx(1.0, abs=1e-6)


def test_a_frame_much_larger_than_its_photograph_is_not_held(tmp_path):
    camera = photograph_cameras.PhotographCamera(
        np.array([[3000.0, 0, 150], [0, 3000, 100], [0, 0, 1]]), np.eye(3), np.zeros(3), 300, 200
    )
    image = np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8)
    found = refused(
        lambda: photograph_cameras.square_frame(image, camera, photograph_cameras.FRAME, 50),
        tmp_path,
    )
    assert found.shape == (50, 50, 3)


@given(seeds)
@tried(120)
def test_a_file_of_3d_street_view_is_a_camera_or_refused(tmp_path_factory, rng):
    folder = tmp_path_factory.getbasetemp() / "street_view"
    folder.mkdir(exist_ok=True)
    path = street_view_files.write_view(
        folder, picture=False, alignment=street_view_files.ALIGNMENT if rng.random() < 0.5 else None
    )
    path.touch()
    text = path.with_suffix(".txt")
    whole = text.read_text()
    words = _other_number(whole, rng).encode() if rng.random() < 0.6 else whole.encode()
    text.write_bytes(words if rng.random() < 0.6 else damaged_bytes(words, rng))

    def read():
        (found,) = street_view.scan_folder(folder)
        if isinstance(found, InputError):
            raise found
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of numbers that float32 does not hold
            return found, tfds_builder._street_view_record(found)

    found = refused(read, text)
    if not isinstance(found, InputError):
        image, record = found
        numbers = [v for n, v in record.items() if n != "patch_centre" and not isinstance(v, str)]
        assert all(np.isfinite(number).all() for number in numbers)
        assert abs(np.linalg.norm(image.normal) - 1.0) < 1e-9 and image.target_name == "6/20"


@given(seeds)
@tried(40)
def test_a_list_of_pairs_is_pairs_or_refused(tmp_path_factory, rng):
    path = tmp_path_factory.getbasetemp() / "pairs.txt"
    path.write_bytes(damaged_bytes(b"a_1.jpg b_1.jpg 1\nc_2.jpg d_4.jpg 0\n" * 3, rng))
    found = refused(lambda: street_view_pairs.read_matching_list(path), path)
    if not isinstance(found, InputError):
        assert len(found.names) == len(found.matching) >= 1
        assert all(str(path) in str(failure) for failure in found.failures)


def test_a_camera_file_that_is_huge_or_no_file_is_refused(tmp_path):
    path = street_view_files.write_view(tmp_path)
    text = path.with_suffix(".txt")
    with text.open("ab") as file:
        file.truncate(2**24)
    with pytest.raises(InputError, match="too large for a file of this kind"):
        street_view.read_metadata(path)
    with pytest.raises(InputError, match="too large for a file of this kind"):
        photograph_cameras.read_camera(text)
    text.unlink()
    text.mkdir()
    with pytest.raises(InputError, match="not a file"):
        street_view.read_metadata(path)
