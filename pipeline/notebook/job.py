"""A job as a notebook sees it: watched live, its files brought here, its result as an object."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.errors import JobFailed, JobResultError, ObjectNotFound, PlatformError
from pipeline.ml_engine.jobs import raise_unless_succeeded
from pipeline.ml_engine.resources import Job
from pipeline.ml_engine.watch import JobWatcher
from pipeline.ml_v1 import JobState
from pipeline.notebook.connection import Connection
from pipeline.notebook.html import table
from pipeline.trainer.cells import RESULT_FILE, load_file, load_result, read_result

POLL_SECONDS = 0.5


class NotebookJob:
    """A training job of the project, found by its id: another kernel's as well.

    Args:
        connection: Where it runs.
        job_id: Its id.
    """

    def __init__(self, connection: Connection, job_id: str) -> None:
        self._connection = connection
        self.id = job_id
        self._fetched: Path | None = None

    def describe(self) -> Job:
        """Return the job as ML Engine has it.

        Raises:
            PlatformError: if there is no such job.
        """
        job = self._connection.engine.get_job(self.id)
        if job is None:
            project = self._connection.engine.project
            raise PlatformError(
                f"There is no job {self.id!r} in project {project}; `%ml_status` lists those there are.",
                status=404,
            )
        return job

    @property
    def job_dir(self) -> str:
        """URI of the job's directory in the bucket; empty where it has none."""
        return str(self.describe().get("trainingInput", {}).get("jobDir", "")).rstrip("/")

    @property
    def state(self) -> str:
        """QUEUED, PREPARING, RUNNING, SUCCEEDED, FAILED, CANCELLING or CANCELLED."""
        return str(self.describe()["state"])

    def log(self) -> str:
        """Return what the job has printed."""
        self.describe()
        return self._connection.engine.job_log(self.id)

    def cancel(self) -> None:
        """Ask the job to end."""
        self._connection.engine.cancel_job(self.id)

    def wait(self) -> NotebookJob:
        """Show the job's place in the queue, its state and its log until it has ended.

        Raises:
            JobFailed: if it ended FAILED or CANCELLED.
        """
        watcher = JobWatcher(self._connection.engine, [self.id], _Printer())
        watcher.wait(deadline=float("inf"), poll_seconds=POLL_SECONDS)
        raise_unless_succeeded(self.describe())
        return self

    def fetch(self) -> NotebookJob:
        """Bring what the job left in `job_dir`; `files` and `result` then hold it.

        Raises:
            JobResultError: if it has not ended yet.
        """
        self._bring()
        return self

    def _bring(self) -> Path:
        job = self.describe()
        if not JobState(job["state"]).is_terminal:
            raise JobResultError(
                f"Job {self.id} is {job['state']}; its files are there when it has ended. `%ml_status "
                f"{self.id}` tells when."
            )
        job_dir = self.job_dir
        if not job_dir:
            raise JobResultError(f"Job {self.id} has no job directory to bring anything from.")
        directory = self._connection.home / "notebook" / self.id
        directory.mkdir(parents=True, exist_ok=True)
        with suppress(ObjectNotFound):  # a job that failed early has left nothing
            self._connection.workspace.storage.download_tree(job_dir, directory)
        self._fetched = directory
        return directory

    @property
    def directory(self) -> Path:
        """Where the job's files are on this machine; fetched if need be."""
        return self._fetched or self._bring()

    @property
    def files(self) -> dict[str, Path]:
        """The files that the cell left in `job_dir`, by name."""
        paths = sorted(path for path in self.directory.rglob("*") if path.is_file())
        names = {path.relative_to(self.directory).as_posix(): path for path in paths}
        return {name: path for name, path in names.items() if name != RESULT_FILE}

    @property
    def result(self) -> Any:
        """The value of the cell's last line: a Keras model as a model, arrays as arrays, else plain values.

        Raises:
            JobResultError: if it could not be kept.
        """
        return load_result(self.directory)

    def load(self, name: str) -> Any:
        """Return what one of the files holds: a model of a `.keras`, arrays of an `.npz`, JSON, or bytes.

        Raises:
            JobResultError: if there is no such file.
        """
        if name not in self.files:
            listed = ", ".join(self.files) or "none"
            raise JobResultError(f"Job {self.id} left no file {name!r} in `job_dir`; there are: {listed}.")
        return load_file(self.files[name])

    def __repr__(self) -> str:
        return f"NotebookJob({self.id!r})"

    def _repr_html_(self) -> str:
        job = self.describe()
        training_input = job.get("trainingInput", {})
        rows = [("state", job["state"]), ("created", job.get("createTime")), ("ended", job.get("endTime"))]
        rows += [("package", uri) for uri in training_input.get("packageUris", [])]
        rows += [("job directory", training_input.get("jobDir")), ("error", job.get("errorMessage"))]
        if self._fetched is not None:
            rows.append(("files", ", ".join(self.files) or "none"))
        return table((f"job {self.id}", ""), [row for row in rows if row[1]])


class _Printer:
    """The log that a watcher tells, on the cell's output."""

    def info(self, message: str, *values: object) -> None:
        # The watcher of one job need not say whose line it is.
        sys.stdout.write((str(values[1]) if message == "%s | %s" else message % values) + "\n")
        sys.stdout.flush()

    warning = info


def watch(job: NotebookJob, *, ask: Callable[[str], str] = input) -> NotebookJob:
    """Wait for a job; an interrupt asks whether to cancel it or to leave it running.

    Args:
        job: The job.
        ask: Asks the user a question.

    Raises:
        JobFailed: if it ended FAILED or CANCELLED.
    """
    try:
        job.wait().fetch()
        try:
            read_result(job.directory)
        except JobResultError as error:
            sys.stdout.write(f"{error}\n")  # the job itself went well
        return job
    except KeyboardInterrupt:
        if _wants_cancel(job, ask):
            job.cancel()
            sys.stdout.write(f"Job {job.id} is being cancelled.\n")
        else:
            sys.stdout.write(
                f"Job {job.id} goes on. `%ml_status {job.id}` shows it, `%ml_fetch {job.id}` brings its "
                f"files, `%ml_cancel {job.id}` ends it.\n"
            )
        return job
    except JobFailed:
        job.fetch()
        raise


def _wants_cancel(job: NotebookJob, ask: Callable[[str], str]) -> bool:
    """Ask; whoever cannot answer, or interrupts again, leaves the job running."""
    try:
        answer = ask(f"Job {job.id} is running. Cancel it (c) or leave it (l)? ")
    except (KeyboardInterrupt, EOFError, RuntimeError):  # ipykernel's StdinNotImplementedError is one
        return False
    return answer.strip().lower() in ("c", "cancel")


def new_job_id(digest: str) -> str:
    """Return an id that tells when a job was made and from which package."""
    return f"mlmagic_{int(time.time())}_{digest[:8]}"
