"""Watches jobs on somebody's behalf: their states, their place in the queue, and what they print."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from pipeline.errors import PipelineError, PlatformError, PlatformUnavailable
from pipeline.ml_engine.protocol import Clock, MLEngine, SystemClock
from pipeline.ml_v1 import JobState
from pipeline.types import JsonDict

TAIL_BYTES = 4_000
MAX_PIECES = 16


class JobWatcher:
    """Looks at jobs until all have ended, and tells a log what is new.

    It begins with the end of what a job has printed already: whoever takes a job over repeats no page.
    A service that keeps no logs is asked for none again.

    Args:
        engine: Where the jobs run.
        job_ids: The jobs.
        log: Told of every change, and of every line that a job prints.
    """

    def __init__(self, engine: MLEngine, job_ids: Sequence[str], log: Any) -> None:
        self._engine = engine
        self._job_ids = list(job_ids)
        self._log = log
        self._said: dict[str, str] = {}
        self._offsets = dict.fromkeys(job_ids, -TAIL_BYTES)
        self.states: dict[str, str] = {}

    @property
    def have_ended(self) -> bool:
        """Whether every job is in a terminal state."""
        return all(self._has_ended(job_id) for job_id in self._job_ids)

    def _has_ended(self, job_id: str) -> bool:
        return job_id in self.states and JobState(self.states[job_id]).is_terminal

    def look(self) -> None:
        """Look at each job that has not ended; a service that does not answer is asked again next time.

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
        self._tell_state(job_id, job)
        if job["state"] != JobState.QUEUED:
            self._tell_log(job_id)
        self.states[job_id] = job["state"]

    def _tell_state(self, job_id: str, job: JsonDict) -> None:
        text = str(job["state"])
        if text == JobState.QUEUED and job.get("jobPosition"):
            text = f"QUEUED, number {job['jobPosition']} in the queue"
        if self._said.get(job_id) != text:
            self._log.info("job %s is %s", job_id, text)
            self._said[job_id] = text

    def _tell_log(self, job_id: str) -> None:
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
            for line in piece.text.splitlines():
                self._log.info("%s | %s", job_id, printable(line))
            self._offsets[job_id] = piece.next_offset
            if not piece.text:
                return

    def wait(self, *, deadline: float, poll_seconds: float, clock: Clock | None = None) -> JsonDict:
        """Look again and again, in this thread.

        Args:
            deadline: Seconds since the epoch.
            poll_seconds: Pause between two looks.
            clock: Paces the looks.

        Returns:
            What `look_for_event` returns.
        """
        clock = clock or SystemClock()
        while (event := self.look_for_event(deadline, now=clock.now)) is None:
            clock.sleep(poll_seconds)
        return event

    def look_for_event(self, deadline: float, *, now: Any = time.time) -> JsonDict | None:
        """Look once; return `status` (`ended` or `deadline`), `job_ids` and `states`, or None to go on."""
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
