"""Figures of an evaluation: curves against counts by hand, files whole."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from posenet_jax import metrics
from posenet_jax.analysis import claims
from posenet_jax.evaluation.method_comparison import Compared, Method
from posenet_jax.metrics import PairErrors
from posenet_jax.report import claims_plot, comparison_sheets, pose_plots

ENDS = ("value", "low", "high")


def test_roc_counts_what_each_threshold_accepts():
    rng = np.random.default_rng(0)
    matching, differing = np.round(rng.normal(1, 1, 37), 1), np.round(rng.normal(0, 1, 23), 1)
    rates, recalls = metrics.roc(matching, differing)
    for threshold in np.unique(np.concatenate([matching, differing])):
        point = np.mean(differing >= threshold), np.mean(matching >= threshold)
        assert np.any((np.abs(rates - point[0]) < 1e-9) & (np.abs(recalls - point[1]) < 1e-9))
    assert (rates[0], recalls[0]) == (0, 0) and (rates[-1], recalls[-1]) == (1, 1)
    # The area under the curve is the chance that a matching pair scores higher, ties counted half.
    wins = (matching[:, None] > differing).mean() + 0.5 * (matching[:, None] == differing).mean()
    np.testing.assert_allclose(np.trapezoid(recalls, rates), wins, rtol=1e-9)


def test_figures_are_written_whole_and_show_something(tmp_path):
    rng = np.random.default_rng(1)
    truth = rng.uniform(0, 110, 200)
    errors = PairErrors(*[truth * share for share in (1, 0.2, 1, 1, 1)])
    few = PairErrors(*[value[:3] for value in errors])
    pose_plots.rotation_figure(tmp_path / "rotation.png", {"all": errors, "few": few})
    pose_plots.matching_figure(tmp_path / "roc.png", truth, {"others": truth - 20})
    for name in ("rotation.png", "roc.png"):
        picture = np.asarray(Image.open(tmp_path / name).convert("L"))
        assert min(picture.shape) > 400 and 20 < picture.std() and (picture > 250).mean() > 0.5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["roc.png", "rotation.png"]


def test_sheets_of_methods_have_the_names_said_before(tmp_path):
    rng = np.random.default_rng(0)
    draws = rng.integers(0, 256, (2, 3, 8, 8, 3), dtype=np.uint8)
    methods = {"noisy": Method(draws), "plain": Method(draws[:1])}
    rows = [{"method": name, "psnr": 10.0} for name in methods for _ in range(3)]
    arguments = methods, draws[0], Compared(rows, {})
    sheets = comparison_sheets.pages(*arguments, shown=2, title="both")
    decoders = [SimpleNamespace(name="noisy", noise=(4,)), SimpleNamespace(name="plain", noise=())]
    names = comparison_sheets.file_names(decoders)  # type: ignore[arg-type]
    assert sorted(sheets) == sorted(names) == ["draws-noisy.png", "grid.png", "places.png"]
    for name, draw in sheets.items():
        draw(tmp_path / name)
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) >= 2 * 8


def test_sheets_of_methods_leave_encoder_and_layer_to_the_title(monkeypatch):
    """But where another method has the name that would be left."""
    headings = []
    monkeypatch.setattr(
        comparison_sheets, "image_grid", lambda path, columns, **_: headings.append(list(columns))
    )
    one = Method(np.zeros((1, 1, 8, 8, 3), np.uint8))
    for names in (("net-fc5", "net-fc5-sharp", "mine"), ("net-fc5", "decoder")):
        compared = Compared([{"method": name, "psnr": 10.0} for name in names], {})
        methods = dict.fromkeys(names, one)
        sheets = comparison_sheets.pages(
            methods, one.pictures, compared, shown=1, title="net fc5", own="net-fc5"
        )
        sheets["grid.png"](Path("grid.png"))
    assert headings[0] == ["original", "decoder", "sharp", "mine"]
    assert headings[1] == ["original", "net-fc5", "decoder"]


def test_a_plot_of_claims_is_in_words(monkeypatch):
    """A panel a claim, its axis named, and every verdict that rows have beside its line."""
    drawn = []
    monkeypatch.setattr(claims_plot, "save_figure", lambda path, figure: drawn.append(figure))
    numbers = {f"{of}{part}": 0.5 for of in ("", "wrong_image_", "untrained_") for part in ENDS}
    verdicts = itertools.cycle(("supported", "not supported", "undecided"))
    rows = [
        {"claim": claim.sentence, "measure": measure, "images": images, "count": 3, **numbers}
        | {"verdict": next(verdicts)}
        for prefix, found in (("", claims.CLAIMS), ("R² of ", claims.PROBED))
        for claim in found
        for measure in [prefix + claim.measure]
        for images in ("cities", "indoor", "street_photographs")
    ]
    claims_plot.claims_figure("claims.png", rows)
    panels = [axes for axes in drawn[0].axes if axes.axison]
    assert len(panels) == len(claims.CLAIMS) + 3  # probes: a panel each set of images
    for axes in panels:
        words = [axes.get_title(loc="left"), axes.get_xlabel()]
        words += [label.get_text() for label in axes.get_yticklabels()]
        assert all(words) and not any("_" in text for text in words), words
        marks = [text.get_text() for text in axes.texts]
        assert len(marks) == len(axes.get_yticks()) and set(marks) <= set("✓✗?")
    first = [label.get_text() for label in panels[0].get_yticklabels()]
    assert first == ["streets (3)", "rooms (3)", "street photographs (3)"]
    assert [text.get_text() for text in panels[0].texts] == ["✓", "✗", "?"]
