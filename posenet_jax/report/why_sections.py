"""Sections of the report's story that say why a descriptor keeps what it keeps.

To add one, write a function from `Material` to sections, here or in a file of its own, and a line
in `contents.SECTIONS` below that of `why`, with `story=True`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from posenet_jax.report.page import Card, Cards, Mark, Section, Text

Rows = Sequence[Mapping[str, Any]]

_LAYER = "fc5"
# Change of a scene -> a headline, and what is changed.
_CHANGES = {
    "yaw": ("The camera turned", "The same street, the camera turned by 10°."),
    "geometry": (
        "Another geometry",
        "Another street in the same colours and textures, seen by another camera.",
    ),
    "colour": ("Other colours", "The same view; walls, ground and cars in other colours."),
    "texture": ("Other textures", "The same view; textures of facades and ground drawn anew."),
    "light": ("Another light", "The same view in another light."),
    "photograph": (
        "Another photograph",
        "The same view with another exposure, white balance, tone and lens.",
    ),
}


def why(displacements: Rows, rotations: Rows) -> Section:
    """Section on what moves the descriptor, and what the pose heads make of it.

    displacements: rows of `sensitivity.table`; rotations: of `sensitivity.rotation_table`, which
    has none of encoders without heads.
    """
    encoder, control = displacements[0]["encoder"], displacements[-1]["encoder"]
    moved = {
        (row["encoder"], row["intervention"]): row
        for row in displacements
        if row["layer"] == _LAYER
    }
    seen = {(row["encoder"], row["intervention"]): row for row in rotations}
    cards = [
        _card(name, *words, moved[encoder, name], moved[control, name], seen.get((encoder, name)))
        for name, words in _CHANGES.items()
        if (encoder, name) in moved
    ]
    heads = (
        " Below each: the rotation that the network's pose heads see between the street and itself "
        "changed."
        if seen
        else ""
    )
    text = (
        "One thing in a rendered street is changed, everything else stays, and the descriptors "
        "before and after are compared. The descriptor's change is given in units of its change "
        f"between two different streets (1: as different as another place).{heads} The network "
        "was trained to tell places apart (matching) besides estimating the pose: a descriptor "
        "may hold what one task needs and the other ignores."
    )
    return Section("Why: what moves a descriptor", [Text(text), Cards(cards)])


def _card(
    name: str,
    headline: str,
    sentence: str,
    own: Mapping[str, Any],
    control: Mapping[str, Any],
    seen: Mapping[str, Any] | None,
) -> Card:
    marks = [_mark("trained", own), _mark("untrained", control)]
    text = sentence
    if seen:
        angle = f"{seen['mean']:.1f}° [{seen['low']:.1f}, {seen['high']:.1f}]"
        text += f" The pose heads see a rotation of {angle}"
        true = seen["true_degrees"]
        text += "." if true is None else f"; there is one of {true:.0f}°."
    measure = f"Displacement of {_LAYER}, 1: that of another scene; {own['scenes']} streets."
    return Card(headline, text, marks, measure)


def _mark(label: str, row: Mapping[str, Any]) -> Mark:
    ends = (row[f"ratio_to_other{end}"] for end in ("", "_low", "_high"))
    return Mark(label, *ends)
