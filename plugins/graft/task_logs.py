"""The logs of tasks in the workspace's bucket, so that they can be read when the machine of a task is gone.

Airflow loads this where `[logging] logging_config_class` is `graft.task_logs.LOGGING_CONFIG`. By itself it
asks for a log when its task has ended; here a running task's log is sent every few seconds, too.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from airflow.config_templates.airflow_local_settings import BASE_LOG_FOLDER, DEFAULT_LOGGING_CONFIG
from airflow.configuration import conf
from airflow.utils.state import State

from pipeline.artifacts.task_logs import LogPart, TaskLogFolder
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Settings
from pipeline.errors import PipelineError
from pipeline.storage import Storage

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

log = logging.getLogger(__name__)

FIRST_SECONDS, LAST_SECONDS = 2.0, 10.0  # between two pieces: of a new log, and of one that grows for long
GROWTH = 120.0  # after so many seconds a piece is sent a second later than the one before
PIECE_BYTES = 4_000_000


@dataclass(slots=True, kw_only=True)
class GrowingLog:
    """A log that this process writes.

    Args:
        file: Airflow's, opened to append.
        part: Where it goes.
        base: Its size when this process began to write it: that part is sent already.
        pause: Seconds between two pieces, while it is new.
        num_sent: How many bytes more are in the bucket.
        num_pieces: In so many objects.
        since: When it began, of the monotonic clock.
        next_at: When to send the next piece.
    """

    file: BinaryIO
    part: LogPart
    base: int
    pause: float
    num_sent: int = 0
    num_pieces: int = 0
    since: float = field(default_factory=time.monotonic)
    next_at: float = 0.0

    def send_piece(self) -> None:
        """Send what is new."""
        now = time.monotonic()
        self.next_at = now + min(LAST_SECONDS, self.pause + (now - self.since) / GROWTH)
        with open(self.file.name, "rb") as file:
            file.seek(self.base + self.num_sent)
            data = file.read(PIECE_BYTES)
        if data:
            self.part.write_piece(self.num_sent, data)
            self.num_sent += len(data)
            self.num_pieces += 1

    def complete(self) -> None:
        """Send it whole."""
        with open(self.file.name, "rb") as file:
            file.seek(self.base)
            self.part.complete(file, num_pieces=self.num_pieces)


class LogShipper:
    """Sends the logs that this process writes, by one thread that lives as long as there are any.

    Args:
        logs: Where they go.
        base: Airflow's folder of logs.
        left_out: The folder in it with the logs of the dag-processor, which writes one at each parsing.
        first_seconds: How soon a running task's log is sent.
    """

    def __init__(
        self, logs: TaskLogFolder, base: Path, *, left_out: Path, first_seconds: float = FIRST_SECONDS
    ) -> None:
        self._logs = logs
        self._base = base
        self._left_out = left_out
        self._first_seconds = first_seconds
        self._forget()
        os.register_at_fork(after_in_child=self._forget)  # tasks: their parent has the logs, and the thread

    def _forget(self) -> None:
        self._growing: dict[str, GrowingLog] = {}
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._thread: threading.Thread | None = None

    def note(self, file: BinaryIO) -> None:
        """Send a file's content from now on; called before each of its lines is written."""
        growing = self._growing.get(file.name)
        if growing is not None:
            growing.file = file  # another one where Airflow gave the first one up without a word
            return
        path = Path(file.name)
        if not path.is_relative_to(self._base) or path.is_relative_to(self._left_out):
            return
        part = self._logs.part(path.relative_to(self._base).as_posix(), time.time(), socket.gethostname())
        growing = GrowingLog(file=file, part=part, base=path.stat().st_size, pause=self._first_seconds)
        growing.next_at = growing.since + self._first_seconds
        with self._lock:
            self._growing[file.name] = growing
            if self._thread is None:
                self._thread = threading.Thread(target=self._ship, name="graft-task-logs", daemon=True)
                self._thread.start()

    def finish(self, path: str) -> None:
        """Send a log whole that has ended; its path is relative to Airflow's folder.

        Raises:
            StorageError: if the bucket does not take it; what is left on the machine is all there is then.
        """
        with self._lock:
            growing = self._growing.pop(str(self._base / path), None)
        if growing is not None:
            with self._sending:
                growing.complete()

    def _ship(self) -> None:
        while True:
            time.sleep(min(1.0, self._first_seconds))
            with self._lock:
                if not self._growing:
                    self._thread = None
                    return
                due = [each for each in self._growing.values() if each.next_at <= time.monotonic()]
            for growing in due:
                self._send(growing)

    def _send(self, growing: GrowingLog) -> None:
        try:
            with self._sending:
                if self._growing.get(growing.file.name) is not growing:
                    return  # it is complete
                if not growing.file.closed:
                    growing.send_piece()
                    return
            self.finish(Path(growing.file.name).relative_to(self._base).as_posix())  # Airflow gave it up
        except (PipelineError, OSError) as error:
            log.warning("A task's log could not be sent to the bucket; it is tried again: %s", error)


class BucketTaskLog:
    """What Airflow asks of a place for logs: `airflow.logging.remote.RemoteLogStreamIO`.

    Args:
        base: Airflow's folder of logs.
        left_out: The folder in it whose logs are of no task.
        logs: Where they go; by default in the workspace that the environment names.
        first_seconds: How soon a running task's log is sent.
    """

    def __init__(
        self,
        base: Path,
        *,
        left_out: Path,
        logs: TaskLogFolder | None = None,
        first_seconds: float = FIRST_SECONDS,
    ) -> None:
        self._base = base
        self._left_out = left_out
        self._given = logs
        self._first_seconds = first_seconds
        self._refused: set[str] = set()

    @cached_property
    def logs(self) -> TaskLogFolder:
        """The folder in the bucket; it is opened by who sends or reads, which is not every process."""
        if self._given is not None:
            return self._given
        workspace = Workspace(Storage.from_environment(), Settings().workspace)
        return TaskLogFolder(storage=workspace.storage, uri=workspace.task_logs)

    @cached_property
    def _shipper(self) -> LogShipper:
        return LogShipper(self.logs, self._base, left_out=self._left_out, first_seconds=self._first_seconds)

    @property
    def processors(self) -> tuple[Processor, ...]:
        """What sees each line before it is written."""
        return (self._note,)

    def _note(self, logger: Any, _method: str, event: EventDict) -> EventDict:
        file: Any = getattr(logger, "_file", None)
        name = getattr(file, "name", None)
        if isinstance(name, str) and os.path.isabs(name) and name not in self._refused:  # no `<stdout>`
            try:
                self._shipper.note(file)
            except (PipelineError, OSError) as error:  # a task needs no log to do its work
                self._refused.add(name)
                log.warning("The log %s is kept on this machine only: %s", name, error)
        return event

    def upload(self, path: os.PathLike[str] | str, ti: Any = None) -> None:
        """Send a log that has ended."""
        self._shipper.finish(os.fspath(path))

    def stream(self, relative_path: str, ti: Any) -> tuple[list[str], list[Iterator[str]]]:
        """Return where a log was found, and the lines of each of its parts."""
        try:
            parts = self.logs.parts(relative_path)
        except PipelineError as error:
            return [f"The bucket does not give the log: {error}"], []
        # While a task is unfinished, Airflow reads the file of its own machine, too.
        if getattr(ti, "state", None) in State.unfinished and (self._base / relative_path).exists():
            parts = [part for part in parts if part.machine != socket.gethostname()]
        return [part.uri for part in parts], [part.read_lines() for part in parts]

    def read(self, relative_path: str, ti: Any) -> tuple[list[str], list[str] | None]:
        """Return where a log was found, and the text of each of its parts."""
        sources, streams = self.stream(relative_path, ti)
        return sources, ["\n".join(lines) for lines in streams] or None


LOGGING_CONFIG = DEFAULT_LOGGING_CONFIG
REMOTE_TASK_LOG = BucketTaskLog(
    Path(BASE_LOG_FOLDER),
    left_out=Path(conf.get("logging", "dag_processor_child_process_log_directory")),
)
