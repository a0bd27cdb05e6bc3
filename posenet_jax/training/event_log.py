"""Event files that TensorBoard reads, written without a thread: failures come where they belong."""

import contextlib
import os
import time
from pathlib import Path
from typing import Any

from posenet_jax.io import storage


class EventLog:
    """Scalars by name and step. Raises OSError where they cannot be written.

    A file in a bucket is uploaded anew, whole, with every step's.
    """

    def __init__(self, folder: Path, start: int) -> None:
        """start: TensorBoard forgets what other files in the folder say of this step and later."""
        # Imported here: with PyTorch at hand it imports all of it, a second of every script's.
        from tensorboardX.proto import event_pb2
        from tensorboardX.record_writer import RecordWriter
        from tensorboardX.summary import scalar

        self._event, self._scalar = event_pb2.Event, scalar
        self._path = self._file = folder / f"events.out.tfevents.{time.time_ns()}"
        if storage.is_bucket(folder):
            self._file = storage.scratch(self) / self._path.name
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._records = RecordWriter(os.fspath(self._file))
        self._write(file_version="brain.Event:2")
        self._write(step=start, file_version="brain.Event:2")
        session = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(step=start, session_log=session)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Writes a step's scalars, for good."""
        try:
            for name, value in values.items():
                self._write(step=step, summary=self._scalar(name, value))
            self._records.flush()
            if self._file != self._path:
                storage.upload(self._file, self._path)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Ends the file; what could not be written to it is not tried again."""
        with contextlib.suppress(OSError):
            self._records.close()

    def _write(self, **content: Any) -> None:
        event = self._event(wall_time=time.time(), **content)
        self._records.write(event.SerializeToString())
