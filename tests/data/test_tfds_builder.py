"""Data sets written and read back: TFDS itself, Pillow and plain arithmetic are the oracles."""

import collections
import io
import math
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import script_process
import tensorflow_datasets as tfds
from drawn_scenes import build_set, content_of, drawn_examples, drawn_features
from PIL import Image

from posenet_jax import scenes
from posenet_jax.data import dataset_writing, sources, tfds_builder
from posenet_jax.data.rendered_examples import RenderedExamples, RenderedImages
from posenet_jax.data.splits import split_of
from posenet_jax.errors import ImageError, InputError

ROOT = Path(__file__).parents[2]
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    out = tmp_path_factory.mktemp("datasets")
    builder, new = build_set(out, scenes=drawn_examples())
    assert new
    return out, Path(builder.data_dir)


def test_every_scene_is_in_the_split_of_its_name_and_in_no_other(rendered):
    _, folder = rendered
    builder = tfds.builder_from_directory(folder)
    found = collections.Counter()
    for split in builder.info.splits:
        for example in builder.as_data_source(split, decoders={"image": sources._AsStored()}):
            name = example["name"].decode()
            assert split_of(name) == split
            found[name] += 1
    assert found == {f"cities/3/{number}": 1 for number in range(60)}
    assert len(builder.info.splits) > 1


def test_an_example_is_what_was_rendered(rendered):
    """Read by TFDS alone, images decoded by it too."""
    _, folder = rendered
    source = tfds.builder_from_directory(folder).as_data_source("all")
    for example in source:
        number = int(example["name"].decode().split("/")[-1])
        expected = drawn_features(number, 12)
        assert set(example) == set(expected) | {"name"}
        for name, value in expected.items():
            np.testing.assert_array_equal(np.asarray(example[name], value.dtype), value, name)


def test_tfds_finds_the_data_set_by_name(rendered):
    out, folder = rendered
    by_name = tfds.data_source(
        "rendered_scenes/cities", split="train", data_dir=out, download=False
    )
    by_folder = tfds.builder_from_directory(folder).as_data_source("train")
    assert [e["name"] for e in by_name] == [e["name"] for e in by_folder]


def test_tensorflow_is_not_needed(rendered):
    _, folder = rendered
    code = (
        "import sys\n"
        "from posenet_jax.data.sources import DatasetExamples\n"
        f"print(len(DatasetExamples({str(folder)!r})[0]['image']), 'tensorflow' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.split() == ["2", "False"], run.stderr


def test_the_same_recipe_writes_the_same_bytes(rendered, tmp_path):
    _, folder = rendered
    builder, _ = build_set(tmp_path, scenes=drawn_examples(batch=16))
    assert content_of(Path(builder.data_dir)) == content_of(folder)


def test_what_is_there_is_kept_and_another_recipe_refused(rendered):
    out, folder = rendered
    before = content_of(folder)
    _, new = build_set(out, scenes=drawn_examples())
    assert not new
    with pytest.raises(InputError, match="count 60, not 61.*--restart"):
        build_set(out, scenes=drawn_examples(61))
    assert content_of(folder) == before


def test_an_interrupted_build_leaves_nothing(tmp_path):
    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_set(tmp_path, scenes=drawn_examples(), progress=stop)
    assert not [path for path in tmp_path.rglob("*") if path.suffix != ".json" and path.is_file()]
    _, new = build_set(tmp_path, scenes=drawn_examples())
    assert new


_KILLED = """
import sys, time
sys.path[:0] = ["tests/support"]
from drawn_scenes import build_set, drawn_examples
slowly = lambda n: (print(n, flush=True), time.sleep(0.02))
build_set(sys.argv[1], scenes=drawn_examples(), progress=slowly)
"""


def test_a_killed_build_is_no_data_set_and_restart_makes_it_whole(rendered, tmp_path):
    _, folder = rendered
    command = [sys.executable, "-c", _KILLED, str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline()
    time.sleep(0.3)
    process.kill()
    process.communicate()
    with pytest.raises(InputError, match="no data set"):
        sources.DatasetExamples(tmp_path)
    with pytest.raises(InputError, match="half-written.*--restart"):
        build_set(tmp_path, scenes=drawn_examples())
    builder = tfds_builder.RenderedScenes(data_dir=tmp_path, scenes=drawn_examples())
    assert dataset_writing.build(builder, restart=True)
    assert content_of(Path(builder.data_dir)) == content_of(folder)
    assert not list(tmp_path.rglob("incomplete*"))


def _views_of_keys(keys, atlas, config):
    """In place of the renderer, whose compilation takes a minute: cameras drawn from the keys."""
    turns = jax.vmap(lambda key: jax.random.normal(key, (2, 3, 3)))(keys)
    count = len(keys)
    return scenes.Views(
        image=jnp.zeros((count, 2, config.height, config.width, 3), jnp.uint8),
        rotation=jnp.linalg.qr(turns)[0],
        centre=jnp.zeros((count, 2, 3)),
        field_of_view=jnp.repeat(jnp.linspace(0.7, 1.5, count)[:, None], 2, axis=1),
        target=jnp.zeros((count, 3)),
        normal=jnp.zeros((count, 3)),
        camera_normal=jnp.zeros((count, 2, 3)),
        visible=jnp.ones((count, 2), bool),
    )


def test_a_scene_is_its_number_s_whatever_is_rendered_with_it(monkeypatch):
    monkeypatch.setattr(scenes, "render_pairs", _views_of_keys)
    drawn = drawn_examples()
    options = {"kind": "indoor", "count": 9, "seed": 5, "atlas": None, "mesh": drawn.mesh}
    found = {}
    for batch in (2, 4):
        made = RenderedExamples(size=24, batch=batch, **options)
        found[batch] = {n: e for split in SPLITS for n, e in made.of_split(split)}
    assert sorted(found[2]) == sorted(found[4]) == list(range(9))
    for number in range(9):
        key = jax.random.fold_in(jax.random.key(5), number)
        expected, _ = np.linalg.qr(np.asarray(jax.random.normal(key, (2, 3, 3))))
        for batch in (2, 4):
            example = found[batch][number]
            np.testing.assert_allclose(np.abs(example["rotation"]), np.abs(expected), atol=1e-4)
            assert example["name"] == f"indoor/5/{number}"


def test_rendered_images_are_both_views_of_every_scene():
    """Whatever is asked for first; the last batch is a short one."""
    drawn = drawn_examples(count=11)
    images = RenderedImages(drawn)
    assert len(images) == 22
    for position in (21, 0, *range(22)):
        found, expected = images[position], drawn_features(position // 2, 12)["image"]
        assert found.name == images.name(position) == f"cities/3/{position // 2}/{position % 2}"
        np.testing.assert_array_equal(found.image, expected[position % 2])
    with pytest.raises(IndexError, match="22 of 22"):
        images[22]
    assert images.fingerprint == RenderedImages(drawn_examples(count=11)).fingerprint
    assert images.fingerprint != RenderedImages(drawn_examples(count=11, seed=4)).fingerprint


def test_vanishing_points_are_projections_of_the_axes(monkeypatch):
    monkeypatch.setattr(scenes, "render_pairs", _views_of_keys)
    options = {"kind": "cars", "count": 8, "seed": 0, "atlas": None, "mesh": drawn_examples().mesh}
    made = RenderedExamples(size=24, batch=8, **options)
    for split in SPLITS:
        for _, example in made.of_split(split):
            focal = 12.0 / math.tan(0.5 * example["field_of_view"])
            matrix = np.array([[focal, 0, 12], [0, focal, 12], [0, 0, 1]])
            for rotation, points in zip(example["rotation"], example["vanishing"], strict=True):
                np.testing.assert_allclose(points, (matrix @ rotation.T).T, atol=1e-3)


def test_facades_of_other_contents_are_other_scenes(tmp_path):
    build_set(tmp_path, scenes=drawn_examples(facades="a"))
    assert not build_set(tmp_path, scenes=drawn_examples(facades="a"))[1]
    with pytest.raises(InputError, match="with facades 'a', not 'b'"):
        build_set(tmp_path, scenes=drawn_examples(facades="b"))
    images = [RenderedImages(drawn_examples(facades=name)) for name in ("a", "b")]
    assert images[0].facades != images[1].facades
    assert images[0].fingerprint == images[1].fingerprint  # as older versions wrote it


# Reading ----------------------------------------------------------------------------------------


def test_views_are_images_of_their_own(rendered):
    _, folder = rendered
    examples = sources.DatasetExamples(folder, "train")
    images = sources.DatasetImages(examples)
    assert len(images) == 2 * len(examples)
    for position in (0, 1, 7):
        name, image = images[position]
        scene, view = name.rsplit("/", 1)
        assert images.name(position) == name
        expected = drawn_features(int(scene.split("/")[-1]), 12)["image"][int(view)]
        np.testing.assert_array_equal(image, expected)
    assert len(sources.DatasetImages(examples, 5)) == 5


def test_what_is_no_data_set_is_said_in_one_sentence(rendered, tmp_path):
    out, folder = rendered
    with pytest.raises(InputError, match="no such folder"):
        sources.DatasetExamples(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no data set in or below"):
        sources.DatasetExamples(tmp_path)
    with pytest.raises(InputError, match="no split 'best'.*test, train"):
        sources.DatasetExamples(folder, "best")
    for name in ("first", "second"):
        copy = tmp_path / name / "1.0.0"
        copy.mkdir(parents=True)
        (copy / "dataset_info.json").write_text("{")
    with pytest.raises(InputError, match="2 data sets below"):
        sources.DatasetExamples(tmp_path)
    with pytest.raises(InputError, match=r"dataset_info\.json is not JSON"):
        sources.DatasetExamples(tmp_path / "first")


def test_a_damaged_record_names_its_example(tmp_path):
    builder, _ = build_set(tmp_path, scenes=drawn_examples(20))
    examples = sources.DatasetExamples(tmp_path, "train")
    file = next(Path(builder.data_dir).glob("*train*"))
    content = bytearray(file.read_bytes())
    start = content.index(b"\x89PNG")
    content[start : start + 400] = bytes(400)
    file.write_bytes(content)
    failures = 0
    for position in range(len(examples)):
        try:
            examples[position]
        except ImageError as error:
            assert "example" in str(error) and "\n" not in str(error)
            failures += 1
    assert failures >= 1


def test_the_fingerprint_is_that_of_the_content(rendered, tmp_path):
    _, folder = rendered
    same, _ = build_set(tmp_path / "same", scenes=drawn_examples())
    other, _ = build_set(tmp_path / "other", scenes=drawn_examples(59))
    prints = [sources.DatasetExamples(f).fingerprint for f in (folder, same.data_dir)]
    assert prints[0] == prints[1] != sources.DatasetExamples(other.data_dir).fingerprint
    assert sources.DatasetExamples(folder, "train").fingerprint != prints[0]


# The command ------------------------------------------------------------------------------------


def _command(*arguments):
    return script_process.run("build_dataset", *arguments, quick=False)


def test_the_command_goes_on_past_damaged_files_and_says_so(photographs, tmp_path):
    flags = ("--source=photos", f"--images={photographs}", f"--out={tmp_path}")
    first, second = _command(*flags), _command(*flags)
    assert first.returncode == second.returncode == 1, first.stderr
    assert first.stdout.startswith("wrote ") and "left out: 3" in first.stdout
    assert second.stdout.startswith("already there: ")
    assert first.stderr.count("left out: ") == 3 and "Traceback" not in first.stderr
    assert len(sources.DatasetExamples(tmp_path)) == 30


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--source=photos"], "--source=photos needs --images"),
        (["--source=cities", "--images=/tmp"], "--source=cities takes no --images"),
        (["--source=street_view", "--images=/nowhere/at/all"], "/nowhere/at/all"),
        (["--source=photos", "--images=/nowhere/at/all"], "/nowhere/at/all"),
    ],
)
def test_the_command_refuses_in_one_sentence(flags, words, tmp_path):
    run = _command(*flags, f"--out={tmp_path / 'out'}")
    assert run.returncode == 2
    errors = [line for line in run.stderr.splitlines() if "error" in line]
    assert len(errors) == 1 and words in errors[0] and "Traceback" not in run.stderr
    assert not (tmp_path / "out").exists()


def test_a_png_holds_its_pixels():
    from posenet_jax.io.files import png

    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(image)))), image)
