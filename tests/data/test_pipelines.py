"""Pipelines against plain loops: every item once an epoch, in an order that can be had again."""

import collections
import glob
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from drawn_scenes import build_set, drawn_examples, drawn_features
from PIL import Image

from posenet_jax.data import pipelines, sources
from posenet_jax.data.street_view_pairs import PairArrays
from posenet_jax.errors import ImageError, InputError
from posenet_jax.images import image_list
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.threads import map_in_threads

ROOT = Path(__file__).parents[2]
SPACE = Preprocessing(means=(0.0, 0.0, 0.0), size=8)


class Numbers:
    """Items that are their positions; those in `bad` cannot be used."""

    fingerprint = "numbers"

    def __init__(self, count=40, bad=()):
        self.count = count
        self.bad = bad
        self.asked = collections.Counter()

    def __len__(self):
        return self.count

    def __getitem__(self, position):
        self.asked[int(position)] += 1
        if position in self.bad:
            raise ImageError(f"item {position} is bad")
        return np.int64(position)


def _batches(source, report=None, **options):
    config = pipelines.PipelineConfig(**({"batch_size": 4, "epochs": 1} | options))
    return pipelines.Batches(source, lambda item: {"item": item}, config, report=report)


def _items(batches) -> list[int]:
    return [int(item) for batch in batches for item in batch["item"]]


# Order ------------------------------------------------------------------------------------------


def test_an_epoch_has_every_item_once_in_another_order_each_time():
    items = _items(_batches(Numbers(), epochs=3))
    epochs = [items[start : start + 40] for start in (0, 40, 80)]
    assert all(sorted(epoch) == list(range(40)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert all(epoch != sorted(epoch) for epoch in epochs)


def test_a_seed_is_an_order():
    first, again, other = (_items(_batches(Numbers(), seed=seed)) for seed in (7, 7, 8))
    assert first == again != other


def test_no_epoch_of_a_seed_is_an_epoch_of_the_next():
    """Grain numbers epochs by adding to the seed."""
    orders = [_items(_batches(Numbers(), seed=seed, epochs=2)) for seed in range(4)]
    epochs = [tuple(order[start : start + 40]) for order in orders for start in (0, 40)]
    assert len(set(epochs)) == 8


def test_without_a_seed_the_order_is_the_source_s():
    assert _items(_batches(Numbers(), seed=None, epochs=2)) == 2 * list(range(40))


def test_without_an_end_epochs_follow_one_another():
    batches = _batches(Numbers(6), epochs=None)
    items = [int(item) for _ in range(9) for item in next(batches)["item"]]
    assert collections.Counter(items) == {number: 6 for number in range(6)}


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_threads_do_not_change_the_order(threads):
    def slow(position):
        time.sleep(0.002 * (position % 5))
        return position

    config = pipelines.PipelineConfig(batch_size=4, epochs=1, threads=threads)
    batches = pipelines.Batches(Numbers(), lambda item: {"item": slow(item)}, config)
    assert _items(batches) == _items(_batches(Numbers()))


def test_the_last_batch_is_dropped_or_short():
    full = [len(batch["item"]) for batch in _batches(Numbers(10))]
    whole = [len(batch["item"]) for batch in _batches(Numbers(10), drop_remainder=False)]
    assert full == [4, 4] and whole == [4, 4, 2]


# Processes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_processes_share_each_epoch_without_gap_or_overlap(count):
    shares = [
        _items(
            _batches(
                Numbers(41),
                process_index=index,
                process_count=count,
                epochs=1,
                drop_remainder=False,
            )
        )
        for index in range(count)
    ]
    assert sorted(sum(shares, [])) == list(range(41))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_processes_share_later_epochs_too():
    shares = [
        _items(_batches(Numbers(40), process_index=index, process_count=2, epochs=2))
        for index in range(2)
    ]
    for start in (0, 20):
        epoch = [item for share in shares for item in share[start : start + 20]]
        assert sorted(epoch) == list(range(40))
    assert shares[0][:20] != shares[0][20:]


# State ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("taken_at", [0, 1, 3, 9, 10, 14])
def test_a_restored_pipeline_goes_on_where_it_was(taken_at):
    """In mid-epoch, at its end and in the next; through JSON."""
    source = Numbers(bad=(3, 17))
    batches = _batches(source, epochs=2)
    for _ in range(taken_at):
        next(batches)
    state = json.loads(json.dumps(batches.state()))
    rest = _items(batches)
    again = _batches(source, epochs=2)
    again.restore(state)
    assert _items(again) == rest
    batches.restore(state)  # the same iterator goes back
    assert _items(batches) == rest


_STOPPED = """
import json, sys
sys.path[:0] = ["tests/data", "tests/support"]
from test_pipelines import _batches, Numbers
batches = _batches(Numbers(), epochs=3)
with open(sys.argv[1], "w") as file:
    for _ in range(13):
        print(*next(batches)["item"], flush=True)
        file.seek(0), file.truncate(), json.dump(batches.state(), file), file.flush()
    input()
"""


def test_a_killed_process_s_state_continues_in_another(tmp_path):
    command = [sys.executable, "-c", _STOPPED, str(tmp_path / "state")]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    seen = [int(word) for _ in range(13) for word in process.stdout.readline().split()]
    time.sleep(0.1)
    process.kill()
    process.communicate()
    batches = _batches(Numbers(), epochs=3)
    batches.restore(json.loads((tmp_path / "state").read_text()))
    assert seen + _items(batches) == _items(_batches(Numbers(), epochs=3))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 1}, "seed 0, not 1"),
        ({"batch_size": 5}, "batch_size 4, not 5"),
        ({"process_count": 2}, "process_count 1, not 2"),
        ({"epochs": 2}, "epochs 1, not 2"),
    ],
)
def test_a_state_of_another_pipeline_is_refused(changes, words):
    state = _batches(Numbers()).state()
    with pytest.raises(InputError, match=words):
        _batches(Numbers(), **changes).restore(state)
    with pytest.raises(InputError, match="items 40, not 41"):
        _batches(Numbers(41)).restore(state)
    for nonsense in ({}, {"pipeline": 3}, {"iterator": {"next_index": 0}}):
        with pytest.raises(InputError, match="no state"):
            _batches(Numbers()).restore(nonsense)
    for damaged in (None, [], 3, {}, {"next_index": "4"}, {"next_index": -1}, {"next_index": 1e9}):
        with pytest.raises(InputError, match="state cannot be restored"):
            _batches(Numbers()).restore(state | {"iterator": damaged})


# Failures ---------------------------------------------------------------------------------------


def test_what_cannot_be_used_is_told_and_the_next_takes_its_place():
    reports: list[ImageError] = []
    source = Numbers(bad=(5, 6, 30))
    items = _items(_batches(source, reports.append, drop_remainder=False))
    assert sorted(items) == [n for n in range(40) if n not in (5, 6, 30)]
    assert sorted(map(str, reports)) == [f"item {number} is bad" for number in (30, 5, 6)]


def test_a_source_of_which_nothing_can_be_used_ends_endless_iteration():
    with pytest.raises(InputError, match="no image left.*is bad"):
        next(_batches(Numbers(bad=range(40)), epochs=None))


def test_an_empty_source_and_wrong_options():
    with pytest.raises(InputError, match="without items"):
        _batches(Numbers(0))
    with pytest.raises(ValueError, match="batch_size.*0"):
        pipelines.PipelineConfig(batch_size=0)
    with pytest.raises(ValueError, match="process_index.*2 of 2"):
        pipelines.PipelineConfig(batch_size=1, process_index=2, process_count=2)


def test_other_errors_are_not_swallowed():
    class Broken(Numbers):
        def __getitem__(self, position):
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        next(_batches(Broken()))


# Images -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(2)
    for number in range(11):
        path = folder / ("a" if number % 2 else "b.jpg") / f"{number:02d}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, (9 + number, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    (folder / "bad.jpg").write_text("no picture")
    (folder / ".hidden.png").write_text("")
    (folder / "notes.txt").write_text("")
    return folder


def test_images_of_a_folder_are_pillow_s(folder):
    config = pipelines.PipelineConfig(batch_size=11, seed=None, epochs=1)
    (batch,) = pipelines.Batches(sources.FolderImages(folder), pipelines.images(SPACE), config)
    names = sorted(os.path.relpath(path, folder) for path in folder.rglob("*/*.png"))
    for name, image in zip(names, batch["image"], strict=True):
        with Image.open(folder / name) as picture:
            expected = picture.resize((8, 8), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(image, np.asarray(expected))


def test_rendered_pairs_have_what_training_takes(tmp_path):
    tfds.disable_progress_bar()
    build_set(tmp_path, scenes=drawn_examples(10))
    examples = sources.DatasetExamples(tmp_path)
    transform = pipelines.rendered_pairs(SPACE)
    config = pipelines.PipelineConfig(batch_size=10, seed=None, epochs=1)
    (batch,) = pipelines.Batches(examples, transform, config)
    assert set(batch) == {*PairArrays._fields, "weight"}
    assert batch["image"].shape == (10, 2, 8, 8, 3) and batch["image"].dtype == np.uint8
    for row in range(10):
        number = int(examples.encoded(row)["name"].split("/")[-1])
        expected = drawn_features(number, 12)
        for name in ("rotation", "centre"):
            np.testing.assert_array_equal(batch[name][row], expected[name])
        np.testing.assert_array_equal(batch["normal"][row], expected["camera_normal"][0])
        assert batch["weight"][row] == float(number % 2 == 0)


# Lists of files ---------------------------------------------------------------------------------


def test_a_list_holds_the_files_that_a_glob_finds(folder):
    patterns = {
        folder: f"{folder}/**/*.???",
        f"{folder}/**/*.png": f"{folder}/**/*.png",
        f"{folder}/a/*": f"{folder}/a/*",
        folder / "a" / "01.png": f"{folder}/a/01.png",
    }
    for pattern, same in patterns.items():
        found = image_list.list_images(pattern)
        paths = {found.path(position) for position in range(len(found))}
        files = {Path(name) for name in glob.glob(same, recursive=True) if os.path.isfile(name)}
        assert paths == files - {folder / "notes.txt"}
        names = [found.name(position) for position in range(len(found))]
        assert names == sorted(names) and len(set(names)) == len(names)


def test_a_list_knows_its_content_and_not_its_place(folder, tmp_path):
    copy = tmp_path / "copy"
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            target = copy / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    original, same = image_list.list_images(folder), image_list.list_images(copy)
    assert original.fingerprint == same.fingerprint
    (copy / "bad.jpg").write_text("another size")
    assert image_list.list_images(copy).fingerprint != original.fingerprint
    assert image_list.list_images(folder, limit=3).fingerprint != original.fingerprint
    assert len(image_list.list_images(folder, limit=3)) == 3
    with pytest.raises(IndexError, match="12 of a list of 12"):
        original.path(12)


def test_names_that_are_not_utf8_and_names_with_line_breaks(tmp_path):
    names = [b"a\xff.png", b"b\n.png", "é.png".encode()]
    for name in names:
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            Image.new("RGB", (4, 4)).save(file, format="PNG")
    images = sources.FolderImages(tmp_path)
    assert [images[position].image.shape for position in range(3)] == [(4, 4, 3)] * 3
    assert [images.name(position) for position in range(3)] == ["a\ufffd.png", "b\n.png", "é.png"]


@pytest.mark.parametrize("nowhere", ["", "nowhere", "*.png"])
def test_where_no_image_is_one_sentence_says_so(tmp_path, nowhere):
    with pytest.raises(InputError, match="no such file|no images"):
        image_list.list_images(tmp_path / nowhere)


def test_a_list_of_many_files_is_small():
    names = [b"%07d.jpg" % number for number in range(200_000)]
    held = image_list.ImageList("", names)
    assert sum(map(len, names)) + held._ends.nbytes + held.times.nbytes == 200_000 * (11 + 8 + 16)
    assert held.name(123_456) == "0123456.jpg"


# Threads and waiting ----------------------------------------------------------------------------


def test_a_map_in_threads_keeps_order_and_does_not_run_ahead():
    asked: list[int] = []

    def items():
        for number in range(100):
            asked.append(number)
            yield number

    results = map_in_threads(lambda n: n * n, items(), threads=2)
    assert [next(results) for _ in range(10)] == [n * n for n in range(10)]
    assert len(asked) <= 10 + 4 * 2
    assert list(results) == [n * n for n in range(10, 100)]


def test_a_map_in_threads_raises_in_its_turn():
    def work(number):
        if number == 5:
            raise ValueError("five")
        return number

    results = map_in_threads(work, range(10), threads=3)
    assert [next(results) for _ in range(5)] == list(range(5))
    with pytest.raises(ValueError, match="five"):
        next(results)


class Result:
    """Result of a device that takes its time; what `jax.block_until_ready` waits for."""

    def __init__(self, seconds, after=None):
        self._ready = threading.Event()
        timer = threading.Timer(seconds, self._ready.set)
        timer.daemon = True
        timer.start()

    def block_until_ready(self):
        self._ready.wait()
        return self


def test_the_wait_is_the_time_between_a_result_and_the_next_step():
    wait = pipelines.DeviceWait()
    for _ in range(5):
        wait(Result, 0.03).block_until_ready()
        time.sleep(0.03)
    share = wait.share
    wait.close()
    # Four sleeps between five steps; a busy machine makes either longer.
    assert 0.2 < share < 0.75


def test_a_device_that_is_always_busy_does_not_wait():
    wait = pipelines.DeviceWait()
    assert wait.share == 0.0
    for _ in range(5):
        wait(Result, 0.2)
        time.sleep(0.01)
    share = wait.share
    wait.close()
    assert share == 0.0


def test_waiting_is_measured_on_jax_s_own_results():
    wait = pipelines.DeviceWait()
    double = jax.jit(lambda x: 2 * x)
    results = [wait(double, np.float32(n)) for n in range(3)]
    time.sleep(0.05)
    results.append(wait(double, np.float32(3)))
    assert [float(result) for result in results] == [0, 2, 4, 6]
    assert 0.0 < wait.share < 1.0
    wait.close()
