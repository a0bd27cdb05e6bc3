"""Inverts the bundled demo images, layers fc5 and conv4, into demo/: a first look.

    posenet-jax demo
    posenet-jax demo --encoder=rendered --out=runs/rendered

It is `invert` with the flags --images, --layer=fc5,conv4, --recipe=calibrated and --out=demo, and
takes all flags of invert, which come after those.
"""

import os
import shutil
import sys
from pathlib import Path

from absl import flags

import posenet_jax
from posenet_jax.io import storage

from .common import commands

_IMAGES = Path(posenet_jax.__file__).parent / "demo_images"
_FLAGS = (f"--images={_IMAGES}", "--layer=fc5,conv4", "--recipe=calibrated", "--out=demo")


def _command() -> str:
    """Returns what `posenet-jax` is here: it may lie in an environment that is not activated."""
    if shutil.which("posenet-jax"):
        return "posenet-jax"
    beside = Path(sys.executable).with_name("posenet-jax")
    if beside.exists():
        return os.path.relpath(beside)
    return f"{os.path.relpath(sys.executable)} -m {commands.PACKAGE}"


def _next() -> str:
    command, grid = _command(), storage.path(flags.FLAGS.out) / "grid.png"
    return "\n".join(
        [
            f"next: open {grid}, images beside their reconstructions",
            f"  your own images:  {command} invert --images=FOLDER --out=runs/mine",
            f"  all commands:     {command} --help",
        ]
    )


def main() -> None:
    """Runs `invert`, then says what comes next; or what its help does not say of the demo."""
    try:
        commands.run("invert", [*_FLAGS, *sys.argv[1:]])
    except SystemExit as ended:
        if ended.code == 0:
            print(_next() if flags.FLAGS.is_parsed() else f"\n{__doc__}")
        raise


if __name__ == "__main__":
    main()
