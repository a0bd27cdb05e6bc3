"""Scripts do alike what all of them do: keys, records and progress bars."""

from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SOURCES = sorted(EXPERIMENTS.rglob("*.py"))

# Call -> the only files that may make it, and why the others need not.
ALLOWED = {
    "random.key(": set(),  # numerics.seed_key: a seed names the same numbers with any generator
    "run_record(": {"runtime.py"},  # runtime.record has the flags
    # progress.bar; of an unknown length, and one that goes over operations.
    "tqdm(": {"progress.py", "build_dataset.py", "operate_descriptors.py"},
}


@pytest.mark.parametrize("call", ALLOWED)
def test_one_way_is_used(call):
    users = {path.name for path in SOURCES if call in path.read_text(encoding="utf-8")}
    assert users == ALLOWED[call]
