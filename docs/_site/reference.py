"""The reference's pages: sections for a package's modules, tables of its public names."""

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    """Connects the expansion of the two kinds of lines that such a page may have."""
    app.connect("source-read", _expand)
    return {"parallel_read_safe": True}


def _expand(app: Sphinx, document: str, source: list[str]) -> None:
    """Replaces `<!-- modules of PACKAGE -->` and `<!-- names of PACKAGE: NAME, … -->`."""
    if document.startswith("docs/api/"):
        text = re.sub(r"<!-- modules of (\S+) -->", lambda found: _modules(found[1]), source[0])
        source[0] = re.sub(
            r"<!-- names of ([\w.]+):([^>]*)-->",
            lambda found: _names(found[1], re.findall(r"\w+", found[2])),
            text,
        )


def _modules(package: str) -> str:
    """Returns a section for each module of a package, for the whole of posenet_jax its own."""
    sections = (
        f"## {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n```\n" for name in _below(package)
    )
    return "\n".join(sections)


def _below(package: str) -> Iterator[str]:
    for found in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
        if not found.ispkg:
            yield found.name
        elif package != "posenet_jax":
            yield from _below(found.name)


def _names(package: str, names: list[str]) -> str:
    """Returns a table of a package's names: each a link to its entry, and its first sentence."""
    home = importlib.import_module(package)
    rows = (f"| {_link(name, getattr(home, name))} |" for name in names)
    return "\n".join(["| name | |", "|---|---|", *rows, ""])


def _link(name: str, value: Any) -> str:
    if inspect.ismodule(value):
        return f"{{py:mod}}`{name} <{value.__name__}>` | {_first_sentence(value)}"
    if callable(value):
        return f"{{py:obj}}`{name} <{value.__module__}.{name}>` | {_first_sentence(value)}"
    (home,) = (
        module
        for module in list(sys.modules.values())
        if (module.__name__ or "").startswith("posenet_jax.")
        and vars(module).get(name) is value
        and re.search(rf"^{name}\b.*=", inspect.getsource(module), re.MULTILINE)
    )
    return f"{{py:obj}}`{name} <{home.__name__}.{name}>` | {_first_sentence(home)}"


def _first_sentence(value: Any) -> str:
    paragraph = inspect.getdoc(value).partition("\n\n")[0]
    return re.sub(r"\s+", " ", paragraph).replace("|", "\\|")
