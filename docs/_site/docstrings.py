"""What autodoc finds, made readable: docstrings, plain text with `names` in backticks, become
reStructuredText; signatures have short names; fields of tuples without a text are left out.
"""

import itertools
import re
from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx

_FIELD = re.compile(r"(`?[\w.*]+`?(?:, `?[\w.*]+`?)*): (.+)")
_ARRAY = "jaxlib._jax.Array"
_LISTED = re.compile(r"- (.+)")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connects the changes to autodoc."""
    app.connect("autodoc-process-docstring", _convert)
    app.connect("autodoc-process-signature", _shorten)
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True}


def _convert(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    groups = itertools.groupby(lines, key=lambda line: bool(line.strip()))
    paragraphs = [list(group) for filled, group in groups if filled]
    lines[:] = [line for paragraph in paragraphs for line in (*_paragraph(paragraph), "")]


def _shorten(
    app: Sphinx,
    what: str,
    name: str,
    obj: Any,
    options: Any,
    given: str | None,
    returned: str | None,
) -> tuple[str | None, str | None]:
    """Returns the signature: arrays by their short name, defaults that are functions as `...`."""

    def short(text: str | None) -> str | None:
        # Functions as defaults have no Python form, without which Sphinx shows a signature raw.
        return text and re.sub(r"<(?:function|class) [^>]*>", "...", text.replace(_ARRAY, "Array"))

    return short(given), short(returned)


def _skip(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    return (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") or None


def _paragraph(lines: list[str]) -> Iterator[str]:
    """Yields a paragraph: a list where its lines begin items, code where all are indented."""
    if all(line.startswith("    ") for line in lines):
        yield from ("::", "", *lines)
        return
    starts = [line for line in lines if not line.startswith(" ")]
    if all(_LISTED.match(line) for line in starts):
        begin, pattern = "", _LISTED
    elif all(_FIELD.match(line) for line in starts) and len(lines) > 1:
        begin, pattern = "field", _FIELD
    else:
        yield from (_escaped(line.strip()) for line in lines)
        return
    for line in lines:
        found = None if line.startswith(" ") else pattern.match(line)
        if found is None:
            yield f"  {_escaped(line.strip())}"
        elif begin:
            yield f"- **{found[1].replace('`', '').replace('*', '')}**: {_escaped(found[2])}"
        else:
            yield f"- {_escaped(found[1])}"


def _escaped(text: str) -> str:
    """Returns a line whose backticks mean code, and nothing else means anything."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # code that goes on in the next line
        return re.sub(r"([\\*|_`])", r"\\\1", text)
    plain = [re.sub(r"([\\*|_])", r"\\\1", part) for part in parts]
    code = [f"\\ ``{part}``\\ " if part else "" for part in parts]
    return "".join(code[i] if i % 2 else plain[i] for i in range(len(parts)))
