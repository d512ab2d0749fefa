"""What all steps share: errors in Airflow's terms, the bucket, the run, and waiting for jobs."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from graft.failures import airflow_failures
from graft.hooks.ml_engine import DEFAULT_CONNECTION, MLEngineHook
from graft.triggers.ml_engine_job import MLEngineJobTrigger
from pipeline.config import Settings
from pipeline.errors import JobTimeout, PlatformError
from pipeline.storage import Storage

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pipeline.ml_engine.protocol import MLEngine
    from pipeline.types import JsonDict

RUNTIME_VERSION = "2.21"
LOG_TAIL = 4000


class GraftOperator(BaseOperator):
    """A step of a run. Sub-classes write `perform`; what it returns goes to XCom, so it is small and plain.

    Args:
        ml_engine_conn_id: The connection to ML Engine, for the steps that call it.
        arguments: Those of every operator.
    """

    def __init__(self, *, ml_engine_conn_id: str = DEFAULT_CONNECTION, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.ml_engine_conn_id = ml_engine_conn_id

    def execute(self, context: Context) -> Any:
        """Run the step; an error that another try would repeat ends the task at once."""
        with airflow_failures():
            return self.perform(context)

    @abstractmethod
    def perform(self, context: Context) -> Any:
        """Do the work of the step."""

    def connect(self) -> MLEngine:
        """Return ML Engine."""
        return MLEngineHook(self.ml_engine_conn_id).get_conn()

    @property
    def storage(self) -> Storage:
        """The buckets, as the environment maps them."""
        return Storage.from_environment()

    @property
    def workspace(self) -> str:
        """The bucket of datasets, models and runs."""
        return Settings().workspace


class MLEngineJobOperator(GraftOperator):
    """A step whose work is done by ML Engine jobs: submits or adopts them, defers, and reads what they left.

    Args:
        poll_seconds: Pause between two looks at the jobs.
        deadline_seconds: The jobs are cancelled when they have not ended by then.
        deferrable: Wait in the triggerer; otherwise the task waits itself.
        arguments: Those of `GraftOperator`.
    """

    def __init__(
        self,
        *,
        poll_seconds: float = 2.0,
        deadline_seconds: float = 6 * 3600,
        deferrable: bool = True,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.poll_seconds = poll_seconds
        self.deadline_seconds = deadline_seconds
        self.deferrable = deferrable
        self.job_ids: list[str] = []

    @abstractmethod
    def submit(self, context: Context) -> list[JsonDict]:
        """Submit or adopt the jobs."""

    @abstractmethod
    def complete(self, context: Context, jobs: Sequence[JsonDict]) -> Any:
        """Return the task's result from its succeeded jobs, in the order of `submit`."""

    def perform(self, context: Context) -> Any:
        """Submit, then defer until the jobs have ended."""
        jobs = self.submit(context)
        self.job_ids = [job["jobId"] for job in jobs]
        if all(job["state"] == "SUCCEEDED" for job in jobs):
            return self.complete(context, jobs)
        if self.deferrable:
            trigger = MLEngineJobTrigger(
                job_ids=self.job_ids,
                ml_engine_conn_id=self.ml_engine_conn_id,
                poll_seconds=self.poll_seconds,
                deadline=time.time() + self.deadline_seconds,
            )
            self.defer(trigger=trigger, method_name="execute_complete")
        engine = self.connect()
        deadline, poll = self.deadline_seconds, self.poll_seconds
        ended = [
            engine.wait_job(job_id, deadline_seconds=deadline, poll_seconds=poll) for job_id in self.job_ids
        ]
        return self.complete(context, ended)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on after the trigger's event."""
        with airflow_failures():
            self.job_ids = event["job_ids"]
            engine = self.connect()
            if event["status"] == "deadline":
                self._cancel(engine)
                raise JobTimeout(
                    f"Jobs {event['states'] or self.job_ids} have not ended within "
                    f"{self.deadline_seconds:.0f} s and were cancelled."
                )
            if event["status"] == "error":
                raise PlatformError(f"Waiting for {', '.join(self.job_ids)} failed: {event['message']}")
            return self.complete(context, [self._succeeded(engine, job_id) for job_id in self.job_ids])

    def submit_once(self, key: tuple[object, ...], make_body: Callable[[str], JsonDict]) -> JsonDict:
        """Submit the job that does the work named by a key, or adopt it if it is there.

        Args:
            key: See `instance_key`; or what names work that several runs share.
            make_body: Builds the job for an id.
        """
        from pipeline.ml_engine.jobs import submit_job

        def remember(job_id: str) -> JsonDict:
            self.job_ids.append(job_id)  # before it exists, so that a kill in between cancels it
            return make_body(job_id)

        return submit_job(self.connect(), key, remember)

    def _succeeded(self, engine: MLEngine, job_id: str) -> JsonDict:
        from pipeline.ml_engine.jobs import raise_unless_succeeded

        job = engine.get_job(job_id)
        if job is None:
            raise PlatformError(f"Job {job_id} is gone from project {engine.project}.", job_id=job_id)
        if job["state"] != "SUCCEEDED":
            self._show_log(engine, job_id)
        return raise_unless_succeeded(job)

    def _show_log(self, engine: MLEngine, job_id: str) -> None:
        try:
            self.log.error("end of the log of job %s:\n%s", job_id, engine.job_log(job_id)[-LOG_TAIL:])
        except PlatformError as error:
            self.log.warning("the log of job %s cannot be read: %s", job_id, error)

    def _cancel(self, engine: MLEngine) -> None:
        for job_id in self.job_ids:
            engine.cancel_job(job_id)

    def on_kill(self) -> None:
        """Cancel the jobs when the task is killed while it runs; while deferred, the trigger does it."""
        if self.job_ids:
            self.log.info("cancelling %s", ", ".join(self.job_ids))
            self._cancel(self.connect())


def instance_key(context: Context) -> tuple[object, ...]:
    """Return what names a task instance over all its tries."""
    ti = context["ti"]
    return ti.dag_id, ti.run_id, ti.task_id, ti.map_index
