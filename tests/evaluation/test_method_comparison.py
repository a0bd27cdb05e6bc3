"""The table that a person reads of ways to make pictures side by side."""

import numpy as np
import pytest

from posenet_jax.evaluation.method_comparison import Compared, lines

SUMMARY = {
    "mirror": {"relative_loss": {"median": 0.25, "mean": 0.3}, "grid_index": 13.5},
    "adversarial": {
        "relative_loss": {"median": 0.125, "mean": 0.2},
        "grid_index": 1.25,
        "draw_variance": 0.03,
    },
}
HALVES = {"originals": {"grid_index_of_halves": 1.0}}


def cells(line):
    return line.split()


def test_medians_and_figures_of_sets_stand_beside_the_originals_halves():
    told = lines(Compared([], SUMMARY | HALVES), ["mirror", "adversarial"])
    assert cells(told[0]) == ["mirror", "adversarial", "originals'", "halves"]
    assert [cells(line) for line in told[1:]] == [
        ["relative_loss", "0.2500", "0.1250"],
        ["grid_index", "13.5000", "1.2500", "1.0000"],
        ["draw_variance", "nan", "0.0300"],
    ]
    ends = [told[0].index(name) + len(name) for name in ("mirror", "adversarial", "halves")]
    # Numbers end where their headings do.
    for line in told[1:3]:
        assert all(line[end - 1].isdigit() for end in ends if end <= len(line))


@pytest.mark.parametrize("methods", [["adversarial"], ["adversarial", "mirror"]])
def test_columns_are_in_the_order_asked_for_and_without_halves_there_is_none(methods):
    told = lines(Compared([], SUMMARY), methods)
    assert cells(told[0]) == methods
    values = [SUMMARY[method]["grid_index"] for method in methods]
    row = next(cells(line) for line in told if "grid_index" in line)
    np.testing.assert_allclose([float(value) for value in row[1:]], values)


def test_a_files_path_is_cut_at_its_beginning():
    path = "/a/long/way/to/the/folder/of/a/decoder/weights.safetensors"
    told = lines(Compared([], {path: {"grid_index": 1.0}}), [path])
    (heading,) = cells(told[0])
    assert len(heading) == 38 and heading == "…" + path[-37:]
