"""Runs killed at random moments and begun again end as undisturbed ones do, byte for byte."""

import random
import time

import numpy as np
import script_process


def test_a_training_killed_at_random_moments_ends_as_if_it_had_not_been(tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for folder in (undisturbed, killed):
        folder.mkdir()
    run = script_process.start("training_child", undisturbed).end()
    assert run.returncode == 0, run.stderr
    moments = random.Random(4)
    for _ in range(4):
        process = script_process.start("training_child", killed, "slowly")
        process.wait_for_lines(1)
        assert process.at_work  # it has begun
        time.sleep(moments.uniform(0.0, 0.8))
        process.kill()
    assert not (killed / "final.npy").exists()
    run = script_process.start("training_child", killed).end()
    assert run.returncode == 0, run.stderr
    np.testing.assert_array_equal(np.load(killed / "final.npy"), np.load(undisturbed / "final.npy"))
    tables = [(folder / "metrics.csv").read_text().splitlines() for folder in (killed, undisturbed)]
    times = tables[0][0].split(",").index("steps_per_second")
    rows = [[line.split(",") for line in table] for table in tables]
    for table in rows:
        for row in table:
            del row[times]
    assert rows[0] == rows[1]
    assert not list(killed.glob("*.partial"))
