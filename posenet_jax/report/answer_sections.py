"""The first sections of the report's story: the question, the answer in findings and in pictures.

Every number is measured in the run that makes the page, or stands in the table of claims that was
given to it; sentences follow the verdicts.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from posenet_jax.analysis import claims
from posenet_jax.report import essence, galleries
from posenet_jax.report.page import Card, Cards, Columns, Mark, Part, Section, Text, interval
from posenet_jax.report.story_material import Essence

Rows = Sequence[Mapping[str, Any]]

STREETS = ("cities", "streets")
"""Names that streets have in tables of claims."""
_SERIES = {"trained": "", "untrained": "untrained_", "another street": "wrong_image_"}
_PROBE = (
    "R² of a linear probe of the descriptor, on streets it was not fitted to (0: no better than "
    "the mean of all streets)"
)


class _Finding(NamedTuple):
    """Words for what one measure says, for each of three outcomes."""

    measure: str
    thing: str
    question: str
    unit: str
    kept: str
    lost: str
    open: str
    chance: float | None = None


_FINDINGS = (
    _Finding(
        "R² of vanishing point",
        "the direction of the street",
        "Can the point that the street runs toward be read off the 512 numbers?",
        _PROBE,
        "Where the street leads can be read",
        "Where the street leads cannot be read",
        "Where the street leads can be read, but training adds nothing",
        0.0,
    ),
    _Finding(
        "luminance",
        "light and dark",
        "Are pictures found from the numbers alone bright and dark where the original is?",
        "Correlation of grey values after a blur of 4 pixels",
        "Large areas of light and dark are kept",
        "Light and dark are lost",
        "Light and dark are kept, but training adds nothing",
        0.0,
    ),
    _Finding(
        "chroma",
        "colours",
        "Are they red, yellow or blue where the original is?",
        "Correlation of colours after a blur of 4 pixels",
        "Colours of large areas are kept",
        "Colours are lost",
        "Whether colours are lost stays open",
        0.0,
    ),
    _Finding(
        "sky",
        "the outline against the sky",
        "Is the sky the brighter side of its outline?",
        "Probability that a pixel of the sky is the brighter of two at its outline (chance: 0.5)",
        "The outline against the sky is kept",
        "The outline against the sky is lost",
        "The outline against the sky is kept, but training adds nothing",
        0.5,
    ),
    _Finding(
        "vanishing_edges",
        "edges that run along the street",
        "Do edges toward the vanishing point lie where the original's do, within 2 pixels?",
        "Correlation of where those edges lie",
        "Edges along the street are kept",
        "Edges along the street are lost",
        "Edges along the street are kept, but training adds nothing",
        0.0,
    ),
    _Finding(
        "octave_4",
        "the place of fine detail",
        "Do window frames and bricks, patterns of 3 to 6 pixels, stand where they stood?",
        "Coherence with the original at 16 to 32 cycles an image",
        "Fine detail is in its place",
        "Fine detail has lost its place",
        "Whether fine detail is in its place stays open",
        0.0,
    ),
)


def measured(rows: Rows, measure: str) -> dict[str, float | str] | None:
    """Returns a measure of streets inverted from fc5: numbers as floats; None where there is none.

    rows: of `claims`, or of a table of them, whose cells are texts.
    """
    encoder = rows[0].get("encoder") if rows else None
    for row in rows:
        named = row.get("images") in STREETS and row.get("measure") == measure
        if named and row.get("encoder") == encoder and row.get("layer", "fc5") == "fc5":
            names = [f"{of}{end}" for of in _SERIES.values() for end in ("value", "low", "high")]
            try:
                numbers = {name: float(row[name]) for name in names}
            except (KeyError, ValueError):
                return None
            return {"verdict": str(row.get("verdict")), "count": str(row.get("count"))} | numbers
    return None


def outcome(measure: str, row: Mapping[str, Any]) -> str:
    """Returns what a row's verdict says of the thing itself: a key of `_GROUPS`.

    Of a loss that is undecided only because the untrained network loses it too: "lost". Of what is
    kept by less than a quarter of the way from a wrong image's value to 1: "weak".
    """
    named = {claim.measure: claim for claim in claims.CLAIMS}
    probed = {f"R² of {claim.measure}": claim for claim in claims.PROBED}
    kept = (named | probed)[measure].kept
    if row["verdict"] == "undecided":
        if kept:
            return "untrained"
        return "lost" if row["high"] < row["wrong_image_low"] + claims.LITTLE else "open"
    if (row["verdict"] == "supported") != kept:
        return "lost"
    wrong = row["wrong_image_value"]
    return "weak" if row["value"] - wrong < _WEAK * (1.0 - wrong) else "kept"


_WEAK = 0.25


def marks(row: Mapping[str, Any]) -> list[Mark]:
    """Returns a row's value and both controls."""
    return [
        Mark(label, *(float(row[f"{of}{end}"]) for end in ("value", "low", "high")))
        for label, of in _SERIES.items()
    ]


def answer(rows: Rows, question: Sequence[str], *, given: bool) -> Section:
    """The question in a paragraph, and the answer in findings, one a card.

    question: its paragraphs. given: whether the rows come from another run.
    """
    found = [(one, row) for one in _FINDINGS if (row := measured(rows, one.measure))]
    asked = [Text(question[0], leading=True), *(Text(text) for text in question[1:])]
    if not found:
        text = "The table of claims that was given has none of streets to answer with."
        return Section(_QUESTION, [*asked, Text(text)])
    groups: dict[str, list[str]] = {name: [] for name in _GROUPS}
    cards = []
    for one, row in found:
        said = outcome(one.measure, row)
        groups[said].append(one.thing)
        headlines = {"kept": one.kept, "weak": f"{one.kept}, weakly", "lost": one.lost}
        headline = headlines.get(said, one.open)
        text = f"{one.question} {row['count']} streets."
        scale = -0.1, 1.0
        cards.append(Card(headline, text, marks(row), one.unit, scale, one.chance))
    short = [
        Text(f"{words}: {_listed(groups[name])}.", leading=True)
        for name, words in _GROUPS.items()
        if groups[name]
    ]
    source = "another run, whose table of claims was given" if given else "this run"
    legend = (
        f"Measured in {source}, on rendered streets, of which everything is known. Each value "
        "stands beside two controls: untrained, what the same network has before any training, and "
        "another street, what the same picture has beside the original of another one. Brackets "
        "and bars are intervals of 95 % over streets; the dashed line is chance, and the end of a "
        "scale, 1, is as in the original."
    )
    columns = Columns([asked, [*short, Text(legend)]])
    return Section(_QUESTION, [columns, Cards(cards)])


_QUESTION = "The question, and the answer"
_GROUPS = {
    "kept": "Kept",
    "weak": "Kept, but weakly",
    "untrained": "Kept, but by the untrained network as well",
    "lost": "Not kept",
    "open": "Open",
}


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


# Heading of a column -> what a stranger reads below the picture.
_LABELS = {
    "calibrated": "found by descent (calibrated)",
    "natural": "descent from a generator (natural)",
    "decoder": "decoder, one pass",
}
_SHOWN = 3  # images in sight


def essence_section(found: Essence) -> Section:
    """The bundled images beside pictures made of their descriptors alone."""
    columns = found.columns
    first = ["calibrated", "natural", "decoder", *(name for name in columns if "mean" in name)]
    order = [name for name in (*first, *columns) if name in columns]
    shown = {"original": found.originals.pixels} | {
        _label(name): columns[name] for name in dict.fromkeys(order)
    }
    cells = {
        _label(name): [f"loss {value:.3f}" for value in own] for name, own in found.losses.items()
    }
    cells["original"] = [f"another image has {value:.3f}" for value in found.wrong]
    caption = (
        "Eight bundled images. Below each picture its relative loss: how far its own descriptor "
        "is from the original's (0: the same; below the original, what another image has). "
        "Photographs: danielbuechele, CC BY 2.0."
    )
    gallery = galleries.gallery(
        shown, caption, cell_labels=cells, row_labels=_names(found), shown=_SHOWN, line=5
    )
    return Section("The answer in pictures", [_reading(found), gallery])


def _reading(found: Essence) -> Part:
    """Paragraphs on how the pictures are to be read, the draws with their measured spread."""
    text = (
        "Every picture but the original of each block was made from the descriptor alone. What all "
        "of them share, the descriptor holds. What differs between them it leaves open: whoever "
        "made the picture has invented it."
    )
    if found.left_open is None:
        return Text(f"{text} No decoders are bundled for this network.")
    draws = (
        "Draws of a generator show how much is left open: pixels of two draws of one descriptor "
        f"differ {interval(*found.left_open)} times as much as those of two different images "
        f"(variances of {essence.DRAWS} draws; interval over {len(found.originals.pixels)} images; "
        "0: the descriptor fixes all, 1: nothing). The last picture of each block is bright where "
        "they differ."
    )
    return Columns([[Text(text)], [Text(draws)]])


def _label(name: str) -> str:
    if name == "mean":
        return f"mean of {2 * essence.DRAWS} draws"
    return _LABELS.get(name, name)


def _names(found: Essence) -> list[str]:
    return [stem.replace("_", " ") for stem in found.originals.stems]
