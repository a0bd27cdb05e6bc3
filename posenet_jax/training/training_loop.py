"""The loop every trainer shares: checkpoints, exact resume, logs, and a stop on numbers gone bad.

A batch is a function of the step alone, so that a run killed and resumed sees what an undisturbed
one would have seen.
"""

import contextlib
import dataclasses
import functools
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from posenet_jax.errors import InputError, NotFinite, OutputError, shown
from posenet_jax.io import files, whole_files
from posenet_jax.io.run_files import read_csv
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


def checkpoint_manager(workdir: Path, config: LoopConfig) -> ocp.CheckpointManager:
    """Keeps the newest `config.keep_checkpoints` states in workdir/checkpoints."""
    # Synchronous: the next step takes over the state's buffers, which an asynchronous save may
    # still be reading where device memory is host memory.
    options = ocp.CheckpointManagerOptions(
        preservation_policy=ocp.checkpoint_managers.LatestN(config.keep_checkpoints),
        save_interval_steps=config.checkpoint_every,
        enable_async_checkpointing=False,
    )
    # Named as Orbax names a checkpoint of one tree, so that its shapes are known before it is read.
    registry = ocp.handlers.create_default_handler_registry(default=ocp.StandardCheckpointHandler())
    return ocp.CheckpointManager(
        (workdir / "checkpoints").absolute(), options=options, handler_registry=registry
    )


def steps_done(workdir: Path) -> int:
    """Steps of the newest checkpoint in a run's folder; 0 if there is none."""
    folder = (workdir / "checkpoints").absolute()
    return ocp.CheckpointManager(folder).latest_step() or 0 if folder.is_dir() else 0


def _leaf_shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))
    name = functools.partial(jax.tree_util.keystr, simple=True, separator=".")
    return {name(path): tuple(leaf.shape) for path, leaf in leaves}


def restore_latest(manager: ocp.CheckpointManager, state: Any) -> tuple[int, Any]:
    """(steps done, state): the newest checkpoint, or (0, state) if there is none.

    Raises InputError if it cannot be read and, naming the first difference, if its arrays are not
    those of `state`.
    """
    step = manager.latest_step()
    if step is None:
        return 0, state
    found = _readable(manager, step, lambda: manager.item_metadata(step))
    saved, wanted = _leaf_shapes(found), _leaf_shapes(state)
    for name in sorted(set(saved) | set(wanted)):
        if saved.get(name) != wanted.get(name):
            raise InputError(
                f"the checkpoint in {manager.directory} is of another network or optimiser "
                f"({name} is {saved.get(name)}, expected {wanted.get(name)}); choose another "
                "--workdir"
            )
    args = ocp.args.StandardRestore(state)
    return step, _readable(manager, step, lambda: manager.restore(step, args=args))


def _readable(manager: ocp.CheckpointManager, step: int, read: Callable[[], Any]) -> Any:
    """Returns the result of `read`. Raises InputError for any error of Orbax's."""
    try:
        return read()
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        folder = manager.directory / str(step)
        raise InputError(
            f"the checkpoint {folder} cannot be read ({reason}); remove that folder, and the run "
            "goes on from the checkpoint before it"
        ) from error


class MetricLog:
    """metrics.csv and TensorBoard events; rows beyond the resumed step are dropped."""

    def __init__(self, workdir: Path, start: int):
        self._path = workdir / "metrics.csv"
        self._rows = self._previous(start)
        self._events = EventLog(workdir / "tensorboard", start)

    def _previous(self, start: int) -> list[dict[str, Any]]:
        if not os.path.lexists(self._path):
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
        manager = checkpoint_manager(workdir, config)
    start, state = restore_latest(manager, state)
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
            if logged or manager.should_save(done):  # no checkpoint of numbers gone bad
                loss = float(metrics["loss"])
                if not math.isfinite(loss):
                    manager.wait_until_finished()
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
            with writing("checkpoints"):
                last = done == config.steps
                manager.save(done, args=ocp.args.StandardSave(state), force=last)
            yield done, figures, state
    if start >= config.steps:
        yield start, evaluate(state), state
    manager.wait_until_finished()


@contextlib.contextmanager
def _writing(workdir: Path, name: str) -> Iterator[None]:
    """Makes an OutputError of what the operating system refuses: what stays, and how to go on."""
    try:
        yield
    except Exception as error:
        refused = whole_files.refusal(error)
        if refused is None:
            raise
        names = [path.name for path in (workdir / "checkpoints").glob("*")]
        saved = max((int(name) for name in names if name.isdigit()), default=0)
        stays = f"the checkpoint of step {saved} stays" if saved else "no checkpoint is there yet"
        remedy = whole_files.remedy(refused)
        advice = f"{stays}; {remedy}, and the same command goes on from there"
        if isinstance(error, OutputError):
            raise OutputError(error.path, error.reason, advice) from error
        raise whole_files.not_written(workdir / name, refused, advice) from error


def read_metrics(path: str | Path, columns: Sequence[str] = ("step",)) -> dict[str, np.ndarray]:
    """Columns of a metrics.csv; NaN where a cell is empty.

    Raises InputError where it has no line, or lacks one of the `columns`.
    """
    rows = list(read_csv(path, columns, remedy="train anew to have one"))
    if not rows:
        raise InputError(f"{shown(path)} has no line; train anew to have one")
    return {name: np.array([row.number(name) for row in rows]) for name in rows[0].cells}
