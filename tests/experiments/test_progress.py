"""Records of runs, and progress bars that follow a training."""

import numpy as np
import tqdm.auto
from absl.testing import flagsaver

from experiments.common import progress, runtime


def test_a_record_has_the_flags_and_the_facts():
    with flagsaver.flagsaver(cpu_devices=3):
        record = runtime.record({"weights": "abc", "left_out": np.int64(2)})
    assert record["flags"]["cpu_devices"] == 3 and "jax" in record["versions"]
    assert record["weights"] == "abc" and record["left_out"] == 2


def test_a_training_is_followed_to_its_end(capsys):
    seen = []

    def training():
        for done in range(3, 6):
            yield done, {"loss": 0.5 / done, "val_mse": 0.25, "rate": 1.0}, None
            seen.append(done)

    progress.follow(training(), 5, "batch", done=2, beside="_mse")
    assert seen == [3, 4, 5]
    said = capsys.readouterr().err
    assert "5/5" in said and "loss=0.1" in said and "val_mse=0.25" in said and "rate" not in said


def test_compiling_is_said_and_counts_for_no_time_left(capsys):
    with progress.bar(1000, "step", done=10, description="a search") as bar:
        assert "a search, compiling:" in capsys.readouterr().err
        bar.start_t -= 3600  # an hour of compiling
        bar.last_print_t -= 3600
        bar.update(0)
        assert "compiling" in str(bar)
        bar.update(2)
        shown = str(bar)
        assert "compiling" not in shown and shown.startswith("a search:") and "12/1000" in shown
        assert bar.format_dict["elapsed"] < 60 and "00:00<" in shown
        bar.start_t -= 50  # two steps in 50 seconds
        assert "6:51:" in str(bar)
        bar.part()
        assert "12/1000" in str(bar) and "a search, compiling:" in capsys.readouterr().err
        elapsed = bar.format_dict["elapsed"]
        bar.last_print_t -= 3600  # so long ago was the first part's last step
        bar.start_t -= 3600
        bar.update(2)
        assert "a search:" in str(bar) and abs(bar.format_dict["elapsed"] - elapsed) < 30
    assert "compiling" not in capsys.readouterr().err.split("\r")[-1]
    with progress.bar(5, "step") as bar:
        bar.update(1)
        assert str(bar).startswith(" 20%")


def test_bars_are_a_notebooks_where_there_is_one():
    assert issubclass(progress.Bar, tqdm.auto.tqdm)


def test_no_bar_is_shown_where_there_is_nothing_to_do(capsys):
    for total in (0, 2):
        with progress.bar(total, "image·step") as bar:
            bar.update(total)
        said = capsys.readouterr().err
        assert ("2/2" in said) if total else said == ""
