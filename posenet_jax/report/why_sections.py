"""Sections of the report's story that say why a descriptor keeps what it keeps.

To add one, write a function from `Material` to sections, here or in a file of its own, and a line
in `contents.SECTIONS` below that of `why`, with `story=True`.
"""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from posenet_jax.io import run_files
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


# Tasks as trainings.csv has them -> a headline, and the error that they are judged by.
_TASKS = {
    "pose": ("Trained for the pose alone", "rotation_median_deg"),
    "match": ("Trained for matching alone", "matching_fpr95_same_scene"),
    "normal": ("Trained for surface normals alone", "normal_median_deg"),
    "match+normal+pose": ("Trained for pose, matching and normals", "rotation_median_deg"),
}
_PAIRS = {"together": "shared", "apart": "developed apart", "recoloured": "recoloured"}
_ERRORS = {
    "rotation_median_deg": "Rotation error on unseen streets: {}.",
    "normal_median_deg": "Error of normals on unseen streets: {}.",
    "matching_fpr95_same_scene": "Other targets of the street taken for the same: {}.",
}


def trainings() -> Section:
    """Colour kept by encoders trained for one task, with a pair's colours shared or apart.

    From the bundled table of compare_trainings (docs/why.md): such trainings take hours.
    """
    table = files("posenet_jax.report") / "trainings.csv"
    every = [row.cells for row in run_files.read_csv(str(table), ["encoder", "measure", "images"])]
    rows = [
        row
        for row in every
        if (row["images"], row["measure"]) == ("cities", "chroma") and row["tasks"]
    ]
    last = {
        one["run"]: max(int(r["steps"]) for r in rows if r["run"] == one["run"]) for one in rows
    }
    rows = [row for row in rows if int(row["steps"]) == last[row["run"]]]
    kinds = list(dict.fromkeys(_said(row) for row in sorted(rows, key=_order)))
    cards = []
    for tasks, (headline, error) in _TASKS.items():
        own = sorted((row for row in rows if row["tasks"] == tasks), key=_order)
        shown = [
            Mark(f"{_said(row)} ({row['seed']})", *_ends(row), kind=kinds.index(_said(row)))
            for row in own
        ]
        shown += [Mark("untrained", *_ends(own[0], "untrained_"), kind=len(kinds))]
        shown += [Mark("another street", *_ends(own[0], "wrong_image_"), kind=len(kinds) + 1)]
        amounts: dict[str, list[str]] = {}
        for row in own:
            amounts.setdefault(_said(row), []).append(_amount(error, row))
        text = "; ".join(f"{said} {' and '.join(each)}" for said, each in amounts.items())
        unit = f"Correlation of colours after a blur of 4 pixels; {own[0]['count']} streets."
        cards.append(Card(headline, _ERRORS[error].format(text), shown, unit, (-0.4, 1.0), 0.0))
    text = (
        f"Networks of the same layers were trained anew for {own[0]['steps']} steps, and streets "
        "inverted from their descriptors. Shared: both views of a training pair were developed "
        "alike, in one set of colours. Developed apart: each view has an exposure and a white "
        "balance of its own. Recoloured: a hue and a saturation as well, so that no colour says "
        "whether two views show the same place. Robust: trained against perturbations of their "
        "images. In brackets the seed. Made by the commands in docs/why.md, not in this run: they "
        "take hours."
    )
    return Section("Why: what training rewards", [Text(text), Cards(cards)])


def _said(row: Mapping[str, str]) -> str:
    robust = ", robust" if float(row["robust_radius"]) else ""
    return f"{_PAIRS[row['pairs']]}{robust}"


def _order(row: Mapping[str, str]) -> tuple[float, int, int]:
    return float(row["robust_radius"]), list(_PAIRS).index(row["pairs"]), int(row["seed"])


def _ends(row: Mapping[str, str], of: str = "") -> tuple[float, float, float]:
    return float(row[f"{of}value"]), float(row[f"{of}low"]), float(row[f"{of}high"])


def _amount(error: str, row: Mapping[str, str]) -> str:
    value = float(row[error])
    return f"{100 * value:.0f} %" if error.startswith("matching") else f"{value:.1f}°"
