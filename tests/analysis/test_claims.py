"""Linear probes against NumPy and closed forms; verdicts of claims on numbers made to have them."""

import csv
import json
import shutil

import numpy as np
import pytest
import script_process
from PIL import Image
from scipy import stats

from posenet_jax.analysis import claims, probes
from posenet_jax.analysis.probes import Score
from posenet_jax.errors import InputError


def test_ridge_is_least_squares_with_rows_of_its_own():
    """‖XW − Y‖² + s‖W‖² is plain least squares with √s·I below X; both forms, wide and tall."""
    rng = np.random.default_rng(0)
    for count, width in ((30, 7), (7, 30)):
        x, y = rng.normal(size=(count, width)), rng.normal(size=(count, 2))
        longer = np.concatenate([x, np.sqrt(3.0) * np.eye(width)])
        expected = np.linalg.lstsq(longer, np.concatenate([y, np.zeros((width, 2))]), rcond=None)[0]
        np.testing.assert_allclose(probes.ridge(x, y, 3.0), expected, atol=1e-10)


def test_what_is_there_is_read_and_what_is_not_is_not():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(400, 20)) * 5.0 + 100.0
    features[:, 3] = 7.0  # silent
    shown = features[:, :2] @ np.array([[1.0], [2.0]])
    half = shown + shown.std() * rng.normal(size=(400, 1))  # R² of one half at best
    hidden = rng.normal(size=(400, 1))
    scores = [
        probes.score(features[:300], y[:300], features[300:], y[300:])
        for y in (shown, half, hidden)
    ]
    assert scores[0].value > 0.999
    assert scores[1].low < 0.5 < scores[1].high and scores[1].value == pytest.approx(0.5, abs=0.15)
    assert scores[2].value == pytest.approx(0.0, abs=0.06) and scores[2].low < 0.0
    with pytest.raises(InputError, match="8 scenes to fit"):
        probes.score(features[:4], shown[:4], features, shown)


def test_a_score_is_r2_of_one_target():
    """1 − Σ(ŷ−y)² / Σ(ȳ−y)², ȳ the training mean; x within the training range."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(60, 4)), rng.normal(size=(60, 1))
    y += x[:, :1]
    found = probes.score(x[:40], y[:40], x[40:], y[40:])
    x[40:] = np.minimum(np.maximum(x[40:], x[:40].min(0)), x[:40].max(0))
    best = []
    for strength in probes.STRENGTHS:
        mean, spread = x[:40].mean(0), x[:40].std(0)
        w = probes.ridge((x[:40] - mean) / spread, y[:40] - y[:40].mean(), strength * 40)
        said = (x[40:] - mean) / spread @ w + y[:40].mean()
        best.append(1 - np.square(said - y[40:]).sum() / np.square(y[:40].mean() - y[40:]).sum())
    assert any(found.value == pytest.approx(value, abs=1e-9) for value in best)


def test_units_that_are_seldom_active_are_not_extrapolated():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(300, 5))
    read = features[:, :1] + 0.3 * rng.normal(size=(300, 1))
    without = probes.score(features[:200], read[:200], features[200:], read[200:])
    seldom = (rng.uniform(size=(300, 40)) < 0.01) * 10.0 ** rng.normal(size=(300, 40), scale=4)
    features = np.concatenate([features, seldom], axis=1)
    found = probes.score(features[:200], read[:200], features[200:], read[200:])
    assert without.value > 0.85
    assert found.value > 0.75


@pytest.mark.parametrize(
    ("kept", "above", "untrained", "said"),
    [
        (True, (0.2, 0.3), (0.1, 0.2), "supported"),
        (True, (0.2, 0.3), (-0.1, 0.2), "undecided"),
        (True, (-0.1, 0.3), (0.1, 0.2), "not supported"),
        (False, (0.0, 0.05), (-0.3, -0.1), "supported"),
        (False, (0.0, 0.05), (-0.3, 0.1), "undecided"),
        (False, (0.0, 0.15), (-0.3, -0.1), "undecided"),
        (False, (0.2, 0.3), (-0.3, -0.1), "not supported"),
        (True, (np.nan, np.nan), (0.1, 0.2), "undecided"),
    ],
)
def test_verdicts(kept, above, untrained, said):
    assert claims.verdict(kept, above, untrained) == said


def test_more_is_said_only_where_training_added_more_too():
    rng = np.random.default_rng(5)
    high, middle, low = (_measured(rng, level) for level in (0.8, 0.5, 0.2))
    for ours, theirs, said in (
        ((high, low), (middle, low), "more"),
        ((middle, low), (high, low), "less"),
        ((high, middle), (middle, low), "undecided"),  # both gained as much
        ((high, low), (high, low), "undecided"),
    ):
        rows = {row["measure"]: row for row in claims.comparison("cars", ours, theirs)}
        assert rows["chroma"]["verdict"] == said
    row = {row["measure"]: row for row in claims.comparison("x", (high, low), (middle, low))}["sky"]
    assert row["difference_value"] == pytest.approx(0.3, abs=0.03)
    assert row["difference_high"] - row["difference_low"] == pytest.approx(
        2 * 1.96 * 0.1 * np.sqrt(2 / 200), rel=0.2
    )


def test_p_values_are_those_of_a_normal_difference_and_corrected_as_holm_says():
    rng = np.random.default_rng(7)
    high, low, middle = (_measured(rng, level) for level in (0.55, 0.5, 0.52))
    rows = claims.table("x", high, low, middle)
    (row,) = (row for row in rows if row["measure"] == "luminance")
    differences = [high["luminance"] - other["luminance"] for other in (low, middle)]
    expected = max(stats.ttest_1samp(values, 0.0).pvalue for values in differences)
    assert row["p"] == pytest.approx(expected, rel=0.5, abs=1e-6)
    (row,) = (row for row in rows if row["measure"] == "own_texture")  # chance is 0.5 exactly
    assert row["p"] == pytest.approx(
        max(
            stats.ttest_1samp(high["own_texture"], 0.6).pvalue,
            1.0,  # no less than the untrained network's
        )
    )
    kept, lost = "light and dark are kept", "colour is lost"
    p_values = [0.001, 0.012, 0.013, 0.4]
    given = [
        {"claim": claim, "verdict": verdict, "p": p}
        for claim, verdict, p in zip(
            (kept, lost, kept, kept),
            ("supported", "not supported", "supported", "not supported"),
            p_values,
            strict=True,
        )
    ]
    shuffled = [given[number] for number in (2, 3, 0, 1)]
    found = claims.corrected(shuffled)
    expected = [0.036, 0.4, 0.004, 0.036]  # 4p, 3p, 2p and no less than those before, p
    np.testing.assert_allclose([row["p_corrected"] for row in found], expected)
    said = [row["verdict_corrected"] for row in found]
    assert said == ["supported", "not supported", "supported", "not supported"]
    many = claims.corrected([*given, *given, *given])
    assert [row["verdict_corrected"] for row in many[:4]] == [
        "supported",
        "undecided",
        "undecided",
        "not supported",  # rests on no difference
    ]


def _measured(rng, level, count=200):
    names = {name for claim in claims.CLAIMS for name in claim.measure.split("-")}
    # A set has another order in every process, and each name would have other draws.
    return {name: level + 0.1 * rng.normal(size=count) for name in sorted(names)}


def test_a_table_of_numbers_whose_verdicts_are_known():
    rng = np.random.default_rng(3)
    high, low, middle = (_measured(rng, level) for level in (0.8, 0.0, 0.4))
    rows = {row["measure"]: row for row in claims.table("cities", high, low, middle)}
    assert rows["sky"]["verdict"] == rows["luminance"]["verdict"] == "supported"
    assert rows["chroma"]["verdict"] == "not supported"
    # Paired, so that what both have in common does not count.
    assert rows["vanishing_edges-vertical_edges"]["value"] == pytest.approx(0.0, abs=0.05)
    row = rows["sky"]
    error = 1.96 * 0.1 / np.sqrt(200)
    assert row["high"] - row["low"] == pytest.approx(2 * error, rel=0.2)
    assert row["untrained_value"] == pytest.approx(0.4, abs=0.03) and row["count"] == 200
    without = high | {"sky": np.full(200, np.nan)}
    assert "sky" not in {r["measure"] for r in claims.table("indoor", without, low, middle)}


def test_probed_claims():
    names = [claim.measure for claim in claims.PROBED]
    trained = {name: Score(0.7, 0.6, 0.8) for name in names}
    untrained = {name: Score(0.3, 0.2, 0.4) for name in names}
    rows = {row["measure"]: row for row in claims.probe_table("cities", 9, trained, untrained)}
    assert rows["R² of depth"]["verdict"] == "supported"
    assert rows["R² of mean colour"]["verdict"] == "not supported"
    assert rows["R² of skyline"]["untrained_high"] == 0.4


def test_claims_are_said_in_two_lines_and_read_again(tmp_path):
    row = {"encoder": "streetnet", "layer": "fc5", "images": "cities", "claim": "colour is lost"}
    row |= {"measure": "chroma", "verdict": "supported"}
    for number, part in enumerate(("", "wrong_image_", "untrained_")):
        row |= {f"{part}{end}": number + 0.25 for end in ("value", "low", "high")}
    assert claims.sentences([row]) == [
        "streetnet fc5, cities: colour is lost (chroma): supported",
        "    0.25 [0.25, 0.25]; a wrong image 1.25 [1.25, 1.25]; untrained 2.25 [2.25, 2.25]",
    ]
    path = tmp_path / "claims.csv"
    path.write_text("claim,value\ncolour is lost,0.25")  # as an editor may leave it
    assert claims.read(path) == [{"claim": "colour is lost", "value": "0.25"}]
    path.write_text("claim,value\n")
    with pytest.raises(InputError, match="no line below its header; give the claims.csv"):
        claims.read(path)


def test_the_script_writes_claims_and_refuses_in_one_sentence(tmp_path):
    def run(*flags):
        flags = "--cpu_devices=1", f"--out={tmp_path}", *flags
        return script_process.run("measure_retention", *flags)

    refused = run("--kinds=cities,moons")
    assert refused.returncode == 2 and "moons" in refused.stderr
    assert "streets|cars|rooms" in refused.stderr and "Traceback" not in refused.stderr
    refused = run("--control=squeezenet-random-0")
    assert refused.returncode == 2 and "another architecture" in refused.stderr
    for wrong, words in (("own", "NAME=FOLDER"), ("own=/nowhere", "/nowhere")):
        refused = run(f"--photographs={wrong}")
        assert refused.returncode == 2 and words in refused.stderr, refused.stderr
        assert "Traceback" not in refused.stderr
    rng = np.random.default_rng(0)
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(2):
        coarse = rng.integers(0, 256, (5, 5, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((120, 110)).save(photos / f"{number}.png")
    facades = shutil.copytree(photos, tmp_path / "facades")
    (photos / "bad.png").write_text("not a picture")
    # The numbers of the report's test, so that what that has compiled serves here.
    networks = "--encoder=compact", "--control=compact-random-0"
    beside = "--beside=compact/conv4", "--beside_control=compact-random-1"
    few = "--kinds=cities", "--steps=2", "--scenes=3", "--probe_scenes=30", "--render_batch=4"
    given = f"--facades={facades}", f"--photographs=own={photos}"
    done = run(*few, *networks, *beside, *given)
    assert done.returncode == 1 and "left out: " in done.stderr, done.stderr
    assert "bad.png" in done.stderr and "Traceback" not in done.stderr
    with (tmp_path / "claims.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["verdict"] for row in rows} <= {"supported", "not supported", "undecided"}
    assert any(row["measure"] == "R² of depth" for row in rows)
    with (tmp_path / "images.csv").open(newline="") as file:
        shown = [
            (row["images"], row["picture"]) for row in csv.DictReader(file) if row["layer"] == "fc5"
        ]
    names = "compact", "compact, wrong image", "compact-random-0"
    assert shown == [
        (group, name) for group, count in (("cities", 3), ("own", 2)) for name in names
        for _ in range(count)
    ]  # fmt: skip
    record = json.loads((tmp_path / "run.json").read_text())["vanishing_point_degrees"]
    quartiles = record["cities"]["estimated"]
    assert quartiles == sorted(quartiles) and 0 <= quartiles[0] and quartiles[2] <= 90
    with (tmp_path / "comparison.csv").open(newline="") as file:
        assert {row["images"] for row in csv.DictReader(file)} == {"cities", "own"}
    of_photographs = [row["measure"] for row in rows if row["images"] == "own"]
    assert "vanishing_edges" in of_photographs and "sky" not in of_photographs
    for name in ("claims", "cities", "own"):
        assert (tmp_path / f"{name}.png").is_file()
