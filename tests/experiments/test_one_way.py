"""Scripts do alike what all of them do: keys, records, progress bars, the default encoder."""

import ast
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SOURCES = sorted(EXPERIMENTS.rglob("*.py"))

# Call -> the only files that may make it, and why the others need not.
ALLOWED = {
    "random.key(": set(),  # numerics.seed_key: a seed names the same numbers with any generator
    "run_record(": {"runtime.py"},  # runtime.record has the flags
    "tqdm(": {"operate_descriptors.py"},  # progress.bar, but for one that goes over operations
}


@pytest.mark.parametrize("call", ALLOWED)
def test_one_way_is_used(call):
    users = {path.name for path in SOURCES if call in path.read_text(encoding="utf-8")}
    assert users == ALLOWED[call]


# Where an encoder's or a decoder's name may stand in the code, besides the one place: as the name
# of an architecture, which an encoder may have too.
ARCHITECTURES = {
    "bundled_encoders.py",  # the one place
    "streetnet.py",
    "weights.py",
    "pose_training.py",
    "train_posenet.py",
    "bench_training.py",
    "torch_networks.py",
    "bench_extraction.py",  # a rate, whatever the weights
}


def test_the_default_encoders_name_stands_in_one_place():
    root = EXPERIMENTS.parent
    found = set()
    for folder in ("posenet_jax", "experiments", "benchmarks"):
        for path in (root / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                text = node.value if isinstance(node, ast.Constant) else None
                if isinstance(text, str) and text.startswith("streetnet") and " " not in text:
                    found.add(path.name)
    assert found == ARCHITECTURES
