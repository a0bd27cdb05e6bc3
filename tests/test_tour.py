"""The guided tour runs as it stands, with fewer steps."""

import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

TOUR = Path(__file__).parents[1] / "docs" / "tour.py"


def test_the_tour_runs_to_its_end(tmp_path):
    run = subprocess.run(
        [sys.executable, TOUR],
        cwd=tmp_path,
        env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "POSENET_TOUR_STEPS": "2"},
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert run.returncode == 0, run.stderr
    *_, trained, untrained = run.stdout.splitlines()
    assert trained.startswith("trained: R²") and untrained.startswith("untrained: R²")
    assert float(trained.split()[6]) > float(untrained.split()[6])
    with Image.open(tmp_path / "runs" / "tour" / "pictures.png") as picture:
        assert picture.size[0] > 600
