"""Code blocks of the documents, fenced or indented, and the commands in those of a shell."""

import dataclasses
import functools
import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("posenet_jax/**/*.md")]


@dataclasses.dataclass(frozen=True)
class Block:
    """Code of a document. kind: a fence's first word; `shell` where it is indented."""

    page: str
    line: int
    kind: str
    text: str


@dataclasses.dataclass(frozen=True)
class Command:
    """Line of a shell, those that it goes on in included. before: settings of variables."""

    page: str
    before: tuple[str, ...]
    words: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(self.words)


@functools.cache
def blocks() -> tuple[Block, ...]:
    """All blocks of all documents, in order."""
    pages = {str(path.relative_to(ROOT)): path for path in sorted(DOCUMENTS)}
    return tuple(
        block for page, path in pages.items() for block in read(page, path.read_text("utf-8"))
    )


def python(page: str) -> list[str]:
    """Code of a page."""
    return [block.text for block in blocks() if (block.page, block.kind) == (page, "python")]


def read(page: str, text: str) -> list[Block]:
    """Blocks of a document's text, within lists too."""
    found = [token for token in MarkdownIt().parse(text) if token.type in ("fence", "code_block")]
    return [
        Block(page, token.map[0] + 1, (token.info.split() or ["shell"])[0], token.content)
        for token in found
    ]


def commands(blocks: Iterable[Block]) -> list[Command]:
    """Commands of those blocks that are a shell's."""
    found = []
    for block in blocks:
        lines = block.text.replace("\\\n", " ").splitlines() if block.kind == "shell" else []
        for words in filter(None, (shlex.split(line, comments=True) for line in lines)):
            own = next(i for i, word in enumerate(words) if not re.match(r"\w+=", word))
            found.append(Command(block.page, tuple(words[:own]), tuple(words[own:])))
    return found
