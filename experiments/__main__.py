"""Command `posenet-jax`, which runs any script by its name; `python -m experiments` is the same."""

import os
import sys

from .common import commands


def _help(known: dict[str, str]) -> str:
    width = max(map(len, known))
    lines = [f"  {name:{width}}  {line}" for name, line in known.items()]
    return "\n".join(
        [
            "usage: posenet-jax COMMAND [--flags]; posenet-jax COMMAND --help lists its flags.",
            "Begin with posenet-jax demo.",
            "",
            *lines,
        ]
    )


def _run(name: str, given: list[str]) -> None:
    known = commands.listed()
    if name in ("--help", "-h", "help"):
        print(_help(known))
    elif name in known:
        commands.run(name, given)
    else:
        print(f"error: no command {name!r}; there are {', '.join(known)}", file=sys.stderr)
        sys.exit(2)


def main() -> None:
    """Runs the command that is named first; the rest are its flags."""
    name, *given = sys.argv[1:] or ["--help"]
    try:
        try:
            _run(name, given)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # what reads it, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
