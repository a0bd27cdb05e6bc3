"""Trainings side by side: what a run says of itself, contrasts of one thing, figures and tables."""

import dataclasses

import numpy as np
import pytest
import training_folder

from posenet_jax.analysis import trainings
from posenet_jax.encoders import weights
from posenet_jax.errors import InputError
from posenet_jax.report import trainings_plot


def test_a_run_says_how_it_was_trained(tmp_path):
    training_folder.write(
        tmp_path / "b", 1, tasks=["pose", "match"], pairs=[], radius=0.5, kept=(4,)
    )
    training_folder.write(tmp_path / "a", 2)
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "run.json").write_text((tmp_path / "a" / "run.json").read_text())
    first, early, last = trainings.runs(tmp_path)
    assert [t.encoder.name for t in (first, early, last)] == ["a", "b-step-4", "b"]
    assert early.run == last.run == "b" and (early.steps, last.steps) == (4, 9)
    written = weights.load_encoder(tmp_path / "b" / "weights.safetensors").fingerprint
    assert last.encoder.fingerprint == written != early.encoder.fingerprint
    assert (last.tasks, last.pairs, last.robust_radius) == ("match+pose", "as drawn", 0.5)
    assert (first.tasks, first.pairs, first.seed) == ("pose", "together", 3)
    assert early.errors["rotation_median_deg"] == 30.5 and last.facts["normal_median_deg"] == 7
    assert np.isnan(early.errors["normal_median_deg"])
    assert np.isnan(last.errors["matching_fpr95_same_scene"])  # no such column
    assert last.facts["matching_fpr95_same_scene"] is None
    unknown = trainings.bundled("compact").facts
    assert [unknown[name] for name in ("robust_radius", "seed", "steps")] == [None] * 3
    with pytest.raises(InputError, match="no folder with weights of train_posenet"):
        trainings.runs(tmp_path / "a")
    (tmp_path / "a" / "run.json").write_text("{}")
    with pytest.raises(InputError, match=r"lacks flags, options; give a folder of --workdirs"):
        trainings.runs(tmp_path)


def _training(name, **of):
    facts = {"run": name, "tasks": "pose", "pairs": "together", "robust_radius": 0.0}
    facts |= {"seed": 0, "steps": 9, "errors": {}}
    encoder = weights.random_encoder("compact", seed=0)
    return trainings.Training(encoder=_named(encoder, name), **facts | of)


def _named(encoder, name):
    return dataclasses.replace(encoder, name=name)


def test_contrasts_are_of_one_thing_and_paired():
    every = [
        _training("a"),
        _training("b", pairs="recoloured"),
        _training("c", pairs="recoloured", tasks="match"),
        _training("d", pairs="recoloured", seed=1),
        _training("e", robust_radius=1.0, steps=4),
        _training("f", tasks=""),
        _training("g", pairs="apart", start="e90ce5248d2f6c7d"),
    ]
    rng = np.random.default_rng(0)
    each = rng.normal(size=40)
    values = {t.encoder.name: each + number / 8 for number, t in enumerate(every)}
    values["b"][7] = np.nan
    measured = {name: {"streets": {"chroma": own}} for name, own in values.items()}
    rows = trainings.contrasts(every, measured)
    found = {(row["differ"], row["first"], row["second"]): row for row in rows}
    assert set(found) == {
        ("pairs", "together", "recoloured"),
        ("tasks", "pose", "match"),
    }
    # Images differ by far more than the two do, and the difference is certain all the same.
    for row in rows:
        assert row["value"] == pytest.approx(1 / 8) and row["low"] == pytest.approx(row["high"])
    said = trainings.sentences(rows, "chroma")
    assert "chroma +0.12 [+0.12, +0.12] with pairs recoloured instead of together" in said[0]


def test_nothing_is_drawn_of_runs_that_kept_nothing_on_the_way(tmp_path):
    row = {"run": "a", "encoder": "a", "steps": 9, "measure": "chroma"}
    trainings_plot.learning_figure(tmp_path / "none.png", [row])
    assert not (tmp_path / "none.png").exists()
