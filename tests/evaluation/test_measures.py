"""Measures of pictures against SciPy, the heads asked one by one, and the registry."""

import csv
from pathlib import Path

import numpy as np
import pytest
from measure_child import BRIGHTNESS
from PIL import Image
from scipy import stats
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation
from scipy.special import expit

from posenet_jax import metrics
from posenet_jax.bulk import search
from posenet_jax.encoders import weights
from posenet_jax.encoders.encoder import Tap
from posenet_jax.evaluation import measures, results_table
from posenet_jax.evaluation.measures import Context
from posenet_jax.io import files
from posenet_jax.report import inversion_sections, search_plots

COUNT = 5
# Two measures from outside; the second has no control.
MINE = BRIGHTNESS, BRIGHTNESS._replace(name="plain_brightness", control=None, label="plain")


@pytest.fixture(scope="module")
def encoder():
    return weights.load_encoder("compact")


@pytest.fixture(scope="module")
def images():
    """Originals; pictures like them but for the last, which is like the first original."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 216, (COUNT, 5, 5, 3))
    originals = np.kron(coarse, np.ones((1, 20, 20, 1))).astype(np.uint8)
    pictures = originals[[0, 1, 2, 3, 0]].astype(int) + rng.integers(-9, 10, originals.shape)
    return originals, pictures.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def found(encoder, images):
    originals, pictures = images
    tap = encoder.tap("conv4")
    targets = tap.describe(originals)
    return measures.measured(Context(tap, targets, pictures, originals, encoder=encoder))


def test_a_judge_of_another_size_sees_them_resized(encoder, images):
    originals, pictures = (x[:2].repeat(2, axis=1).repeat(2, axis=2) for x in images)
    tap = encoder.tap("conv4")  # stands for a layer that reads 200 pixels, which measures leave out
    context = Context(tap, np.zeros((2, 1)), pictures, originals, encoder.tap("fc5"))
    small = [Image.fromarray(x).resize((100, 100), Image.Resampling.BICUBIC) for x in pictures]
    oracle = encoder.tap("fc5").describe(np.stack([np.asarray(x) for x in small]))
    np.testing.assert_array_equal(context.described(encoder.tap("fc5"), "pictures"), oracle)


def _flat(encoder, layer, images):
    seen = encoder.tap(layer).describe(images)
    return seen.reshape((COUNT, -1)).astype(np.float64)


def test_ranks_are_those_of_scipys_distances(found, encoder, images):
    originals, pictures = images
    distances = cdist(_flat(encoder, "conv4", pictures), _flat(encoder, "conv4", originals))
    ranks = [1 + np.sum(np.delete(row, i) < row[i]) for i, row in enumerate(distances)]
    np.testing.assert_array_equal(found["descriptor_rank"], ranks)
    np.testing.assert_array_equal(found["recall_at_1"], np.array(ranks) == 1)
    assert found["recall_at_1"].tolist() == [1, 1, 1, 1, 0]


def test_heads_are_asked_about_picture_and_original(found, encoder, images):
    originals, pictures = (_flat(encoder, "fc5", x).astype(np.float32) for x in images)
    scale = encoder.pose_scale

    def pose(first, second):
        said = np.asarray(encoder.heads(first, second).pose, np.float64)
        yaw, pitch, roll = (said * np.asarray(scale.std) + np.asarray(scale.mean))[:3]
        return Rotation.from_euler("YXZ", [yaw, pitch, roll])

    for i in range(COUNT):
        following = originals[(i + 1) % COUNT]
        truth = pose(originals[i], following)
        for name, first in (("", pictures[i]), ("other_", originals[(i + 2) % COUNT])):
            angle = np.degrees((truth.inv() * pose(first, following)).magnitude())
            assert found[f"{name}pose_disagreement"][i] == pytest.approx(angle, abs=0.05)
        for name, second in (("", pictures[i]), ("other_", pictures[(i + 1) % COUNT])):
            logit = float(encoder.heads(originals[i], second).match)
            assert found[f"{name}match_probability"][i] == pytest.approx(expit(logit), abs=1e-3)


def test_pixels_are_compared_as_they_are(found, images):
    originals, pictures = (x.astype(np.float64) / 255.0 for x in images)
    error = np.square(originals - pictures).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(found["mean_squared_error"], error, rtol=1e-4)
    np.testing.assert_allclose(found["psnr"], -10 * np.log10(error), rtol=1e-4)


def test_an_encoder_without_heads_is_asked_nothing(images):
    originals, pictures = images
    bare = weights.random_encoder("compact")
    tap = bare.tap("fc5")
    targets = tap.describe(originals)
    measured = measures.measured(Context(tap, targets, pictures, originals, encoder=bare))
    assert not [name for name in measured if "pose" in name or "match" in name]


def test_a_tie_counts_against_a_rank():
    scores = np.random.default_rng(0).integers(0, 4, (40, 40)).astype(float)
    expected = [stats.rankdata(-row, method="max")[i] for i, row in enumerate(scores)]
    np.testing.assert_array_equal(metrics.own_ranks(scores), expected)
    assert metrics.own_ranks(np.array([[np.nan, 1.0], [np.nan, 1.0]])).tolist() == [2, 2]


def test_a_picture_without_contrast_comes_last(encoder, images):
    originals, pictures = images
    pictures = pictures.copy()
    pictures[2] = 90
    tap = encoder.tap("conv4")
    targets = tap.describe(originals)
    context = Context(tap, targets, pictures, originals)
    found = measures.measured(context, ["luminance_correlation", "luminance_rank"])
    assert found["luminance_correlation"][2] == 0 and found["luminance_rank"][2] == COUNT
    rows = np.asarray(context.correlations)
    expected = [stats.rankdata(-row, method="max")[i] for i, row in enumerate(rows)]
    np.testing.assert_array_equal(found["luminance_rank"], expected)
    # A tied rank is the worst of the group's, so that chance is no better than it.
    assert np.all(found["chance_rank"] == (1 + COUNT) / 2)


def test_images_are_encoded_once_for_all_measures(encoder, images, monkeypatch):
    originals, pictures = images
    tap = encoder.tap("fc5")
    targets = tap.describe(originals)
    asked, describe = [], Tap.describe

    def counted(tap, images):
        asked.append(tap.layer)
        return describe(tap, images)

    monkeypatch.setattr(Tap, "describe", counted)
    context = Context(tap, targets, pictures, originals, encoder=encoder)
    found = measures.measured(context)
    assert asked == ["fc5", "fc5"] and list(found) == [
        name for name in measures.columns() if "judge" not in name and "lpips" not in name
    ]
    asked.clear()
    others = pictures[::-1]
    again = measures.measured(context.with_pictures(others))
    assert asked == ["fc5"]
    alone = measures.measured(Context(tap, targets, others, originals, encoder=encoder))
    for name, values in alone.items():
        np.testing.assert_array_equal(again[name], values, err_msg=name)


def test_measures_without_what_they_need_are_left_out(encoder, images):
    originals, pictures = images
    tap = encoder.tap("conv4")
    targets = tap.describe(originals)
    found = measures.measured(Context(tap, targets, pictures, judge=tap, encoder=encoder))
    wanted = [m.name for m in measures.MEASURES if not m.needs]
    assert [name for name in found if not name.startswith(("other", "chance"))] == wanted
    assert set(found) <= set(measures.columns())


def test_a_line_has_every_column_and_nothing_else():
    found = results_table.line(position=3, image="a", layer="fc5", figures={"psnr": 2.0})
    assert list(found) == results_table.header() and found["ssim"] is None
    assert (found["position"], found["restart"], found["psnr"]) == (3, 0, 2.0)
    decoded = results_table.line(position=0, image="a", layer="fc5", figures={}, method="m")
    assert list(decoded) == results_table.header(method=True)
    assert [name for name in decoded if name != "method"] == results_table.header()


def test_a_summary_is_of_medians_and_of_the_worst():
    numbers = np.arange(201.0)
    columns = {"relative_loss": numbers, "psnr": numbers, "other_psnr": np.full(201, np.inf)}
    _, loss, psnr = results_table.summary(columns | {"ssim": np.full(201, np.nan)})
    assert loss.split() == ["relative", "loss,", "iterate", "100.0000", "198.0000"]
    assert psnr.split() == ["PSNR,", "dB", "100.0000", "2.0000", "inf"]


def test_the_page_of_columns_is_the_registrys():
    page = (Path(__file__).parents[2] / "docs/guide/results.md").read_text(encoding="utf-8")
    assert results_table.markdown() in page


def test_bundled_tables_keep_their_measures_and_their_order():
    fidelity = [measure.name for measure in measures.shown_in("fidelity")]
    assert fidelity == [
        *("luminance_correlation", "luminance_rank", "psnr", "lpips", "judge_relative_loss"),
        *("descriptor_rank", "pose_disagreement", "match_probability"),
    ]
    assert search.measure_names() == [
        *("relative_loss", "picture_relative_loss", "judge_relative_loss"),
        *("spectral_deviation", "luminance_correlation"),
    ]
    plotted = [(measure.name, measure.label) for measure in measures.shown_in("trial_plots")]
    assert plotted == [
        ("judge_relative_loss", "relative loss, judge"),
        ("spectral_deviation", "spectral deviation"),
    ]


@pytest.fixture
def mine(monkeypatch):
    monkeypatch.setattr(measures, "MEASURES", (*measures.MEASURES, *MINE))


def test_a_measure_from_outside_is_in_the_documentation(mine):
    lines = results_table.markdown().splitlines()
    assert lines[-3:] == [
        "| `brightness` | mean of the picture's values | lower |",
        "| `original_brightness` | control: the original's own | – |",
        "| `plain_brightness` | mean of the picture's values | lower |",
    ]


def test_a_measure_from_outside_is_in_the_report(mine, encoder, images, tmp_path):
    """In fidelity.csv and the page's table, after the others, beside its control."""
    originals, pictures = images
    layer = "conv4"
    mean, _ = inversion_sections.baselines(
        "mine", encoder, layer, originals, pictures, judge=encoder
    )
    (table,) = inversion_sections.fidelity_table(tmp_path, [mean]).parts
    assert list(table.rows[0])[-2:] == ["brightness", "plain brightness"]
    with (tmp_path / "fidelity.csv").open(newline="") as file:
        rows = {row["measure"]: row for row in csv.DictReader(file)}
    own, others = rows["brightness"], originals.mean(axis=(1, 2, 3))
    average = float(np.round(pictures.mean(axis=0)).mean())
    for name, value in (("", average), ("other_", np.median(others))):
        assert float(own[f"{name}median"]) == pytest.approx(value)
        assert float(own[f"{name}low"]) <= value <= float(own[f"{name}high"])
    assert table.rows[0]["brightness"].count("; other ") == 1
    assert rows["plain_brightness"]["median"] == own["median"]
    assert not rows["plain_brightness"]["other_median"]
    assert "other" not in table.rows[0]["plain brightness"]
    assert "Brightness, levels: mean of the picture's values (lower is better)." in table.caption


TRIALS, IMAGES = 4, 2


def _search_results(path, seed=0):
    """results.csv of a search with numbers by chance; {column: [T, images]}."""
    rng = np.random.default_rng(seed)
    names = "relative_loss", *(measure.name for measure in measures.MEASURES)
    numbers = {name: rng.uniform(size=(TRIALS, IMAGES)) for name in names}
    keys = {"image": "a", "layer": "fc5"}
    rows = [
        results_table.line(
            position=i,
            figures={name: column.flat[i] for name, column in numbers.items()} | {"status": "x"},
            **keys,
        )
        for i in range(TRIALS * IMAGES)
    ]
    files.write_csv(path, rows)
    return numbers


def test_a_measure_from_outside_is_in_a_searchs_trials(mine, tmp_path):
    numbers = _search_results(tmp_path / "results.csv")
    found = search.read_measures(tmp_path / "results.csv", TRIALS)
    assert list(found)[-3:] == ["brightness", "plain_brightness", "not_finite"]
    for name in search.measure_names():
        np.testing.assert_allclose(found[name], numbers[name].mean(axis=1))
    rows = search.table({"trial": np.arange(TRIALS)} | found | {"score": search.score(found)})
    assert rows[0]["brightness"] == found["brightness"][rows[0]["trial"]]


def test_trials_are_ranked_by_the_measures_that_say_so(mine, tmp_path, monkeypatch):
    _search_results(tmp_path / "results.csv")
    found = search.read_measures(tmp_path / "results.csv", TRIALS)
    bundled = [found["judge_relative_loss"], found["spectral_deviation"]]
    ranks = [stats.rankdata(values) - 1 for values in bundled]
    np.testing.assert_allclose(search.score(found), np.mean(ranks, axis=0) / (TRIALS - 1))
    judging = BRIGHTNESS._replace(ranks_trials=True, better="high", shown_in={})
    monkeypatch.setattr(measures, "MEASURES", (*measures.MEASURES[:-2], judging))
    ranks.append(stats.rankdata(-found["brightness"]) - 1)
    np.testing.assert_allclose(search.score(found), np.mean(ranks, axis=0) / (TRIALS - 1))
    assert search.measure_names()[-1] == "brightness"


def test_a_measure_from_outside_is_in_a_searchs_plots(mine, tmp_path, monkeypatch):
    """But not where a search of before has no value of it."""
    _search_results(tmp_path / "results.csv")
    found = search.read_measures(tmp_path / "results.csv", TRIALS)
    stage = search.STAGES[1]
    columns = search.draw(stage, TRIALS - 1, 0) | found | {"score": search.score(found)}
    columns["plain_brightness"] = np.full(TRIALS, np.nan)
    drawn = []
    monkeypatch.setattr(search_plots, "save_figure", lambda path, figure: drawn.append(figure))
    search_plots.loss_figure(tmp_path / "a.png", stage, columns)
    search_plots.parallel_figure(tmp_path / "b.png", stage, columns)
    labels = [axes.get_ylabel() for axes in drawn[0].axes]
    wanted = ["relative loss", "relative loss, judge", "spectral deviation", "mean brightness"]
    assert labels[:4] == wanted and "plain" not in labels
    ticks = [tick.get_text() for tick in drawn[1].axes[0].get_xticklabels()]
    assert ticks == ["learning rate", *wanted]
