"""Sources and options of a training or a search, noted in its record and compared later.

Sources are noted by the flag that names them.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posenet_jax.data.sources import FolderImages
from posenet_jax.data.traces import SourceFacts, source_facts
from posenet_jax.errors import InputError
from posenet_jax.io import storage
from posenet_jax.io.run_files import read_json
from posenet_jax.training import checkpoints

from . import images

Sources = dict[str, dict[str, Any]]


def files(pattern: str, output: str) -> dict[str, Any]:
    """Facts about the images of a folder, a glob or a file, without those in the output folder."""
    found = images.listed_silently(pattern, output)
    return source_facts(FolderImages(found))._asdict()


def steps_done(workdir: Path, result: str) -> int:
    """Steps of the newest checkpoint, 0 where there is none.

    Raises InputError where there is a result instead, which a new training would replace in time.
    """
    done = checkpoints.steps_done(workdir)
    if not done and storage.exists(workdir / result):
        raise InputError(
            f"{workdir} holds {result} and no checkpoint to go on from; give another --workdir"
        )
    return done


def check(record: Path, done: str, now: Sources, options: Mapping[str, Any] | None = None) -> None:
    """Raises InputError where a run would go on with other sources or options than it was begun.

    record: its run.json; one that is not there, or that an older version wrote, is compared with
    nothing. done: what was done with them, for the message.
    """
    if not storage.exists(record):
        return
    before = read_json(record, {str: object}, remedy="give another --workdir")
    for name, value in (options or {}).items():
        if before.get("options", {}).get(name, value) != value:
            was = before["options"][name]
            raise InputError(
                f"{record.parent}: {done} had {name} {was!r}, not {value!r}; give that, or another"
                " --workdir"
            )
    if "sources" in before:
        _compare(record.parent, done, before["sources"], now)


def _compare(workdir: Path, done: str, before: Sources, now: Sources) -> None:
    for flag in sorted(before.keys() | now.keys()):
        if flag not in before or flag not in now:
            problem = f"--{flag} {'was not' if flag in now else 'was'} given"
        else:
            problem = _difference(flag, SourceFacts(**before[flag]), SourceFacts(**now[flag]))
        if problem:
            raise InputError(
                f"{workdir}: for {done} {problem}; give the same again, or another --workdir"
            )


def _difference(flag: str, before: SourceFacts, now: SourceFacts) -> str:
    """Difference in words; empty where all is as it was, as far as can be seen."""
    if before.fingerprint != now.fingerprint:
        return f"--{flag} had other images (names or sizes)"
    if before.content != now.content:
        return f"--{flag} had other images (of the same names and sizes)"
    if before.times != now.times and not now.whole:
        print(
            f"files of --{flag} have been copied or changed since; those looked at are the same",
            file=sys.stderr,
        )
    return ""
