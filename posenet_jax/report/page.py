"""A page of sections, plots and tables as one HTML text that needs nothing beside it.

Values in, text out; pictures are PNG bytes, embedded. Every text is escaped here, so that callers
pass plain ones.
"""

import base64
import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

_PNG = b"\x89PNG\r\n\x1a\n"
_STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; padding: 1rem; max-width: 66rem; background: #fff; color: #222;
  font: 16px/1.5 system-ui, sans-serif; }
h1 { line-height: 1.2; margin: 0.5rem 0; }
h2 { margin: 2.5rem 0 0.5rem; border-bottom: 1px solid #ccc; }
p { max-width: 46rem; }
nav ul { columns: 20rem; padding-left: 1.2rem; }
a { color: #0b57a4; }
figure { margin: 1.2rem 0; }
figcaption { max-width: 46rem; color: #444; font-size: 0.9rem; padding: 0.3rem 0; }
figure div { overflow-x: auto; }
img { display: block; max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.7rem 0.25rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid #e3e3e3; }
th { border-bottom-color: #888; }
pre { overflow-x: auto; padding: 0.6rem; background: #f5f5f5; font-size: 0.85rem; }
@media (max-width: 45rem) {
  img { max-width: 46rem; }
  h1 { font-size: 1.5rem; }
}
"""


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclasses.dataclass(frozen=True)
class Code:
    """Lines to be typed."""

    lines: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG file's content and what it shows."""

    png: bytes
    caption: str


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows with the same keys; numbers are shown with three significant digits."""

    rows: Sequence[Mapping[str, Any]]
    caption: str


Part = Text | Code | Picture | Table


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    parts: Sequence[Part]


def page(title: str, introduction: Sequence[str], sections: Sequence[Section]) -> str:
    """The whole HTML document. Raises ValueError for a picture that is no PNG."""
    body = [f"<h1>{escape(title)}</h1>"]
    body += [f"<p>{escape(text)}</p>" for text in introduction]
    anchors = _anchors([section.title for section in sections])
    body.append(_contents(sections, anchors))
    body += [_section(*pair) for pair in zip(sections, anchors, strict=True)]
    head = (
        '<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>"
    )
    text = "\n".join(body)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{text}\n</body>\n'
        "</html>\n"
    )


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


def picture(path: Path, caption: str) -> Picture:
    """A PNG file as part of a section."""
    return Picture(path.read_bytes(), caption)


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


def _contents(sections: Sequence[Section], anchors: Sequence[str]) -> str:
    items = "\n".join(
        f'<li><a href="#{anchor}">{escape(section.title)}</a></li>'
        for section, anchor in zip(sections, anchors, strict=True)
    )
    return f"<nav>\n<ul>\n{items}\n</ul>\n</nav>"


def _section(section: Section, anchor: str) -> str:
    parts = "\n".join(_part(part) for part in section.parts)
    heading = f'<h2 id="{anchor}">{escape(section.title)}</h2>'
    return f"<section>\n{heading}\n{parts}\n</section>"


def _part(part: Part) -> str:
    if isinstance(part, Text):
        return f"<p>{escape(part.text)}</p>"
    if isinstance(part, Code):
        return f"<pre>{escape(chr(10).join(part.lines))}</pre>"
    return _figure(part) if isinstance(part, Picture) else _table(part)


def _figure(picture: Picture) -> str:
    if not picture.png.startswith(_PNG):
        raise ValueError(f"a picture must be a PNG file's bytes; received {picture.png[:8]!r}")
    source = f"data:image/png;base64,{base64.b64encode(picture.png).decode()}"
    caption = escape(picture.caption)
    return (
        f'<figure>\n<div><img alt="{caption}" src="{source}"></div>\n'
        f"<figcaption>{caption}</figcaption>\n</figure>"
    )


def _table(table: Table) -> str:
    names = list(table.rows[0]) if table.rows else []
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    lines = "\n".join(
        "<tr>" + "".join(f"<td>{escape(shown(row[name]))}</td>" for name in names) + "</tr>"
        for row in table.rows
    )
    return (
        f"<figure>\n<figcaption>{escape(table.caption)}</figcaption>\n<div><table>\n<thead><tr>"
        f"{head}</tr></thead>\n<tbody>\n{lines}\n</tbody>\n</table></div>\n</figure>"
    )
