"""Watches jobs: their states, their place in the queue, and what they print."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NotRequired, Protocol, TypedDict

from pipeline.errors import PipelineError, PlatformError, PlatformUnavailable
from pipeline.ml_engine.protocol import MLEngine
from pipeline.ml_engine.resources import Job
from pipeline.ml_v1 import JobState
from pipeline.patience import Clock, SystemClock

TAIL_BYTES = 4_000
_OUR_ID = re.compile(r"(graft_[0-9a-f]{8})[0-9a-f]{16,}")  # before lines; changes of state have all of it
# What TensorFlow prints of the machine at each start, whatever level its environment asks for.
_NOISE = re.compile(
    r"WARNING: All log messages before absl::InitializeLog|INFO: Created TensorFlow Lite XNNPACK delegate"
    r"|[IWE]\d{4} \d\d:\d\d:[\d.]+ +\d+ (port|cudart_stub|cuda_\w+|util|cpu_feature_guard)\.cc:\d+\]"
)
MAX_PIECES = 16


class Log(Protocol):
    """A logger of the standard library, or one of Airflow's."""

    def info(self, message: str, /, *values: object) -> None:
        """Log a message."""

    def warning(self, message: str, /, *values: object) -> None:
        """Log a warning."""


class JobsEvent(TypedDict):
    """How a wait for jobs ended; plain JSON, because it goes through Airflow's database.

    `status` is `ended`, `deadline`, or `error` with a `message`; it is final where another wait would end the
    same. `states` holds the state of each job.
    """

    status: str
    job_ids: list[str]
    states: dict[str, str]
    message: NotRequired[str]
    is_final: NotRequired[bool]


class JobWatcher:
    """Polls jobs until all have ended, and logs every change of state and every line that a job prints.

    It begins near the end of a log, so that a task that adopts a job does not repeat pages of it. A service
    that keeps no logs is not asked for one again.

    Args:
        engine: Where the jobs run.
        job_ids: The jobs.
        log: Receives changes and lines.
    """

    def __init__(self, engine: MLEngine, job_ids: Sequence[str], log: Log) -> None:
        self._engine = engine
        self._job_ids = list(job_ids)
        self._log = log
        self._logged_states: dict[str, str] = {}
        self._offsets = dict.fromkeys(job_ids, -TAIL_BYTES)
        self.states: dict[str, str] = {}

    @property
    def have_ended(self) -> bool:
        """Whether every job is in a terminal state."""
        return all(self._has_ended(job_id) for job_id in self._job_ids)

    def _has_ended(self, job_id: str) -> bool:
        return job_id in self.states and JobState(self.states[job_id]).is_terminal

    def look(self) -> None:
        """Ask for each job that has not ended; a service that does not answer is asked again next time.

        Raises:
            PipelineError: if there is no such job.
        """
        for job_id in self._job_ids:
            if self._has_ended(job_id):
                continue
            try:
                self._look_at(job_id)
            except PlatformUnavailable as error:
                self._log.warning("ML Engine does not answer (%s); asking again", error)

    def _look_at(self, job_id: str) -> None:
        job = self._engine.get_job(job_id)
        if job is None:
            raise PipelineError(f"There is no job {job_id} in project {self._engine.project}.", job_id=job_id)
        self._log_state(job_id, job)
        if job["state"] != JobState.QUEUED:
            self._log_output(job_id)
        self.states[job_id] = job["state"]

    def _log_state(self, job_id: str, job: Job) -> None:
        text = str(job["state"])
        if text == JobState.QUEUED and job.get("jobPosition"):
            text = f"QUEUED, number {job['jobPosition']} in the queue"
        if self._logged_states.get(job_id) != text:
            self._log.info("job %s is %s", job_id, text)
            self._logged_states[job_id] = text

    def _log_output(self, job_id: str) -> None:
        for _ in range(MAX_PIECES):
            offset = self._offsets.get(job_id)
            if offset is None:
                return
            try:
                piece = self._engine.read_job_log(job_id, offset=offset)
            except PlatformUnavailable:
                raise
            except PlatformError as error:
                self._log.info("job %s: its log cannot be read here: %s", job_id, error)
                del self._offsets[job_id]
                return
            for line in leave_out_noise(piece.text.splitlines()):
                self._log.info("%s | %s", _OUR_ID.sub(r"\1", job_id), printable(line))
            self._offsets[job_id] = piece.next_offset
            if not piece.text:
                return

    def wait(self, *, deadline: float, poll_seconds: float, clock: Clock | None = None) -> JobsEvent:
        """Poll in this thread until the jobs have ended or the deadline has passed.

        Args:
            deadline: Seconds since the epoch.
            poll_seconds: Pause between two polls.
            clock: Paces the polls.

        Returns:
            What `look_for_event` returns.
        """
        clock = clock or SystemClock()
        while (event := self.look_for_event(deadline, now=clock.now)) is None:
            clock.sleep(poll_seconds)
        return event

    def look_for_event(self, deadline: float, *, now: Callable[[], float] = time.time) -> JobsEvent | None:
        """Poll once; return None while the wait goes on."""
        self.look()
        status = "ended" if self.have_ended else "deadline" if now() >= deadline else None
        if status is None:
            return None
        return {"status": status, "job_ids": list(self._job_ids), "states": dict(self.states)}


def printable(line: str) -> str:
    """Return a line without control characters: what a job prints is not trusted."""
    return "".join(
        char if char.isprintable() or char == "\t" else "\N{REPLACEMENT CHARACTER}" for char in line
    )


def leave_out_noise(lines: Iterable[str]) -> list[str]:
    """Return the lines of a job's log that say something about the job; the log itself keeps all of them."""
    return [line for line in lines if not _NOISE.match(line)]
