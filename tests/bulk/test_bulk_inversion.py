"""Bulk inversion against the plain one; killed at random moments; shared; given bad files."""

import csv
import dataclasses
import errno
import json
import os
import random
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import script_process
import tensorflow_datasets as tfds
from bulk_images import COUNT
from jax.sharding import Mesh
from PIL import Image

from posenet_jax import metrics
from posenet_jax.bulk import bulk_inversion, extraction
from posenet_jax.bulk.bulk_inversion import BulkConfig
from posenet_jax.data.sources import DatasetExamples, DatasetImages, FolderImages
from posenet_jax.decoders import decoding
from posenet_jax.encoders import weights
from posenet_jax.errors import InputError
from posenet_jax.inversion import engine, recipes
from posenet_jax.shards.descriptor_shards import Descriptors
from posenet_jax.training.decoder_training import DecoderConfig, init_state, trained_decoder

pytestmark = pytest.mark.optimised

STEPS = 6
RECIPE = dataclasses.replace(recipes.CALIBRATED, steps=STEPS)
SMALL = {"restarts": 2, "slots": 4, "batch_size": 2, "shard_size": 4}
# The moments at which a run is killed; 20 take some minutes.
KILLS = int(os.environ.get("POSENET_KILLS", "2"))


@pytest.fixture(scope="module")
def encoder():
    return weights.load_encoder("compact-random-0")


@pytest.fixture(scope="module")
def whole(encoder, folder, tmp_path_factory):
    """An undisturbed run's folder."""
    out = tmp_path_factory.mktemp("whole")
    summary = _invert(encoder, folder, out, pictures=True)
    assert summary == (COUNT, COUNT, 0, True, COUNT)
    return out


def _invert(
    encoder, source, out, *, progress=None, report=None, recipe=RECIPE, decoder=None, **options
):
    source = FolderImages(source) if isinstance(source, Path) else source
    config = BulkConfig(**(SMALL | options))
    return bulk_inversion.invert_all(
        encoder,
        "fc5",
        source,
        out,
        recipe,
        config,
        judge=None if isinstance(source, Descriptors) else encoder,
        decoder=decoder,
        progress=progress,
        report=report,
    )


def _content(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {os.fspath(path.relative_to(folder)): path.read_bytes() for path in files}


def _rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "results.csv").read_text().splitlines()))


def _examples(folder: Path) -> list[dict]:
    return list(tfds.builder_from_directory(folder).as_data_source("images"))


@pytest.mark.bytes
def test_every_start_is_that_of_the_plain_inversion(encoder, folder, whole):
    """The first restart of image i is the engine's job in the same slot, to the byte.

    It is `engine.invert`'s i-th too, but in another slot: the same to rounding, which six steps
    of this steep encoder make a few grey levels of.
    """
    pixels = np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])
    tap, mesh = encoder.tap("fc5"), Mesh(np.asarray(jax.devices()), ("images",))
    padded = np.concatenate([pixels, np.zeros_like(pixels[:1])])
    parts = [extraction.encode(tap, padded[i : i + 2], mesh)[0] for i in range(0, COUNT, 2)]
    targets = np.concatenate(parts)[:COUNT]
    key = jax.random.key(0)
    firsts = [engine.Job(i, target, number=2 * i) for i, target in enumerate(targets)]
    alone = list(engine.run(tap, firsts, key=key, recipe=RECIPE, slots=4))
    pictures = np.asarray(encoder.preprocessing.to_image(np.stack([one.image for one in alone])))
    rows, examples = _rows(whole), _examples(whole)
    assert [row["image"] for row in rows[::2]] == [f"{i:02d}.png" for i in range(COUNT)]
    assert [(row["position"], row["restart"]) for row in rows] == [
        (str(i), str(r)) for i in range(COUNT) for r in range(2)
    ]
    first = rows[::2]
    np.testing.assert_array_equal(np.stack([e["image"][0] for e in examples]), pictures)
    assert [float(row["relative_loss"]) for row in first] == [one.relative_loss for one in alone]
    plain = engine.invert(tap, targets, key=key, recipe=RECIPE, slots=4)
    np.testing.assert_allclose([one.relative_loss for one in alone], plain.relative_loss, rtol=0.02)
    differences = np.abs(np.asarray(encoder.preprocessing.to_image(plain.image), int) - pictures)
    assert differences.max() <= 12 and np.mean(differences > 0) < 0.05
    seen = np.diagonal(metrics.luminance_correlations(jnp.asarray(pictures), jnp.asarray(pixels)))
    np.testing.assert_allclose(
        [float(row["luminance_correlation"]) for row in first],
        seen,
        rtol=1e-4,
        atol=1e-6,
    )
    # The encoder judges itself here, so both must say the same.
    for row in rows:
        judged, own = float(row["judge_relative_loss"]), float(row["picture_relative_loss"])
        assert judged == pytest.approx(own, rel=1e-3)
    starts = [row["relative_loss"] for row in rows]
    assert len(set(starts)) == 2 * COUNT


@pytest.mark.parametrize("recipe", [recipes.WARM, recipes.NATURAL], ids=lambda one: one.name)
def test_inversions_begin_with_a_decoders_images(recipe, encoder, folder, tmp_path):
    config = DecoderConfig()
    shape = decoding.descriptor_shape(encoder, "fc5")
    variables = init_state(config, shape, 0).variables
    decoder = trained_decoder(variables, jnp.float32(10.0), config, encoder, "fc5")
    recipe = dataclasses.replace(recipe, steps=1)
    summary = _invert(encoder, folder, tmp_path / "out", recipe=recipe, decoder=decoder)
    assert summary.finished and summary.inverted == COUNT
    again = _invert(encoder, folder, tmp_path / "out", recipe=recipe, decoder=decoder)
    assert again.finished and again.new == 0
    pixels = np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])
    space = encoder.preprocessing
    targets = encoder.tap("fc5").describe(pixels)
    expected = np.asarray(space.to_image(decoding.decode(decoder, targets))).astype(int)
    for example in _examples(tmp_path / "out"):
        for picture in example["image"]:  # both restarts: no noise is added
            assert np.abs(picture - expected[example["position"]]).max() <= 1
    other = weights.random_encoder("compact", seed=3)
    for wrong, words in ((None, "begins with a decoder's images"), (decoder, "decoder ''")):
        of = encoder if wrong is None else other
        with pytest.raises(InputError, match=words):
            _invert(of, folder, tmp_path / "no", recipe=recipe, decoder=wrong)


def test_tfds_reads_pictures_and_figures(whole):
    rows = _rows(whole)
    for number, example in enumerate(_examples(whole)):
        assert example["name"].decode() == f"{number:02d}.png" and example["position"] == number
        pictures = np.stack(example["image"]).astype(np.float64)
        np.testing.assert_allclose(example["mean"], pictures.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(example["deviation"], pictures.std(axis=0), rtol=1e-5, atol=1e-5)
        own = rows[2 * number : 2 * number + 2]
        for name in ("loss", "relative_loss", "luminance_correlation"):
            np.testing.assert_allclose(example[name], [float(row[name]) for row in own], rtol=1e-6)
        assert example["steps"].tolist() == [STEPS] * 2
        assert [s.decode() for s in example["status"]] == [row["status"] for row in own]
        for restart, picture in enumerate(example["image"]):
            file = whole / "images" / f"{number:06d}_{number:02d}.png.{restart}.png"
            np.testing.assert_array_equal(np.asarray(Image.open(file)), picture)
    again = DatasetImages(DatasetExamples(whole))
    assert len(again) == 2 * COUNT and again[3].name == "01.png/1"


@pytest.mark.bytes
def test_descriptors_alone_give_the_same_pictures(encoder, folder, whole, tmp_path):
    extraction.extract(
        encoder,
        "fc5",
        FolderImages(folder),
        tmp_path / "descriptors",
        extraction.ExtractionConfig(batch_size=2),
    )
    source = extraction.read_descriptors(tmp_path / "descriptors")
    _invert(encoder, source, tmp_path / "out")
    for alone, seen in zip(_examples(tmp_path / "out"), _examples(whole), strict=True):
        np.testing.assert_array_equal(np.stack(alone["image"]), np.stack(seen["image"]))
        assert alone["name"] == seen["name"] and "luminance_correlation" not in alone
    other = weights.load_encoder("compact-random-1")
    with pytest.raises(InputError, match="the descriptors come from weights"):
        _invert(other, source, tmp_path / "other")
    with pytest.raises(InputError, match="the descriptors come from layer 'fc5', not 'conv4'"):
        config = BulkConfig(**SMALL)
        bulk_inversion.invert_all(encoder, "conv4", source, tmp_path / "o", RECIPE, config)
    short = source._replace(descriptors=np.zeros((COUNT, 511), np.float32))
    with pytest.raises(InputError, match=r"have the shape \[511\], not \[512\]"):
        _invert(encoder, short, tmp_path / "short")


def test_an_extraction_damaged_is_named_and_the_run_goes_on_after_repair(encoder, folder, tmp_path):
    config = extraction.ExtractionConfig(batch_size=2, shard_size=4)
    extraction.extract(encoder, "fc5", FolderImages(folder), tmp_path / "descriptors", config)
    shard = sorted((tmp_path / "descriptors").glob("*.array_record*"))[1]
    content = shard.read_bytes()
    source = extraction.read_descriptors(tmp_path / "descriptors")
    _invert(encoder, source, tmp_path / "whole")
    shard.write_bytes(bytes(len(content)))
    source = extraction.read_descriptors(tmp_path / "descriptors")
    with pytest.raises(InputError, match=f"{shard.name}: not a readable shard"):
        _invert(encoder, source, tmp_path / "out")
    shard.write_bytes(content)
    source = extraction.read_descriptors(tmp_path / "descriptors")
    _invert(encoder, source, tmp_path / "out")
    assert _content(tmp_path / "out") == _content(tmp_path / "whole")


def test_what_is_left_out_counts_nowhere(encoder, damaged, tmp_path):
    """A file in the midst of a shard, and a shard of which nothing can be read."""
    folder, bad = damaged
    told = []
    summary = _invert(encoder, folder, tmp_path, report=told.append)
    assert summary == (COUNT, COUNT - 4, 4, True, COUNT - 4)
    assert [name in sentence for name, sentence in zip(bad, told, strict=True)] == [True] * 4
    good = [f"{i:02d}.png" for i in range(COUNT) if f"{i:02d}.png" not in bad]
    assert [row["image"] for row in _rows(tmp_path)[::2]] == good
    assert [example["name"].decode() for example in _examples(tmp_path)] == good
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert [failure["name"] for failure in manifest["left_out"]] == bad
    told.clear()
    assert _invert(encoder, folder, tmp_path, report=told.append).new == 0 and len(told) == 4


def test_nothing_that_can_be_read(encoder, damaged, tmp_path):
    folder, bad = damaged
    for name in bad:
        (tmp_path / "images" / name).parent.mkdir(exist_ok=True)
        shutil.copy(folder / name, tmp_path / "images" / name)
    with pytest.raises(InputError, match="none of the 4 images could be read"):
        _invert(encoder, tmp_path / "images", tmp_path / "out")


def test_an_image_that_is_not_finite_is_reported(encoder, folder, tmp_path):
    """At a rate beyond float32 every start ends so; the run ends all the same."""
    recipe = dataclasses.replace(RECIPE, learning_rate=1e38)
    summary = _invert(encoder, folder, tmp_path, recipe=recipe, restarts=1)
    assert summary.finished
    assert {(row["status"], row["starts"]) for row in _rows(tmp_path)} == {("not finite", "2")}


def test_images_that_need_few_steps_make_room_for_others(encoder, folder, tmp_path):
    recipe = dataclasses.replace(RECIPE, steps=40, tolerance=0.15, stop_early=True)
    counted = []
    _invert(encoder, folder, tmp_path, recipe=recipe, restarts=1, progress=counted.append)
    steps = [int(row["steps"]) for row in _rows(tmp_path)]
    assert min(steps) < 40 and sum(counted) == 40 * COUNT
    assert all(
        float(row["relative_loss"]) <= 0.15 for row in _rows(tmp_path) if row["steps"] < "40"
    )


@pytest.mark.bytes
def test_processes_share_without_overlap(encoder, folder, whole, tmp_path):
    for index in (1, 0):
        summary = _invert(
            encoder, folder, tmp_path, process_index=index, process_count=2, pictures=True
        )
        assert summary.finished == (index == 0)
    assert _content(tmp_path) == _content(whole)


@pytest.mark.bytes
def test_a_run_stopped_anywhere_ends_as_if_it_had_not_been(encoder, folder, whole, tmp_path):
    for stop in (1, 3, 8):
        out, seen, counted = tmp_path / f"{stop}", [], []

        def count(steps, stop=stop, seen=seen):
            seen.append(steps)
            if len(seen) == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            _invert(encoder, folder, out, progress=count, pictures=True)
        _invert(encoder, folder, out, progress=counted.append, pictures=True)
        assert _content(out) == _content(whole)
        assert sum(counted) == STEPS * 2 * COUNT


ALL_AT_ONCE = {
    "parameterisation": "fourier",
    "transforms": {"scale": 0.1, "jitter": 2},
    "group": 2,
    "diverse": 0.1,
}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        pytest.param("compact-random-0", {}, marks=pytest.mark.bytes),
        ("streetnet", {}),
        ("compact-random-0", ALL_AT_ONCE),
    ],
    ids=["compact", "streetnet", "groups-fourier-transforms"],
)
def test_runs_killed_at_random_moments_end_as_if_they_had_not_been(
    name, changes, folder, whole, tmp_path
):
    """None missing, none twice, every byte; what one process writes another writes too."""
    if name != "compact-random-0" or changes:
        whole, recipe = tmp_path / "whole", dataclasses.replace(RECIPE, **changes)
        _invert(weights.load_encoder(name), folder, whole, pictures=True, recipe=recipe)
    out, moments = tmp_path / "killed", random.Random(5)

    def start():
        return script_process.start(
            "bulk_child", name, folder, out, STEPS, json.dumps(changes), quick=False
        )

    unfinished, kills = 0, max(1, KILLS // 2) if changes else KILLS
    for kill in range(kills):
        process = start()
        # The later ones find less to do.
        process.wait_for_lines(moments.randint(0, max(1, 6 - 6 * kill // kills)))
        process.kill()
        unfinished += not (out / "manifest.json").exists()
    assert unfinished
    last = start().end()
    assert last.returncode == 0, last.stderr
    assert _content(out) == _content(whole)


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_when_there_is_room(
    encoder, folder, whole, tmp_path, monkeypatch
):
    room = [5]

    def fsync(descriptor):
        room[0] -= 1
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(InputError, match=r"No space left on device\); what is done stays"):
            _invert(encoder, folder, tmp_path, pictures=True)
    _invert(encoder, folder, tmp_path, pictures=True)
    assert _content(tmp_path) == _content(whole)


@pytest.mark.parametrize("file", ["*.array_record-*", "records/*.json", "tables/*"])
@pytest.mark.bytes
def test_a_shard_is_made_again_whose_file_record_or_table_is_cut_short(
    encoder, folder, whole, tmp_path, file
):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    damaged = sorted(tmp_path.glob(file))[1]
    damaged.write_bytes(damaged.read_bytes()[:-10])
    assert _invert(encoder, folder, tmp_path, pictures=True).new == 4
    assert _content(tmp_path) == _content(whole)


def test_pictures_go_with_images_that_can_be_read_no_more(encoder, folder, tmp_path):
    images = shutil.copytree(folder, tmp_path / "images")
    out = tmp_path / "out"
    _invert(encoder, images, out, pictures=True)
    for path in images.iterdir():
        size = path.stat().st_size
        if path.name in ("01.png", "08.png", "09.png", "10.png"):
            path.write_bytes(bytes(size))
    for shard in sorted(out.glob("*.array_record-*"))[::2]:
        shard.unlink()
    assert _invert(encoder, images, out, pictures=True).left_out == 4
    shown = {path.name[7:9] for path in (out / "images").iterdir()}
    assert (
        shown
        == {row["image"][:2] for row in _rows(out)}
        == {"00", *map("{:02}".format, range(2, 8))}
    )


def test_another_objective_is_resumed_to_the_byte(encoder, folder, tmp_path):
    """`maximise` with a prior that other runs lack; its relative losses are NaN."""
    recipe = dataclasses.replace(RECIPE, data_term="maximise", priors={"tv_squared": 0.1}, steps=6)
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    _invert(encoder, folder, undisturbed, recipe=recipe)
    done = 0

    def interrupt(steps):
        nonlocal done
        done += steps
        if done > COUNT * 6:  # of twice as many
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _invert(encoder, folder, killed, recipe=recipe, progress=interrupt)
    assert _content(killed).keys() < _content(undisturbed).keys()
    _invert(encoder, folder, killed, recipe=recipe)
    assert _content(killed) == _content(undisturbed)
    rows = _rows(undisturbed)
    assert {row["relative_loss"] for row in rows} == {"nan"}
    assert all(float(row["loss"]) < 0 < float(row["picture_relative_loss"]) for row in rows)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data_term": lambda found, target: found.sum()}, "<lambda> has no name that a file"),
        ({"priors": {jnp.sum: 1.0}}, "has no name that a file could hold"),
        ({"data_term": "masked"}, "data term 'masked' needs targets with a mask"),
        ({"group": 3, "diverse": 0.1}, "2 restarts are no whole groups of 3"),
    ],
)
def test_what_a_folder_cannot_record_is_refused_before_it_is_made(
    encoder, folder, tmp_path, changes, words
):
    with pytest.raises(InputError, match=words):
        _invert(encoder, folder, tmp_path / "out", recipe=dataclasses.replace(RECIPE, **changes))
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_run_is_refused(encoder, folder, whole):
    before = _content(whole)
    other = dataclasses.replace(RECIPE, priors={"tv": 0.5, "l6": 0.03})
    for change, named in [
        ({"recipe": other}, "recipe"),
        ({"seed": 1}, "seed 0, not 1"),
        ({"restarts": 3}, "restarts 2, not 3"),
        ({"slots": 8}, "slots 4, not 8"),
        ({"pictures": False}, "pictures True"),
    ]:
        with pytest.raises(InputError, match=named):
            _invert(encoder, folder, whole, **({"pictures": True} | change))
    assert _content(whole) == before


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"restarts": 0}, "restarts must be at least 1"),
        ({"process_index": 2, "process_count": 2}, "2 of 2"),
        ({"slots": 3}, "3 slots do not divide over 2 devices"),
        ({"batch_size": 3}, "batch_size must be a multiple"),
    ],
)
def test_options_without_sense(encoder, folder, tmp_path, options, named):
    if jax.device_count() == 1 and options.keys() & {"slots", "batch_size"}:
        pytest.skip("any number divides over one device")
    with pytest.raises(InputError, match=named):
        _invert(encoder, folder, tmp_path, **options)


def test_sizes_are_refused_before_it_is_found_out_how_many_slots_fit(
    encoder, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(engine, "default_slots", lambda *_, **__: pytest.fail("compiled"))
    with pytest.raises(InputError, match="shard_size must be a multiple of batch_size; it is 5"):
        _invert(encoder, folder, tmp_path, slots=0, batch_size=2, shard_size=5)
    assert not (tmp_path / "inversion.json").exists()


def test_few_images_are_read_ahead_of_their_inversion(encoder, folder, tmp_path, monkeypatch):
    """Eighty images, slots for four: memory does not grow with their number."""
    monkeypatch.setattr(engine, "_MOST_WAITING", 8)
    ahead, read, done = [], [], []

    class Many(FolderImages):
        fingerprint = "many"

        def __len__(self):
            return 80

        def name(self, position):
            return f"{position}"

        def __getitem__(self, position):
            read.append(position)
            ahead.append(len(read) - sum(done) / 2)
            return super().__getitem__(position % COUNT)

    recipe = dataclasses.replace(RECIPE, steps=2)
    _invert(
        encoder,
        Many(folder),
        tmp_path,
        recipe=recipe,
        restarts=1,
        progress=done.append,
        threads=1,
    )
    assert len(read) == 80 and max(ahead) < 40
