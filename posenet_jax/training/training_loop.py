"""The loop every trainer shares: checkpoints, exact resume, logs, and a stop on numbers gone bad.

A batch is a function of the step alone, so that a run killed and resumed sees what an undisturbed
one would have seen.
"""

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from posenet_jax.errors import InputError, NotFinite, OutputError, shown
from posenet_jax.io import files, storage, whole_files
from posenet_jax.io.run_files import read_csv
from posenet_jax.training.checkpoints import Checkpoints
from posenet_jax.training.event_log import EventLog


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """Lengths in steps."""

    steps: int
    log_every: int = 50
    evaluate_every: int = 1000
    evaluate_at: tuple[int, ...] = ()  # besides
    checkpoint_every: int = 500
    keep_checkpoints: int = 3


class MetricLog:
    """metrics.csv and TensorBoard events; rows beyond the resumed step are dropped."""

    def __init__(self, workdir: Path, start: int):
        self._path = workdir / "metrics.csv"
        self._rows = self._previous(start)
        self._events = EventLog(workdir / "tensorboard", start)

    def _previous(self, start: int) -> list[dict[str, Any]]:
        if not storage.exists(self._path):
            return []
        remedy = "remove it, and the training goes on without its earlier lines"
        rows = list(read_csv(self._path, ("step",), remedy=remedy))
        for row in rows:  # now, before anything is trained that a figure of them would end
            _ = [row.number(name) for name in row.cells]
        return [row.cells for row in rows if row.whole("step") <= start]

    def write(self, step: int, values: dict[str, float]) -> None:
        self._events.write(step, values)
        self._rows.append({"step": step, **values})
        columns = list(dict.fromkeys(name for row in self._rows for name in row))
        rows = [dict.fromkeys(columns, "") | row for row in self._rows]
        files.write_csv(self._path, rows)

    def close(self) -> None:
        self._events.close()


def train(
    state: Any,
    *,
    step: Callable[[Any, Any], tuple[Any, dict[str, jax.Array]]],
    batch: Callable[[int], Any],
    evaluate: Callable[[Any], dict[str, float]],
    workdir: Path,
    config: LoopConfig,
) -> Iterator[tuple[int, dict[str, float], Any]]:
    """Trains to `config.steps`, yielding (steps done, newest figures, state) after every step.

    The state yielded is donated to the next step: use it before asking for more. Raises NotFinite,
    and OutputError where something cannot be written.
    """
    writing = functools.partial(_writing, workdir)
    with writing("checkpoints"):
        checkpoints = Checkpoints(
            workdir, every=config.checkpoint_every, keep=config.keep_checkpoints
        )
    start, state = checkpoints.restore(state)
    with writing("tensorboard"):
        metric_log = MetricLog(workdir, start)
    with contextlib.closing(metric_log) as log:
        figures: dict[str, float] = {}
        clock, since = time.monotonic(), start
        for done in range(start + 1, config.steps + 1):
            state, metrics = step(state, batch(done - 1))
            if jax.default_backend() == "cpu":
                # CPU devices are threads of one pool: two programs in flight whose devices wait for
                # one another can block it for ever.
                jax.block_until_ready(state)
            evaluated = (
                done % config.evaluate_every == 0
                or done == config.steps
                or done in config.evaluate_at
            )
            logged = done % config.log_every == 0 or evaluated
            # Asked once, as it depends on the clock: no checkpoint of numbers gone bad.
            due = done == config.steps or checkpoints.is_due(done)
            if logged or due:
                loss = float(metrics["loss"])
                if not math.isfinite(loss):
                    checkpoints.wait()
                    raise NotFinite(f"the loss is {loss} at step {done}; {workdir} is kept")
            if logged:
                values = {name: float(value) for name, value in metrics.items()}
                now = time.monotonic()
                values["steps_per_second"] = (done - since) / (now - clock)
                clock, since = now, done
                if evaluated:
                    values |= evaluate(state)
                    clock = time.monotonic()
                with writing("tensorboard"):
                    log.write(done, values)
                figures = {**figures, **values}
            if due:
                with writing("checkpoints"):
                    checkpoints.save(done, state)
            yield done, figures, state
    if start >= config.steps:
        yield start, evaluate(state), state
    checkpoints.wait()


@contextlib.contextmanager
def _writing(workdir: Path, name: str) -> Iterator[None]:
    """Makes an OutputError of what the operating system refuses: what stays, and how to go on."""
    try:
        yield
    except Exception as error:
        refused = whole_files.refusal(error)
        if refused is None:
            raise
        remedy = whole_files.remedy(refused)
        advice = f"{_what_stays(workdir)}; {remedy}, and the same command goes on from there"
        if isinstance(error, OutputError):
            raise OutputError(error.path, error.reason, advice) from error
        raise whole_files.not_written(workdir / name, refused, advice) from error


def _what_stays(workdir: Path) -> str:
    if storage.is_bucket(workdir):  # which may not answer any more
        return "the checkpoints that are there stay"
    names = [path.name for path in (workdir / "checkpoints").glob("*")]
    saved = max((int(name) for name in names if name.isdigit()), default=0)
    return f"the checkpoint of step {saved} stays" if saved else "no checkpoint is there yet"


def read_metrics(path: str | Path, columns: Sequence[str] = ("step",)) -> dict[str, np.ndarray]:
    """Columns of a metrics.csv; NaN where a cell is empty.

    Raises InputError where it has no line, or lacks one of the `columns`.
    """
    rows = list(read_csv(path, columns, remedy="train anew to have one"))
    if not rows:
        raise InputError(f"{shown(path)} has no line; train anew to have one")
    return {name: np.array([row.number(name) for row in rows]) for name in rows[0].cells}
