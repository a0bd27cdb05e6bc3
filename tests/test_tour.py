"""The notebooks of docs/ run as they stand, with fewer steps.

All but train_and_judge, which `make docs` runs: compiling it takes as long as the tour.
"""

from pathlib import Path

import script_process
from PIL import Image

DOCS = Path(__file__).parents[1] / "docs"


def printed(name, folder, steps):
    """Returns the lines that a notebook prints, run in a folder."""
    run = script_process.start("notebook_child", DOCS / f"{name}.py", folder, steps).end()
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_the_tour_runs_to_its_end(tmp_path):
    *_, trained, untrained = printed("tour", tmp_path, 2)
    assert trained.startswith("trained: R²") and untrained.startswith("untrained: R²")
    assert float(trained.split()[6]) > float(untrained.split()[6])
    with Image.open(tmp_path / "runs" / "tour" / "pictures.png") as picture:
        assert picture.size[0] > 600


def test_ones_own_encoders_are_inverted(tmp_path):
    lines = printed("own_encoder", tmp_path, 40)
    assert [line.split(":")[0] for line in lines] == ["NNX, map", "Equinox, mean"]
    for line in lines:
        reached, other = (float(part.split()[-1]) for part in line.split(":")[1].split(","))
        assert reached < 0.5 * other


def test_a_whole_test_set_is_inverted_once(tmp_path):
    first, again, *measures = printed("whole_test_set", tmp_path, 2)
    assert first == "8 images inverted, 0 left out" and again == "0 images inverted anew"
    assert [line.split(":")[0] for line in measures] == ["relative_loss", "luminance_correlation"]
