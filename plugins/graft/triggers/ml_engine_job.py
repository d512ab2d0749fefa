"""Waits for ML Engine jobs in the triggerer, where waiting costs no worker slot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from airflow.triggers.base import BaseTrigger, TriggerEvent

from graft.hooks.ml_engine import MLEngineHook
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.ml_engine.watch import JobsEvent
    from pipeline.types import JsonDict


class MLEngineJobTrigger(BaseTrigger):
    """Fires once: when every job has ended, when the deadline has passed, or when asking makes no sense.

    Until then the task's log shows the states of the jobs, their place in the queue and what they print. An
    engine that does not answer (it may be restarting) is asked again until the deadline.
    Known race: Airflow does not call `on_kill` of a trigger that it has not started yet; the `engine_sweep`
    DAG and the job's own `maxRunningTime` end what leaks there.

    Args:
        job_ids: The jobs.
        ml_engine_conn_id: The connection; nothing secret is stored with the trigger.
        project: The project, where it is not the connection's.
        poll_seconds: Pause between two looks.
        deadline: Seconds since the epoch: it must mean the same in another process.
        cancel_on_kill: Whether the jobs end with the task.
    """

    def __init__(
        self,
        *,
        job_ids: list[str],
        ml_engine_conn_id: str,
        poll_seconds: float,
        deadline: float,
        project: str | None = None,
        cancel_on_kill: bool = True,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_ids = job_ids
        self.ml_engine_conn_id = ml_engine_conn_id
        self.project = project
        self.poll_seconds = poll_seconds
        self.deadline = deadline
        self.cancel_on_kill = cancel_on_kill

    def serialize(self) -> tuple[str, JsonDict]:
        """Return what the triggerer needs to make this trigger again."""
        names = ("job_ids", "ml_engine_conn_id", "project", "poll_seconds", "deadline", "cancel_on_kill")
        return (
            "graft.triggers.ml_engine_job.MLEngineJobTrigger",
            {name: getattr(self, name) for name in names},
        )

    @property
    def hook(self) -> MLEngineHook:
        """The connection."""
        return MLEngineHook(self.ml_engine_conn_id, project=self.project)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: `status` is `ended`, `deadline` or `error`; `states` tells each job's state."""
        try:
            event = await self._wait()
        except Exception as error:
            self.log.exception("waiting for %s ended in an error", ", ".join(self.job_ids))
            message = f"{type(error).__name__}: {error}"
            event = {
                "status": "error",
                "job_ids": self.job_ids,
                "states": {},
                "message": message,
                "is_final": isinstance(error, PipelineError) and not error.transient,
            }
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def _wait(self) -> JobsEvent:
        from pipeline.ml_engine.watch import JobWatcher

        watcher = JobWatcher(await self.hook.get_async_conn(), self.job_ids, self.log)
        while (event := await asyncio.to_thread(watcher.look_for_event, self.deadline)) is None:
            await asyncio.sleep(self.poll_seconds)
        return event

    async def on_kill(self) -> None:
        """Cancel the jobs of a task that a person has failed or cleared."""
        if not self.cancel_on_kill:
            return
        engine = await self.hook.get_async_conn()
        for job_id in self.job_ids:
            self.log.info("cancelling job %s", job_id)
            try:
                await asyncio.to_thread(engine.cancel_job, job_id)
            except PipelineError:
                self.log.exception("job %s could not be cancelled", job_id)
