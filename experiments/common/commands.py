"""Scripts as commands of `posenet-jax`: which there are, and how to run one.

A checkout has them as `experiments`, an installed package as `posenet_jax.experiments`.
"""

import ast
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

_FOLDER = Path(__file__).parents[1]
PACKAGE = __package__.rpartition(".")[0]


def listed() -> dict[str, str]:
    """Returns {name: first line of its docstring} of all scripts, none of which is imported."""
    return {path.stem: _first_line(path) for path in sorted(_FOLDER.glob("[!_]*.py"))}


def run(name: str, flags: Sequence[str]) -> None:
    """Runs a script as `python -m` does; most end by SystemExit."""
    sys.argv = [name, *flags]
    runpy.run_module(f"{PACKAGE}.{name}", run_name="__main__", alter_sys=True)


def _first_line(path: Path) -> str:
    return str(ast.get_docstring(ast.parse(path.read_bytes()))).partition("\n")[0]
