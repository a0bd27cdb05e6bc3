"""Split of targets into training, validation and test.

The proportions are the paper's: of 800,000 images 650,000, 100,000 and 50,000. A target is split,
never an image: two to seven views share one, and views of a target on both sides of a split would
let a network be tested on what it has learnt by heart.
"""

import hashlib
from typing import Literal

Split = Literal["train", "validation", "test"]

# The proportions as whole numbers, and what a hash is reduced modulo.
TRAIN, VALIDATION, TEST = 650, 100, 50
TOTAL = TRAIN + VALIDATION + TEST


def split_of(target: str) -> Split:
    """The split of a target, given an identifier that all of its views share.

    The SHA-256 of the identifier in UTF-8, as a big-endian number modulo 800: below 650 train,
    below 750 validation, else test. It depends on nothing else, so a target stays in its split when
    others are added to the data or left out of it.
    """
    digest = hashlib.sha256(target.encode("utf-8")).digest()
    remainder = int.from_bytes(digest, "big") % TOTAL
    if remainder < TRAIN:
        return "train"
    return "validation" if remainder < TRAIN + VALIDATION else "test"
