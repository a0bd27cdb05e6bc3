"""Docstrings begin with the noun or the verb, so that each can be read alone."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("posenet_jax", "experiments", "benchmarks")
_FRAGMENTS = ("Of ", "Whose ", "Which ", "What ")


def docstrings(source):
    """(line, text) of every text that stands alone: docstrings, of attributes too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            if isinstance(node.value.value, str):
                yield node.lineno, node.value.value


@pytest.mark.parametrize("folder", FOLDERS)
def test_docstrings_begin_with_a_noun_or_a_verb(folder):
    found = [
        f"{path.relative_to(ROOT)}:{line} {text[:40]}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, text in docstrings(path.read_text(encoding="utf-8"))
        if text.startswith(_FRAGMENTS)
    ]
    assert found == []


def test_fragments_are_seen():
    source = 'x = 1\n"""Of x."""\ndef f():\n    """What it is."""\n'
    assert [line for line, text in docstrings(source) if text.startswith(_FRAGMENTS)] == [2, 4]
