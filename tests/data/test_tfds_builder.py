"""Data sets written and read back: TFDS itself, Pillow and plain arithmetic are the oracles."""

import collections
import io
import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import script_process
import street_view_files as files
import tensorflow_datasets as tfds
from jax.sharding import Mesh
from PIL import Image

from posenet_jax import scenes
from posenet_jax.data import dataset_writing, sources, tfds_builder
from posenet_jax.data.rendered_examples import RenderedExamples, RenderedImages
from posenet_jax.data.splits import split_of
from posenet_jax.errors import ImageError, InputError
from posenet_jax.images.image_files import read_image

ROOT = Path(__file__).parents[2]
SPLITS = ("train", "validation", "test")


@pytest.fixture(autouse=True, scope="module")
def _no_bars():
    tfds.disable_progress_bar()


class Drawn(RenderedExamples):
    """Examples whose features are a function of their numbers, without rendering."""

    def render(self, numbers):
        padded = np.pad(numbers, (0, self.batch - len(numbers)), mode="edge")
        rows = [_features(number, self.size) for number in padded]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _features(number: int, size: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(int(number))

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    return {
        "image": rng.integers(0, 256, (2, size, size, 3)).astype(np.uint8),
        "rotation": normal(2, 3, 3),
        "centre": normal(2, 3),
        "field_of_view": np.float32(1.2),
        "target": normal(3),
        "normal": normal(3),
        "camera_normal": normal(2, 3),
        "visible": np.array([True, number % 2 == 0]),
        "vanishing": normal(2, 3, 3),
    }


def _drawn(count=60, **changes) -> Drawn:
    mesh = Mesh(np.asarray(jax.devices()), ("scenes",))
    options = {"kind": "cities", "seed": 3, "size": 12, "batch": 8} | changes
    return Drawn(count=count, atlas=None, mesh=mesh, **options)


def _build(out, builder=tfds_builder.RenderedScenes, **options):
    made = builder(data_dir=out, **options)
    return made, dataset_writing.build(made)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    out = tmp_path_factory.mktemp("datasets")
    builder, new = _build(out, scenes=_drawn())
    assert new
    return out, Path(builder.data_dir)


def _content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


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
        expected = _features(number, 12)
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
    builder, _ = _build(tmp_path, scenes=_drawn(batch=16))
    assert _content(Path(builder.data_dir)) == _content(folder)


def test_what_is_there_is_kept_and_another_recipe_refused(rendered):
    out, folder = rendered
    before = _content(folder)
    _, new = _build(out, scenes=_drawn())
    assert not new
    with pytest.raises(InputError, match="count 60, not 61.*--restart"):
        _build(out, scenes=_drawn(61))
    assert _content(folder) == before


def test_an_interrupted_build_leaves_nothing(tmp_path):
    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _build(tmp_path, scenes=_drawn(), progress=stop)
    assert not [path for path in tmp_path.rglob("*") if path.suffix != ".json" and path.is_file()]
    _, new = _build(tmp_path, scenes=_drawn())
    assert new


_KILLED = """
import sys, time
sys.path[:0] = ["tests/data", "tests/support"]
from test_tfds_builder import _build, _drawn
_build(sys.argv[1], scenes=_drawn(), progress=lambda n: (print(n, flush=True), time.sleep(0.02)))
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
        _build(tmp_path, scenes=_drawn())
    builder = tfds_builder.RenderedScenes(data_dir=tmp_path, scenes=_drawn())
    assert dataset_writing.build(builder, restart=True)
    assert _content(Path(builder.data_dir)) == _content(folder)
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
    drawn = _drawn()
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
    drawn = _drawn(count=11)
    images = RenderedImages(drawn)
    assert len(images) == 22
    for position in (21, 0, *range(22)):
        found, expected = images[position], _features(position // 2, 12)["image"]
        assert found.name == images.name(position) == f"cities/3/{position // 2}/{position % 2}"
        np.testing.assert_array_equal(found.image, expected[position % 2])
    with pytest.raises(IndexError, match="22 of 22"):
        images[22]
    assert images.fingerprint == RenderedImages(_drawn(count=11)).fingerprint
    assert images.fingerprint != RenderedImages(_drawn(count=11, seed=4)).fingerprint


def test_vanishing_points_are_projections_of_the_axes(monkeypatch):
    monkeypatch.setattr(scenes, "render_pairs", _views_of_keys)
    options = {"kind": "cars", "count": 8, "seed": 0, "atlas": None, "mesh": _drawn().mesh}
    made = RenderedExamples(size=24, batch=8, **options)
    for split in SPLITS:
        for _, example in made.of_split(split):
            focal = 12.0 / math.tan(0.5 * example["field_of_view"])
            matrix = np.array([[focal, 0, 12], [0, focal, 12], [0, 0, 1]])
            for rotation, points in zip(example["rotation"], example["vanishing"], strict=True):
                np.testing.assert_allclose(points, (matrix @ rotation.T).T, atol=1e-3)


# Photographs ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """30 in every format and mode, turned, in folders; three that are no images."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(1)
    kinds = [("jpg", "RGB"), ("png", "RGBA"), ("webp", "RGB"), ("jpg", "L"), ("jpg", "CMYK")]
    for number in range(30):
        extension, mode = kinds[number % 5]
        coarse = rng.integers(0, 256, (4, 6, 3)).astype(np.uint8)
        image = Image.fromarray(coarse).resize((36, 24)).convert(mode)
        path = folder / f"{number % 3}" / f"p{number:02d}.{extension}"
        path.parent.mkdir(exist_ok=True)
        turned = Image.Exif()
        turned[0x0112] = 6 if number % 10 == 0 else 1
        image.save(path, exif=turned)
    (folder / "text.jpg").write_text("no picture")
    (folder / "empty.png").touch()
    whole = (folder / "0" / "p00.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    return folder


def test_photographs_come_back_pixel_for_pixel(photographs, tmp_path):
    reports: list[InputError] = []
    counted: list[int] = []
    builder, _ = _build(
        tmp_path,
        tfds_builder.Photographs,
        images=photographs,
        report=reports.append,
        progress=counted.append,
    )
    by_tfds = {
        example["name"].decode(): (example["image"], split)
        for split in builder.info.splits
        for example in builder.as_data_source(split)
    }
    good = [p for p in photographs.rglob("*/*") if p.is_file()]
    assert len(by_tfds) == len(good) == 30
    for path in good:
        image, split = by_tfds[str(path.relative_to(photographs))]
        np.testing.assert_array_equal(image, read_image(path))
        assert split == split_of(str(path.relative_to(photographs)))
    names = sorted(Path(str(error).split(":")[0]).name for error in reports)
    assert names == ["cut.jpg", "empty.png", "text.jpg"]
    assert all(isinstance(error, ImageError) for error in reports) and sum(counted) == 33
    assert json.loads((Path(builder.data_dir) / "metadata.json").read_text())["left_out"] == 3


def test_a_plain_jpeg_is_stored_as_it_is(photographs, tmp_path):
    _build(tmp_path, tfds_builder.Photographs, images=photographs)
    examples = sources.DatasetExamples(tmp_path)
    stored = {e["name"]: e["image"][0] for e in map(examples.encoded, range(len(examples)))}
    assert stored["2/p05.jpg"] == (photographs / "2" / "p05.jpg").read_bytes()
    assert stored["0/p00.jpg"][:4] == b"\x89PNG"  # turned: other decoders would not turn it


def test_photographs_of_one_size(photographs, tmp_path):
    builder, _ = _build(tmp_path, tfds_builder.Photographs, images=photographs, size=10)
    assert {e["image"].shape for e in builder.as_data_source("all")} == {(10, 10, 3)}


def test_a_folder_of_which_nothing_is_left(tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(InputError, match="nothing to write: 1 files"):
        _build(tmp_path / "out", tfds_builder.Photographs, images=tmp_path)


# 3D_Street_View ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def street_view(tmp_path_factory):
    """40 targets of three views each in two regions; five files that are wrong in five ways."""
    folder = tmp_path_factory.mktemp("street_view")
    for target in range(40):
        for view in range(3):
            picture = np.full((16, 16, 3), (target * 5, view * 80, 30), np.uint8)
            files.write_view(
                folder / f"{target % 2:04d}",
                view=view,
                dataset=target % 2,
                target=target,
                place=(3.0 * view - 3.0, -20.0, -2.0),
                picture=picture,
                alignment=files.ALIGNMENT if view == 1 else None,
            )
    bad = [files.write_view(folder / "bad", view=v, target=90) for v in range(4)]
    bad[0].write_text("no picture")
    bad[1].with_suffix(".txt").write_text("d 1 2 3\n")
    bad[2].with_suffix(".txt").unlink()
    bad[3].unlink()
    return folder


@pytest.fixture(scope="module")
def street_view_set(street_view, tmp_path_factory):
    reports: list[InputError] = []
    out = tmp_path_factory.mktemp("street_view_set")
    builder, _ = _build(out, tfds_builder.StreetView, images=street_view, report=reports.append)
    return out, builder, reports


def test_no_target_crosses_a_split(street_view_set):
    _, builder, _ = street_view_set
    seen = {
        split: collections.Counter(e["target_name"] for e in builder.as_data_source(split))
        for split in builder.info.splits
    }
    targets = [target for split in seen.values() for target in split]
    assert len(targets) == len(set(targets)) == 40 and len(seen) > 1
    assert all(views == 3 for split in seen.values() for views in split.values())


def test_cameras_come_back_in_full_precision(street_view_set):
    _, builder, _ = street_view_set
    latitude, longitude, height = files.CITIES["New York"]
    for example in builder.as_data_source("all"):
        place = (3.0 * example["street_view"] - 3.0, -20.0, -2.0)
        np.testing.assert_allclose(example["centre"], place, atol=2e-3)
        expected = [math.radians(latitude), math.radians(longitude), height]
        np.testing.assert_allclose(example["target_location"], expected, rtol=1e-14)
        offset = files.offset_by_ecef(example["camera_location"], example["target_location"])
        np.testing.assert_allclose(offset, place, atol=1e-6)
        # The camera looks at its target, so the target is straight ahead.
        ahead = example["rotation"].T @ -np.asarray(place)
        np.testing.assert_allclose(ahead, [0, 0, np.linalg.norm(place)], atol=1e-2)
        assert example["camera_normal"][2] < 0
        assert np.isnan(example["patch_centre"]).all() == (example["street_view"] != 1)
        assert example["image"].shape == (16, 16, 3)


def test_malformed_files_are_named_once_each_and_counted(street_view_set, street_view):
    _, builder, reports = street_view_set
    assert builder.left_out == len(reports) == 4
    assert sorted(str(e).split(str(street_view))[1][:14] for e in reports) == [
        f"/bad/0006_1_{view}_" for view in range(4)
    ]


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
        expected = _features(int(scene.split("/")[-1]), 12)["image"][int(view)]
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
    builder, _ = _build(tmp_path, scenes=_drawn(20))
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
    same, _ = _build(tmp_path / "same", scenes=_drawn())
    other, _ = _build(tmp_path / "other", scenes=_drawn(59))
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


# Sources that changed ---------------------------------------------------------------------------


def _changed_in_place(path: Path) -> None:
    """Another content under the same name, of the same size and time."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-4] ^= 1
    path.write_bytes(bytes(content))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("kind", ["Photographs", "StreetView"])
def test_a_data_set_knows_what_it_was_made_of(kind, photographs, street_view, tmp_path):
    builder = getattr(tfds_builder, kind)
    given = photographs if kind == "Photographs" else street_view
    images = shutil.copytree(given, tmp_path / "images" / given.name)
    out = tmp_path / "out"
    made, new = _build(out, builder, images=images)
    before = _content(Path(made.data_dir))
    assert new and not _build(out, builder, images=images)[1]
    copy = shutil.copytree(images, tmp_path / "copy" / given.name, copy_function=shutil.copyfile)
    assert not _build(out, builder, images=copy)[1]
    # Also a file that was left out, or that says where the camera was.
    for name in ("text.jpg", "2/p02.webp") if kind == "Photographs" else ("0000/*.txt", "bad/*"):
        changed = sorted(copy.glob(name))[0]
        content = changed.read_bytes()
        _changed_in_place(changed)
        with pytest.raises(InputError, match=f"{changed.name}: not what .* was made of any more"):
            _build(out, builder, images=copy)
        changed.write_bytes(content)
        assert not _build(out, builder, images=copy)[1]
    (copy / "0000_0_0_0.jpg").write_bytes(b"one more")
    with pytest.raises(InputError, match="choose another folder, or --restart"):
        _build(out, builder, images=copy)
    assert _content(Path(made.data_dir)) == before


def test_facades_of_other_contents_are_other_scenes(tmp_path):
    _build(tmp_path, scenes=_drawn(facades="a"))
    assert not _build(tmp_path, scenes=_drawn(facades="a"))[1]
    with pytest.raises(InputError, match="with facades 'a', not 'b'"):
        _build(tmp_path, scenes=_drawn(facades="b"))
    images = [RenderedImages(_drawn(facades=name)) for name in ("a", "b")]
    assert images[0].facades != images[1].facades
    assert images[0].fingerprint == images[1].fingerprint  # as older versions wrote it


def test_a_data_set_that_an_older_version_wrote_is_still_the_same(photographs, tmp_path):
    made, _ = _build(tmp_path, tfds_builder.Photographs, images=photographs)
    examples = sources.DatasetExamples(tmp_path)
    (Path(made.data_dir) / "sources.npy").unlink()
    assert sources.DatasetExamples(tmp_path).fingerprint == examples.fingerprint
    assert not _build(tmp_path, tfds_builder.Photographs, images=photographs)[1]
    _build(tmp_path, scenes=_drawn())  # without facades
    assert not _build(tmp_path, scenes=_drawn(facades="a"))[1]
