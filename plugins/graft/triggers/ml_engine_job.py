"""Waits for ML Engine jobs in the triggerer, where waiting costs no worker slot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from graft.hooks.ml_engine import MLEngineHook
from pipeline.errors import PipelineError, PlatformUnavailable

if TYPE_CHECKING:
    from pipeline.ml_engine.protocol import MLEngine


class MLEngineJobTrigger(BaseTrigger):
    """Fires once: when every job has ended, when the deadline has passed, or when asking makes no sense.

    An engine that does not answer (it may be restarting) is asked again until the deadline.
    Known race: Airflow does not call `on_kill` of a trigger that it has not started yet; the job's own
    `maxRunningTime` ends what leaks there.

    Args:
        job_ids: The jobs.
        ml_engine_conn_id: The connection; nothing secret is stored with the trigger.
        poll_seconds: Pause between two looks.
        deadline: Seconds since the epoch: it must mean the same in another process.
    """

    def __init__(
        self, *, job_ids: list[str], ml_engine_conn_id: str, poll_seconds: float, deadline: float
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_ids = job_ids
        self.ml_engine_conn_id = ml_engine_conn_id
        self.poll_seconds = poll_seconds
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer needs to make this trigger again."""
        return (
            "graft.triggers.ml_engine_job.MLEngineJobTrigger",
            {
                "job_ids": self.job_ids,
                "ml_engine_conn_id": self.ml_engine_conn_id,
                "poll_seconds": self.poll_seconds,
                "deadline": self.deadline,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: `status` is `ended`, `deadline` or `error`; `states` tells each job's state."""
        states: dict[str, str] = {}
        try:
            event = await self._wait(states)
        except Exception as error:
            self.log.exception("waiting for %s ended in an error", ", ".join(self.job_ids))
            event = {"status": "error", "message": f"{type(error).__name__}: {error}"}
        payload = {"job_ids": self.job_ids, "states": states, **event}
        yield TriggerEvent(payload)  # type: ignore[no-untyped-call]

    async def _wait(self, states: dict[str, str]) -> dict[str, str]:
        from pipeline.ml_engine.protocol import JobState

        engine = await MLEngineHook(self.ml_engine_conn_id).get_async_conn()
        while True:
            for job_id in self.job_ids:
                if job_id not in states or not JobState(states[job_id]).is_terminal:
                    await self._look(engine, job_id, states)
            if len(states) == len(self.job_ids) and all(
                JobState(state).is_terminal for state in states.values()
            ):
                return {"status": "ended"}
            if time.time() >= self.deadline:
                return {"status": "deadline"}
            await asyncio.sleep(self.poll_seconds)

    async def _look(self, engine: MLEngine, job_id: str, states: dict[str, str]) -> None:
        try:
            job = await asyncio.to_thread(engine.get_job, job_id)
        except PlatformUnavailable as error:
            self.log.warning("ML Engine does not answer (%s); asking again", error)
            return
        if job is None:
            raise PipelineError(f"There is no job {job_id} in project {engine.project}.", job_id=job_id)
        if states.get(job_id) != job["state"]:
            self.log.info("job %s is %s", job_id, job["state"])
        states[job_id] = job["state"]

    async def on_kill(self) -> None:
        """Cancel the jobs of a task that a person has failed or cleared."""
        engine = await MLEngineHook(self.ml_engine_conn_id).get_async_conn()
        for job_id in self.job_ids:
            self.log.info("cancelling job %s", job_id)
            try:
                await asyncio.to_thread(engine.cancel_job, job_id)
            except PipelineError:
                self.log.exception("job %s could not be cancelled", job_id)
