"""Splits: the paper's proportions, and values that never change."""

import hashlib
import math
from collections import Counter

import pytest

from posenet_jax.data.splits import split_of

COUNT = 20_000


@pytest.mark.parametrize(
    "names",
    [
        [f"1/{target}" for target in range(COUNT)],
        [f"{target % 100}/{target // 100}" for target in range(COUNT)],
        [f"straße-{target}.jpg" for target in range(COUNT)],
    ],
)
def test_proportions_are_650_to_100_to_50_within_four_standard_deviations(names):
    counts = Counter(map(split_of, names))
    assert set(counts) == {"train", "validation", "test"}
    for split, share in (("train", 650 / 800), ("validation", 100 / 800), ("test", 50 / 800)):
        deviation = math.sqrt(COUNT * share * (1 - share))
        assert abs(counts[split] - COUNT * share) < 4 * deviation


@pytest.mark.parametrize("name", ["6/87241", "18/71611", "0/0", "", "Zürich/7", "a" * 1000])
def test_the_split_is_the_hash_modulo_800(name):
    remainder = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 800
    expected = "train" if remainder < 650 else "validation" if remainder < 750 else "test"
    assert split_of(name) == expected


def test_splits_do_not_move():
    # Written down once: a change would mix old training data into new tests.
    splits = {target: split_of(f"6/{target}") for target in range(24)}
    held_out = {target: split for target, split in splits.items() if split != "train"}
    assert held_out == {4: "test", 16: "validation", 22: "validation"}


def test_both_boundaries_are_met_exactly():
    by_remainder = {}
    for target in range(COUNT):
        name = f"9/{target}"
        by_remainder[int(hashlib.sha256(name.encode()).hexdigest(), 16) % 800] = name
    found = [split_of(by_remainder[remainder]) for remainder in (0, 649, 650, 749, 750, 799)]
    assert found == ["train", "train", "validation", "validation", "test", "test"]
