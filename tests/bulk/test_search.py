"""The search: what it draws, what it ranks by, and that a trial is an inversion like any other."""

import csv
import dataclasses
import json

import jax
import numpy as np
import pytest
import script_process
from PIL import Image
from scipy import stats

from posenet_jax.bulk import search
from posenet_jax.bulk.search import STAGES, Range
from posenet_jax.data.sources import NamedImage
from posenet_jax.encoders import weights
from posenet_jax.evaluation.measures import Context, measured
from posenet_jax.inversion import engine, recipes


def test_numbers_are_drawn_from_their_distributions():
    shares = np.random.default_rng(0).random(4000)
    log = stats.loguniform(1e-10, 1e4)
    assert stats.kstest(Range(1e-10, 1e4).at(shares), log.cdf).pvalue > 0.01
    linear = stats.uniform(0, 50)
    assert stats.kstest(Range(0.0, 50.0, "linear").at(shares), linear.cdf).pvalue > 0.01
    near_one = Range(0.5, 0.99, "from_one").at(shares)
    assert stats.kstest(1 - near_one, stats.loguniform(0.01, 0.5).cdf).pvalue > 0.01
    assert near_one.min() >= 0.5 and near_one.max() <= 0.99


@pytest.mark.parametrize("number", STAGES)
def test_trials_are_table_1_and_draws_that_do_not_depend_on_their_number(number):
    stage = STAGES[number]
    few, many = search.draw(stage, 5, seed=3), search.draw(stage, 9, seed=3)
    other = search.draw(stage, 5, seed=4)
    for name, numbers in stage.ranges.items():
        assert few[name][0] == search.columns_of(recipes.PAPER)[name]
        assert numbers.low <= few[name][0] <= numbers.high
        np.testing.assert_array_equal(many[name][:6], few[name])
        assert len(set(few[name])) == 6 and not set(other[name][1:]) & set(few[name])


def test_the_report_s_trials():
    assert {number: stage.trials for number, stage in STAGES.items()} == {1: 1500, 2: 2500}
    first = STAGES[1]
    assert first.ranges == {"learning_rate": Range(1e-10, 1e4)}
    assert first.recipe.priors == {"tv": 0.0, "l6": 0.0} and not first.recipe.clipping
    regularisation = {"tv_weight", "l6_weight", "clip_percentile"}
    assert set(STAGES[2].ranges) == {"learning_rate", "beta1", "beta2"} | regularisation
    assert STAGES[2].ranges["tv_weight"] == Range(1e-9, 1e-1)
    assert STAGES[2].ranges["l6_weight"] == Range(1e-20, 1e-11)


def test_a_search_goes_through_the_images_trial_by_trial():
    images = [NamedImage(name, np.full((2, 2, 3), i, np.uint8)) for i, name in enumerate("ab")]
    source = search.RepeatedImages(images, [0, 7, 9])
    assert len(source) == 6
    names = [source[i].name for i in range(6)]
    assert names == [source.name(i) for i in range(6)]
    assert names == [f"trial-{t}/{i}" for t in (0, 7, 9) for i in "ab"]
    assert [int(source[i].image[0, 0, 0]) for i in range(6)] == [0, 1] * 3
    with pytest.raises(IndexError):
        source[6]
    same = search.RepeatedImages(images, [0, 7, 9])
    other = search.RepeatedImages([images[0], images[0]], [0, 7, 9])
    assert same.fingerprint == source.fingerprint != other.fingerprint
    assert search.RepeatedImages(images, [0, 7]).fingerprint != source.fingerprint
    stage = STAGES[2]
    drawn = search.draw(stage, 2, 0)
    recipe = search.recipe_of(stage, drawn, images=2, steps=30, patience=9)
    assert (recipe.steps, recipe.patience) == (30, 9)
    np.testing.assert_array_equal(recipe.beta1, drawn["beta1"][[0, 0, 1, 1, 2, 2]])


def test_score_is_the_mean_of_two_ranks():
    measured = {
        "judge_relative_loss": np.array([0.4, 0.1, 0.2, np.nan, 0.0]),
        "spectral_deviation": np.array([1.0, 1.0, 0.5, 2.0, 0.1]),
        "not_finite": np.array([0, 0, 0, 0, 1]),
        # What has looked at the original, or says nothing of the picture, decides nothing.
        "luminance_correlation": np.array([0.9, 0.1, 0.2, 0.3, 1.0]),
        "relative_loss": np.array([0.0, 0.9, 0.9, 0.9, 0.0]),
    }
    # Ranks by the judge 2, 0, 1, then two last alike (3.5); by spectrum 1.5, 1.5, 0, 3, 4.
    expected = np.array([3.5, 1.5, 1.0, 6.5, 7.5]) / 2 / 4
    np.testing.assert_allclose(search.score(measured), expected)
    rows = search.table({"trial": np.arange(5), "score": search.score(measured)})
    assert [row["trial"] for row in rows] == [2, 1, 0, 3, 4]


def test_rungs_quarter_the_trials_and_give_the_last_all_steps():
    assert search.rungs(200, 1501, 1) == [(200, 1501)]
    assert search.rungs(200, 1501, 3) == [(12, 1501), (50, 375), (200, 93)]
    assert search.rungs(3, 2, 3) == [(1, 2), (1, 1), (3, 1)]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for number in range(3):
        coarse = np.random.default_rng(number).integers(0, 256, (5, 5, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((100, 100)).save(folder / f"{number}.png")
    (folder / "0.png").write_text("this is not a picture")
    return folder


def _search(photographs, workdir, *options, outside=False):
    """outside: with one more measure than the package has."""
    few = "--stage=2", "--limit=2", "--steps=4", "--slots=4"
    networks = "--encoder=compact-random-0", "--judge=compact-random-1"
    folders = f"--images={photographs}", f"--workdir={workdir}"
    script = ["measure_child"] * outside + ["experiments.search_inversion"]
    return script_process.run_module(*script, *few, *networks, *folders, *options)


def _rows(workdir):
    rows = csv.DictReader((workdir / "trials.csv").read_text().splitlines())
    return sorted(rows, key=lambda row: int(row["trial"]))


def test_a_trial_is_an_inversion_with_its_own_recipe(photographs, tmp_path):
    """Against `engine.invert` of the same starts, one recipe at a time."""
    made = _search(photographs, tmp_path / "out", "--trials=4")
    assert made.returncode == 0, made.stderr
    assert "0.png" in made.stderr and "best by score" in made.stdout
    rows = _rows(tmp_path / "out")
    assert [row["trial"] for row in rows] == list("01234")
    assert (tmp_path / "out" / "loss.png").stat().st_size > 10_000
    encoder, judge = (weights.load_encoder(f"compact-random-{seed}") for seed in (0, 1))
    tap, space = encoder.tap("fc5"), encoder.preprocessing
    pixels = [np.asarray(Image.open(photographs / f"{i}.png")) for i in (1, 2)]
    originals = np.stack([space.resize(image) for image in pixels])
    targets = tap.describe(originals)
    drawn = search.draw(STAGES[2], 4, seed=0)
    for trial in range(5):
        own = {name: float(drawn[name][trial]) for name in STAGES[2].ranges}
        own["priors"] = {prior: own.pop(f"{prior}_weight") for prior in ("tv", "l6")}
        recipe = dataclasses.replace(STAGES[2].recipe, steps=4, **own)
        jobs = [engine.Job(2 * trial + i, target) for i, target in enumerate(targets)]
        done = engine.run(tap, jobs, key=jax.random.key(0), recipe=recipe, slots=4)
        iterates = np.stack([one.image for one in done])
        pictures = np.asarray(space.to_image(iterates))
        found = measured(Context(tap, targets, pictures, originals, judge.tap("fc5")))
        for name in ("picture_relative_loss", "judge_relative_loss", "spectral_deviation"):
            # Rounding of targets in another batch, which Adam makes larger in a few steps.
            expected = pytest.approx(found[name].mean(), rel=0.05)
            assert float(rows[trial][name]) == expected, (trial, name)
    again = _search(photographs, tmp_path / "out", "--trials=4")
    assert again.returncode == 0 and _rows(tmp_path / "out") == rows
    other = _search(photographs, tmp_path / "out", "--trials=5")
    assert other.returncode == 2 and "choose another folder" in other.stderr


def test_successive_halving_keeps_the_best_quarter(photographs, tmp_path):
    """With a measure from outside, which is in trials.csv and in the summary too."""
    made = _search(photographs, tmp_path / "out", "--trials=7", "--rungs=2", outside=True)
    assert made.returncode == 0, made.stderr
    (shown,) = (line.split() for line in made.stdout.splitlines() if "brightness" in line)
    bright = {f"{float(row['brightness']):.4g}" for row in _rows(tmp_path / "out")}
    assert len(bright) == 2 and set(shown[1:]) <= bright
    rung = tmp_path / "out" / "rung-1-of-2"
    assert json.loads((rung / "inversion.json").read_text())["recipe"]["steps"] == 1
    first = search.score(search.read_measures(rung / "results.csv", 8))
    best = {str(trial) for trial in np.argsort(first)[:2]}
    assert {row["trial"] for row in _rows(tmp_path / "out")} == best
