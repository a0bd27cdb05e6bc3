"""Records of runs, and progress bars that follow a training."""

import numpy as np
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


def test_no_bar_is_shown_where_there_is_nothing_to_do(capsys):
    for total in (0, 2):
        with progress.bar(total, "image·step") as bar:
            bar.update(total)
        said = capsys.readouterr().err
        assert ("2/2" in said) if total else said == ""
