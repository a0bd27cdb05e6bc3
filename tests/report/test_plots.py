"""Figures of an evaluation: curves against counts by hand, files whole."""

from types import SimpleNamespace

import numpy as np
from PIL import Image

from posenet_jax import metrics
from posenet_jax.evaluation.method_comparison import Compared, Method
from posenet_jax.metrics import PairErrors
from posenet_jax.report import comparison_sheets, pose_plots


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
    decoders = [SimpleNamespace(name="noisy", noise=4), SimpleNamespace(name="plain", noise=0)]
    names = comparison_sheets.file_names(decoders)  # type: ignore[arg-type]
    assert sorted(sheets) == sorted(names) == ["draws-noisy.png", "grid.png"]
    for name, draw in sheets.items():
        draw(tmp_path / name)
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) >= 2 * 8
