"""A page of sections, plots and tables as one HTML text that needs nothing beside it.

Values in, text out; pictures are PNG bytes, embedded. Every text is escaped here, so that callers
pass plain ones. The page is a story, and below it details, each with its table of contents.
"""

import base64
import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, TypeAlias

from posenet_jax.report.page_style import STYLE

_PNG = b"\x89PNG\r\n\x1a\n"


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph; a leading one is set larger."""

    text: str
    leading: bool = False


@dataclasses.dataclass(frozen=True)
class Code:
    """Lines to be typed."""

    lines: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG file's content and what it shows.

    narrow: the same for screens of a telephone's width, where there is one. alt: what those hear
    who do not see it; of nothing the caption.
    """

    png: bytes
    caption: str
    narrow: bytes = b""
    alt: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows with the same keys; numbers are shown with three significant digits."""

    rows: Sequence[Mapping[str, Any]]
    caption: str


@dataclasses.dataclass(frozen=True)
class Tile:
    """A small picture with a label and a value below it."""

    png: bytes
    label: str
    value: str = ""


@dataclasses.dataclass(frozen=True)
class Example:
    """Pictures of one original, which belong together."""

    tiles: Sequence[Tile]
    name: str = ""


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Examples, each with as many pictures a line as fit, at twice their size and more.

    shown: number of examples in sight; the others are unfolded by the reader.
    """

    examples: Sequence[Example]
    caption: str
    shown: int | None = None
    columns: int | None = None  # a line at most; None: as many as an example has, six at most


@dataclasses.dataclass(frozen=True)
class Mark:
    """A value with its interval, of one of those that are compared.

    kind: number of its colour and shape, alike on all cards; None: its place among the card's.
    """

    label: str
    value: float
    low: float
    high: float
    kind: int | None = dataclasses.field(default=None, kw_only=True)


@dataclasses.dataclass(frozen=True)
class Card:
    """A short finding: a headline, a sentence, and values on one scale, the first the finding's.

    scale: its ends. chance: a place on it where nothing is known. measure: what the values are.
    """

    headline: str
    text: str
    marks: Sequence[Mark] = ()
    measure: str = ""
    scale: tuple[float, float] = (0.0, 1.0)
    chance: float | None = None


@dataclasses.dataclass(frozen=True)
class Cards:
    """Findings side by side."""

    cards: Sequence[Card]


@dataclasses.dataclass(frozen=True)
class Columns:
    """Columns of parts side by side, below one another where the page is narrow."""

    columns: "Sequence[Sequence[Part]]"


Part: TypeAlias = Text | Code | Picture | Table | Gallery | Cards | Columns


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    parts: Sequence[Part]


def page(
    title: str,
    introduction: Sequence[str],
    sections: Sequence[Section],
    details: Sequence[Section] = (),
) -> str:
    """The whole HTML document. Raises ValueError for a picture that is no PNG.

    sections: the story; details: what stands below it, under a heading of its own.
    """
    anchors = _anchors([section.title for section in (*sections, *details)])
    story, below = anchors[: len(sections)], anchors[len(sections) :]
    links = list(zip([section.title for section in sections], story, strict=True))
    body = [f"<h1>{escape(title)}</h1>"]
    body += [f"<p>{escape(text)}</p>" for text in introduction]
    body.append(_contents("story", [*links, *([(_DETAILS, "all-details")] if details else [])]))
    body += [_section(*pair, 2) for pair in zip(sections, story, strict=True)]
    if details:
        body.append(f'<h2 id="all-details">{_DETAILS}</h2>')
        body.append(
            _contents("details", list(zip([one.title for one in details], below, strict=True)))
        )
        body += [_section(*pair, 3) for pair in zip(details, below, strict=True)]
    head = (
        '<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>"
    )
    text = "\n".join(body)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{text}\n</body>\n'
        "</html>\n"
    )


_DETAILS = "Details"


def shown(value: Any) -> str:
    """A cell's text: a float in three significant digits, what is missing as a dash."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def interval(value: float, low: float, high: float) -> str:
    """A value and the interval it has."""
    if math.isnan(value):
        return "–"
    return f"{shown(value)} [{shown(low)}, {shown(high)}]"


def picture(path: Path, caption: str, *, narrow: Path | None = None, alt: str = "") -> Picture:
    """A PNG file as part of a section; narrow: another one for narrow screens."""
    return Picture(path.read_bytes(), caption, narrow.read_bytes() if narrow else b"", alt)


def _anchors(titles: Sequence[str]) -> list[str]:
    """Ids of sections, from their titles alone, so that none depends on what stands before it.

    Only a title that occurs again is numbered.
    """
    anchors: list[str] = []
    for title in titles:
        name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
        again = sum(one == name or one.startswith(f"{name}--") for one in anchors)
        anchors.append(f"{name}--{again + 1}" if again else name)
    return anchors


def _contents(kind: str, links: Sequence[tuple[str, str]]) -> str:
    items = "\n".join(
        f'<li><a href="#{anchor}">{escape(title)}</a></li>' for title, anchor in links
    )
    return f'<nav class="{kind}" aria-label="{kind}">\n<ul>\n{items}\n</ul>\n</nav>'


def _section(section: Section, anchor: str, level: int) -> str:
    parts = "\n".join(_part(part) for part in section.parts)
    heading = f'<h{level} id="{anchor}">{escape(section.title)}</h{level}>'
    return f"<section>\n{heading}\n{parts}\n</section>"


def _part(part: Part) -> str:
    if isinstance(part, Text):
        start = '<p class="lead">' if part.leading else "<p>"
        return f"{start}{escape(part.text)}</p>"
    if isinstance(part, Code):
        return f"<pre>{escape(chr(10).join(part.lines))}</pre>"
    if isinstance(part, Columns):
        columns = ("\n".join(map(_part, column)) for column in part.columns)
        parts = "\n".join(f"<div>\n{column}\n</div>" for column in columns)
        return f'<div class="columns">\n{parts}\n</div>'
    if isinstance(part, Picture):
        return _figure(part)
    if isinstance(part, Gallery):
        return _gallery(part)
    return _cards(part) if isinstance(part, Cards) else _table(part)


def _source(png: bytes) -> str:
    """Returns a PNG file's content as an address."""
    if not png.startswith(_PNG):
        raise ValueError(f"a picture must be a PNG file's bytes; received {png[:8]!r}")
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _figure(picture: Picture) -> str:
    caption = escape(picture.caption)
    image = f'<img alt="{escape(picture.alt) or caption}" src="{_source(picture.png)}">'
    if picture.narrow:
        own = f'<source media="(max-width: 45rem)" srcset="{_source(picture.narrow)}">'
        image = f"<picture>{own}{image}</picture>"
    return (
        f'<figure class="plot">\n<div>{image}</div>\n<figcaption>{caption}</figcaption>\n</figure>'
    )


def _gallery(gallery: Gallery) -> str:
    shown = len(gallery.examples) if gallery.shown is None else gallery.shown
    most = gallery.columns or min(6, max(len(one.tiles) for one in gallery.examples))
    first, others = (
        "\n".join(_example(one) for one in part)
        for part in (gallery.examples[:shown], gallery.examples[shown:])
    )
    style = f' style="--of: {most}"'
    text = f'<div class="examples"{style}>\n{first}\n</div>'
    if others:
        count = len(gallery.examples) - shown
        more = f"Show {count} more" if count > 1 else "Show one more"
        text += (
            f"\n<details>\n<summary>{more}</summary>\n"
            f'<div class="examples"{style}>\n{others}\n</div>\n</details>'
        )
    return f"<figure>\n{text}\n<figcaption>{escape(gallery.caption)}</figcaption>\n</figure>"


def _example(example: Example) -> str:
    name = f"<p>{escape(example.name)}</p>\n" if example.name else ""
    tiles = "\n".join(_tile(tile, example.name) for tile in example.tiles)
    return f'<div class="example">\n{name}<div class="tiles few">\n{tiles}\n</div>\n</div>'


def _tile(tile: Tile, name: str) -> str:
    words = escape(": ".join(text for text in (name, tile.label, tile.value) if text))
    value = f' <span class="value">{escape(tile.value)}</span>' if tile.value else ""
    return (
        f'<div class="tile"><img alt="{words}" src="{_source(tile.png)}">'
        f"<span>{escape(tile.label)}</span>{value}</div>"
    )


def _cards(cards: Cards) -> str:
    items = "\n".join(_card(card) for card in cards.cards)
    return f'<ul class="cards">\n{items}\n</ul>'


def _card(card: Card) -> str:
    parts = [f"<h4>{escape(card.headline)}</h4>", f"<p>{escape(card.text)}</p>"]
    if card.marks:
        lines = "\n".join(
            _mark(mark, number if mark.kind is None else mark.kind, card)
            for number, mark in enumerate(card.marks)
        )
        parts.append(f'<dl class="marks">\n{lines}\n</dl>')
    if card.measure:
        parts.append(f'<p class="measure">{escape(card.measure)}</p>')
    return "<li>\n" + "\n".join(parts) + "\n</li>"


def _mark(mark: Mark, number: int, card: Card) -> str:
    """One line of a card: a label, the value and its interval on the scale, and in digits."""

    def place(value: float) -> float:
        low, high = card.scale
        return round(100 * min(max((value - low) / (high - low), 0.0), 1.0), 1)

    drawn = ""
    if card.chance is not None:
        drawn += f'<span class="chance" style="left: {place(card.chance)}%"></span>'
    if not math.isnan(mark.value):
        width = round(place(mark.high) - place(mark.low), 1)
        drawn += f'<i style="left: {place(mark.low)}%; width: {width}%"></i>'
        drawn += f'<b style="left: {place(mark.value)}%"></b>'
    ends = f"{mark.value:.2f} [{mark.low:.2f}, {mark.high:.2f}]".replace("-0.00", "0.00")
    digits = "–" if math.isnan(mark.value) else ends
    return (
        f'<div class="mark{number}"><dt>{escape(mark.label)}</dt>'
        f'<dd class="track" aria-hidden="true">{drawn}</dd><dd class="number">{digits}</dd></div>'
    )


def _table(table: Table) -> str:
    names = list(table.rows[0]) if table.rows else []
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    lines = "\n".join(
        "<tr>" + "".join(f"<td>{escape(shown(row[name]))}</td>" for name in names) + "</tr>"
        for row in table.rows
    )
    return (
        f"<figure>\n<figcaption>{escape(table.caption)}</figcaption>\n"
        f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{lines}\n</tbody>\n'
        "</table></div>\n</figure>"
    )
