"""The search of a decoder's learning rate: its rates, its table, and what is not done twice."""

import numpy as np
import pytest

from posenet_jax.errors import InputError
from posenet_jax.training import decoder_search


def test_one_rate_lies_in_each_part_of_the_range():
    rates = decoder_search.log_uniform_rates(1e-4, 1e2, 6, seed=3)
    assert [int(np.floor(np.log10(rate))) for rate in rates] == [-4, -3, -2, -1, 0, 1]
    assert rates == [float(f"{rate:.4g}") for rate in rates]
    assert rates == decoder_search.log_uniform_rates(1e-4, 1e2, 6, seed=3)
    assert rates != decoder_search.log_uniform_rates(1e-4, 1e2, 6, seed=4)
    for low, high in ((0.0, 1.0), (2.0, 1.0)):
        with pytest.raises(InputError, match="lowest rate"):
            decoder_search.log_uniform_rates(low, high, 6, seed=3)


def _trial(rate, loss, validation=0.5):
    return {"learning_rate": rate, "loss": loss, "validation_mse": validation}


def test_the_fine_range_is_that_of_the_best_third_and_half_as_much_again():
    coarse = [_trial(10.0**-n, loss) for n, loss in enumerate((9, 8, 3, 1, 2, 7, 6, 5, 4))]
    assert decoder_search.refined_range(coarse) == pytest.approx((1e-4 / 1.5, 1.5e-2))
    few = [_trial(rate, loss) for rate, loss in ((0.1, 3), (0.2, 1), (0.4, 2))]
    assert decoder_search.refined_range(few) == pytest.approx((0.2 / 1.5, 0.6))  # two at least


def test_trials_of_the_table_are_not_repeated_and_all_are_ranked(tmp_path, monkeypatch):
    table, rates = tmp_path / "fine.csv", [0.1, 0.2, 0.4]
    assert decoder_search.read_trials(table) == []
    table.write_text("learning_rate,loss,validation_mse\n0.2,0.125,inf\n0.3,0.1,0.1\n")
    tried = []

    def trial(config, data, rate, steps, seed, progress):
        tried.append(rate)
        progress(steps)
        return _trial(rate, loss=rate, validation=1.0 - rate)

    monkeypatch.setattr(decoder_search, "_trial", trial)
    done = []
    found = decoder_search.search(
        None, None, "fine", rates, table, steps=7, seed=0, progress=done.append
    )
    assert tried == [0.1, 0.4] and done == [7, 7, 7]
    assert [row["learning_rate"] for row in found] == [0.4, 0.1, 0.2]
    assert decoder_search.read_trials(table) == found
    assert found[-1] == _trial(0.2, 0.125, np.inf)
    head, first, *_ = decoder_search.sentences(found)
    assert "best first" in head and first.split() == ["0.4", "0.40000", "0.60000"]
    coarse = decoder_search.search(None, None, "coarse", rates, table, steps=7, seed=0)
    assert [row["learning_rate"] for row in coarse] == [0.1, 0.2, 0.4]
