"""Trainings, data sets and foreign folders of photographs in a bucket, as they are on the disk."""

import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest
import training_child
from drawn_scenes import build_set, content_of, drawn_examples
from PIL import Image
from scipy.spatial.transform import Rotation
from street_view_files import write_view

from posenet_jax.data import dataset_writing, photograph_pairs, street_view, tfds_builder
from posenet_jax.data.sources import DatasetExamples
from posenet_jax.errors import InputError, OutputError, Unreachable
from posenet_jax.io import storage
from posenet_jax.training import checkpoints, decoder_search

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def _in_bucket(s3, prefix: str) -> dict[str, bytes]:
    found = s3.list_objects_v2(Bucket="runs", Prefix=f"{prefix}/").get("Contents", [])
    keys = [entry["Key"] for entry in found]
    return {
        key.removeprefix(f"{prefix}/"): s3.get_object(Bucket="runs", Key=key)["Body"].read()
        for key in keys
    }


def _upload(s3, folder: Path, prefix: str) -> str:
    for path in folder.rglob("*"):
        if path.is_file():
            s3.upload_file(str(path), "photos", f"{prefix}/{path.relative_to(folder)}")
    return f"s3://photos/{prefix}"


def _denied(s3, bucket: str, action: str, name: str) -> None:
    statement = {"Effect": "Deny", "Principal": "*", "Action": action}
    statement["Resource"] = f"arn:aws:s3:::{bucket}/{name}"
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))


# Trainings ---------------------------------------------------------------------------------------


def _training(workdir):
    return training_child.training(storage.path(workdir), steps=17)


def _metrics(text: str) -> list[list[str]]:
    """Rows of metrics.csv without their times."""
    rows = [line.split(",") for line in text.splitlines()]
    times = rows[0].index("steps_per_second")
    return [row[:times] + row[times + 1 :] for row in rows]


def test_a_training_in_a_bucket_is_stopped_refused_and_resumed(s3, tmp_path, monkeypatch):
    """Stopped after step 10, of whose checkpoint 14 an upload had begun; refused at that one."""
    workdir, uploaded, upload = storage.path("s3://runs/training"), [], storage.upload

    def noted(file, path):
        upload(file, path)
        uploaded.append(os.fspath(path))

    monkeypatch.setattr(storage, "upload", noted)
    for _ in zip(range(10), _training(workdir), strict=False):
        pass
    of_step = [path for path in uploaded if path.startswith(f"{workdir}/checkpoints/7/")]
    assert len(of_step) > 5 and of_step[-1].endswith("/7/commit_success.txt")  # after the others
    for path in of_step[:-1]:
        key = path.removeprefix("s3://runs/").replace("/7/", "/14/")
        s3.put_object(Bucket="runs", Key=key, Body=b"cut")
    assert checkpoints.steps_done(workdir) == 7

    _denied(s3, "runs", "s3:PutObject", "training/checkpoints/*")
    with pytest.raises(OutputError) as refused:
        list(_training(workdir))
    s3.delete_bucket_policy(Bucket="runs")
    sentence = (
        f"{workdir}/checkpoints cannot be written (Forbidden); the checkpoints that are there"
    )
    assert str(refused.value).startswith(sentence) and checkpoints.steps_done(workdir) == 7

    *_, (steps, _, state) = _training(workdir)
    *_, (_, _, expected) = _training(tmp_path)
    assert checkpoints.steps_done(workdir) == steps == 17
    jax.tree.map(np.testing.assert_array_equal, state, expected)
    found = _in_bucket(s3, "training")
    assert _metrics(found["metrics.csv"].decode()) == _metrics(
        (tmp_path / "metrics.csv").read_text()
    )
    assert any(name.startswith("tensorboard/") for name in found)
    there = {name.split("/")[1] for name in found if name.startswith("checkpoints/")}
    assert there == {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"14", "17"}


def test_a_search_s_table_in_a_bucket(s3):
    table = storage.path("s3://runs/search/coarse.csv")
    assert decoder_search.read_trials(table) == []
    s3.put_object(
        Bucket="runs",
        Key="search/coarse.csv",
        Body=b"learning_rate,loss,validation_mse\n0.1,2.0,inf\n",
    )
    (trial,) = decoder_search.read_trials(table)
    assert trial == {"learning_rate": 0.1, "loss": 2.0, "validation_mse": np.inf}


# Data sets ---------------------------------------------------------------------------------------


def _example_names(folder) -> list[str]:
    examples = DatasetExamples(folder)
    return [examples[i]["name"] for i in range(len(examples))]


def test_a_data_set_is_built_in_a_bucket_or_is_none(s3, tmp_path):
    _, new = build_set(tmp_path, scenes=drawn_examples())
    out = "s3://runs/sets"
    builder, there = build_set(out, scenes=drawn_examples())
    folder = "sets/rendered_scenes/cities/1.0.0"
    assert new and there and os.fspath(builder.folder) == f"s3://runs/{folder}"
    assert _in_bucket(s3, folder) == content_of(tmp_path)
    assert not build_set(out, scenes=drawn_examples())[1]
    with pytest.raises(InputError, match=rf"s3://runs/{folder} holds .* count 60, not 61.*--rest"):
        build_set(out, scenes=drawn_examples(61))
    assert _example_names(out) == _example_names(tmp_path)

    s3.delete_object(Bucket="runs", Key=f"{folder}/dataset_info.json")
    with pytest.raises(InputError, match=f"s3://runs/{folder} is a data set half-written; .*"):
        build_set(out, scenes=drawn_examples())
    again = tfds_builder.RenderedScenes(data_dir=out, scenes=drawn_examples())
    assert dataset_writing.build(again, restart=True)
    assert _in_bucket(s3, folder) == content_of(tmp_path)


# Folders of others -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    """Folder of 3D_Street_View with what is left out of it, and the same in a bucket."""
    folder = tmp_path_factory.mktemp("streets")
    for name, view in (("b", 2), ("a/z", 1), ("", 3), ("a", 4)):
        write_view(folder / name, view=view)
    write_view(folder / "b", view=9).with_suffix(".txt").unlink()
    write_view(folder / "a", view=8, picture=False)
    write_view(folder / ".hidden", view=7)
    (folder / "README.txt").write_text("none of it")
    return folder


def test_street_view_in_a_bucket(s3, streets):
    place = _upload(s3, streets, "streets")

    def told(folder):
        found = street_view.scan_folder(folder)
        return [
            str(one).replace(str(folder), "")
            if isinstance(one, InputError)
            else (os.fspath(one.path).replace(str(folder), ""), one.target, one.heading)
            for one in found
        ]

    assert told(place) == told(streets) and len(told(place)) == 6
    here, there = street_view.listed_files(streets), street_view.listed_files(place)
    assert here.fingerprint == there.fingerprint and len(there) == 11
    assert [there.digest(i) for i in range(11)] == [here.digest(i) for i in range(11)]
    builder, _ = build_set("s3://runs/streets", tfds_builder.StreetView, images=place)
    assert builder.left_out == 2
    assert set(_example_names("s3://runs/streets")) == {
        one[0][1:] for one in told(place) if isinstance(one, tuple)
    }


def test_a_file_that_is_refused_for_now_is_not_left_out(s3, streets):
    place = _upload(s3, streets, "refused")
    _denied(s3, "photos", "s3:GetObject", "refused/a/*.txt")
    try:
        with pytest.raises(Unreachable, match="s3://photos/refused/a/.*txt cannot be read"):
            list(street_view.scan_folder(place))
    finally:
        s3.delete_bucket_policy(Bucket="photos")


def test_photographs_with_cameras_in_a_bucket(s3, tmp_path):
    """Files beside photographs in one folder, a COLMAP model above those of another."""
    for name, camera in (("one", True), ("two/images", False)):
        (tmp_path / name).mkdir(parents=True)
        for i in range(2):
            noise = np.random.default_rng(i).integers(0, 256, (60, 90, 3), np.uint8)
            Image.fromarray(noise).save(tmp_path / name / f"{i}.png")
            turn = Rotation.from_euler("y", 9 * i, degrees=True).as_matrix()
            rows = [(200, 0, 90), (0, 200, 60), (0, 0, 1), (0, 0, 0), *turn, (i, 0, 0), (180, 120)]
            if camera:
                text = "".join(" ".join(map(str, row)) + "\n" for row in rows)
                (tmp_path / name / f"{i}.png.camera").write_text(text)
    (tmp_path / "two" / "cameras.txt").write_text("1 PINHOLE 180 120 200 200 90 60\n")
    model = "1 1 0 0 0 0 0 0 1 0.png\n\n2 1 0 0 0 1 0 0 1 1.png\n\n"
    (tmp_path / "two" / "images.txt").write_text(model)
    there, _ = photograph_pairs.read_pairs(_upload(s3, tmp_path, "cameras"), size=20)
    here, _ = photograph_pairs.read_pairs(tmp_path, size=20)
    jax.tree.map(np.testing.assert_array_equal, there[:3], here[:3])
    assert there.names == here.names and len(there.names) == 2
    with pytest.raises(InputError, match="s3://photos/alone.png: no alone.png.camera beside it"):
        photograph_pairs.camera_of(storage.path("s3://photos/alone.png"), {})
