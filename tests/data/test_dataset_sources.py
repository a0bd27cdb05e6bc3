"""Data sets of photographs and of 3D_Street_View: what comes back, and what they were made of."""

import collections
import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import street_view_files as files
from drawn_scenes import build_set, content_of, drawn_examples

from posenet_jax.data import sources, tfds_builder
from posenet_jax.data.splits import split_of
from posenet_jax.errors import ImageError, InputError
from posenet_jax.images.image_files import read_image


def test_photographs_come_back_pixel_for_pixel(photographs, tmp_path):
    reports: list[InputError] = []
    counted: list[int] = []
    builder, _ = build_set(
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
    build_set(tmp_path, tfds_builder.Photographs, images=photographs)
    examples = sources.DatasetExamples(tmp_path)
    stored = {e["name"]: e["image"][0] for e in map(examples.encoded, range(len(examples)))}
    assert stored["2/p05.jpg"] == (photographs / "2" / "p05.jpg").read_bytes()
    assert stored["0/p00.jpg"][:4] == b"\x89PNG"  # turned: other decoders would not turn it


def test_photographs_of_one_size(photographs, tmp_path):
    builder, _ = build_set(tmp_path, tfds_builder.Photographs, images=photographs, size=10)
    assert {e["image"].shape for e in builder.as_data_source("all")} == {(10, 10, 3)}


def test_a_folder_of_which_nothing_is_left(tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(InputError, match="nothing to write: 1 files"):
        build_set(tmp_path / "out", tfds_builder.Photographs, images=tmp_path)


# 3D_Street_View ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def street_view_set(street_view, tmp_path_factory):
    reports: list[InputError] = []
    out = tmp_path_factory.mktemp("street_view_set")
    builder, _ = build_set(out, tfds_builder.StreetView, images=street_view, report=reports.append)
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
    made, new = build_set(out, builder, images=images)
    before = content_of(Path(made.data_dir))
    assert new and not build_set(out, builder, images=images)[1]
    copy = shutil.copytree(images, tmp_path / "copy" / given.name, copy_function=shutil.copyfile)
    assert not build_set(out, builder, images=copy)[1]
    # Also a file that was left out, or that says where the camera was.
    for name in ("text.jpg", "2/p02.webp") if kind == "Photographs" else ("0000/*.txt", "bad/*"):
        changed = sorted(copy.glob(name))[0]
        content = changed.read_bytes()
        _changed_in_place(changed)
        with pytest.raises(InputError, match=f"{changed.name}: not what .* was made of any more"):
            build_set(out, builder, images=copy)
        changed.write_bytes(content)
        assert not build_set(out, builder, images=copy)[1]
    (copy / "0000_0_0_0.jpg").write_bytes(b"one more")
    with pytest.raises(InputError, match="choose another folder, or --restart"):
        build_set(out, builder, images=copy)
    assert content_of(Path(made.data_dir)) == before


def test_a_data_set_that_an_older_version_wrote_is_still_the_same(photographs, tmp_path):
    made, _ = build_set(tmp_path, tfds_builder.Photographs, images=photographs)
    examples = sources.DatasetExamples(tmp_path)
    (Path(made.data_dir) / "sources.npy").unlink()
    assert sources.DatasetExamples(tmp_path).fingerprint == examples.fingerprint
    assert not build_set(tmp_path, tfds_builder.Photographs, images=photographs)[1]
    build_set(tmp_path, scenes=drawn_examples())  # without facades
    assert not build_set(tmp_path, scenes=drawn_examples(facades="a"))[1]
