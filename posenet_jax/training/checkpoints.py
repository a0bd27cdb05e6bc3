"""Checkpoints of a training: Orbax's, a folder for each step, on disk or in a bucket.

For a bucket Orbax writes to a temporary folder. Its files are uploaded, and then the file by which
Orbax itself marks what is whole where nothing can be renamed: without it there is no checkpoint.
"""

import functools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from posenet_jax.errors import InputError
from posenet_jax.io import storage

_COMMITTED = "commit_success.txt"
# Seconds after which a state is saved whatever its step: where steps are slow, `every` is hours.
_LONGEST = 300.0


class Checkpoints:
    """States of a run, in the folder `checkpoints` of its own."""

    def __init__(self, workdir: Path, *, every: int, keep: int) -> None:
        """every: steps between two of them. keep: number of the newest ones that stay."""
        self.folder = workdir / "checkpoints"
        self._keep = keep
        if storage.is_bucket(workdir):
            self._local = storage.scratch(self)
        else:
            self._local = self.folder.absolute()
        self._manager = _manager(self._local, every, keep)
        self._saved = time.monotonic()

    def restore(self, state: Any) -> tuple[int, Any]:
        """Returns (steps done, state): the newest checkpoint, or (0, state) if there is none.

        Raises InputError if it cannot be read and, naming the first difference, if its arrays are
        not those of `state`.
        """
        if storage.is_bucket(self.folder):
            self._fetch_newest()
        manager = self._manager
        step = manager.latest_step()
        if step is None:
            return 0, state
        found = self._readable(step, lambda: manager.item_metadata(step))
        saved, wanted = _leaf_shapes(found), _leaf_shapes(state)
        for name in sorted(set(saved) | set(wanted)):
            if saved.get(name) != wanted.get(name):
                raise InputError(
                    f"the checkpoint in {self.folder} is of another network or optimiser "
                    f"({name} is {saved.get(name)}, expected {wanted.get(name)}); choose another "
                    "--workdir"
                )
        args = ocp.args.StandardRestore(state)
        return step, self._readable(step, lambda: manager.restore(step, args=args))

    def is_due(self, step: int) -> bool:
        """Whether a state is saved after that step."""
        return bool(self._manager.should_save(step)) or self._is_overdue()

    def _is_overdue(self) -> bool:
        # Processes that train together save together, and their clocks differ.
        return jax.process_count() == 1 and time.monotonic() - self._saved >= _LONGEST

    def save(self, step: int, state: Any) -> None:
        """Saves the state, whether one is due or not."""
        saved = self._manager.save(step, args=ocp.args.StandardSave(state), force=True)
        self._saved = time.monotonic()
        if saved and storage.is_bucket(self.folder):
            self._upload(step)

    def wait(self) -> None:
        """Returns when all that was saved is there."""
        self._manager.wait_until_finished()

    def _readable(self, step: int, read: Callable[[], Any]) -> Any:
        """Returns the result of `read`. Raises InputError for any error of Orbax's."""
        try:
            return read()
        except Exception as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputError(
                f"the checkpoint {self.folder / str(step)} cannot be read ({reason}); remove that"
                " folder, and the run goes on from the checkpoint before it"
            ) from error

    def _fetch_newest(self) -> None:
        """Copies the newest checkpoint out of the bucket to where Orbax looks for it."""
        if not (steps := _in_bucket(self.folder)[0]):
            return
        folder, local = self.folder / str(steps[-1]), self._local / str(steps[-1])
        for file in storage.objects(os.fspath(folder)):
            (local / file.name).parent.mkdir(parents=True, exist_ok=True)
            storage.fetch(folder / file.name, local / file.name)
        self._manager.reload()

    def _upload(self, step: int) -> None:
        """Puts a checkpoint into the bucket, and removes those that it replaces.

        One that is there is of another run of the same command, and the same.
        """
        folder, local = self.folder / str(step), self._local / str(step)
        whole, others = _in_bucket(self.folder)
        if step not in whole:
            (mark := local / _COMMITTED).touch()  # which not every version of Orbax writes
            own = sorted(path for path in local.rglob("*") if path.is_file() and path != mark)
            for file in (*own, mark):
                storage.upload(file, folder / os.fspath(file.relative_to(local)))
        oldest = sorted({*whole, step})[-self._keep :][0]
        for old in sorted({*whole, *others}):
            if old < oldest:
                storage.remove(self.folder / str(old) / _COMMITTED)
                storage.remove_folder(self.folder / str(old))


def steps_done(workdir: Path) -> int:
    """Steps of the newest checkpoint in a run's folder; 0 if there is none."""
    folder = workdir / "checkpoints"
    if storage.is_bucket(folder):
        return max(_in_bucket(folder)[0], default=0)
    folder = folder.absolute()
    return ocp.CheckpointManager(folder).latest_step() or 0 if folder.is_dir() else 0


def _in_bucket(folder: Path) -> tuple[list[int], list[int]]:
    """Returns the steps of the checkpoints in a bucket that are whole, in order, and of others."""
    names = [file.name.split("/") for file in storage.objects(os.fspath(folder))]
    every = {int(name[0]) for name in names if name[0].isdecimal()}
    whole = {int(name[0]) for name in names if name[0].isdecimal() and name[1:] == [_COMMITTED]}
    return sorted(whole), sorted(every - whole)


def _manager(folder: Path, every: int, keep: int) -> ocp.CheckpointManager:
    # Synchronous: the next step takes over the state's buffers, which an asynchronous save may
    # still be reading where device memory is host memory.
    options = ocp.CheckpointManagerOptions(
        preservation_policy=ocp.checkpoint_managers.LatestN(keep),
        save_interval_steps=every,
        enable_async_checkpointing=False,
    )
    # Named as Orbax names a checkpoint of one tree, so that its shapes are known before it is read.
    registry = ocp.handlers.create_default_handler_registry(default=ocp.StandardCheckpointHandler())
    return ocp.CheckpointManager(folder, options=options, handler_registry=registry)


def _leaf_shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))
    name = functools.partial(jax.tree_util.keystr, simple=True, separator=".")
    return {name(path): tuple(leaf.shape) for path, leaf in leaves}
