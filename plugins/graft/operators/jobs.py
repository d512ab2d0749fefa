"""What all steps share whose work is done by ML Engine jobs: submit once, wait anywhere, leak nothing."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.exceptions import AirflowTaskTimeout

from graft.failures import airflow_failures
from graft.links import ClassifierLink, JobLink
from graft.operators.base import GraftOperator, to_xcom
from graft.ownership import dag_label, task_label
from graft.triggers.ml_engine_job import MLEngineJobTrigger
from pipeline.errors import JobTimeout, PlatformError, PlatformUnavailable

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, BaseOperatorLink, Context

    from graft.operators.base import StepOutput
    from pipeline.ml_engine.jobs import JobKey
    from pipeline.ml_engine.protocol import MLEngine
    from pipeline.ml_engine.resources import Job
    from pipeline.ml_engine.watch import JobsEvent
    from pipeline.types import JsonValue

LOG_TAIL_BYTES = 4000
# A killed task's trigger may cancel its job a little after the next try has adopted it.
LATE_CANCEL_SECONDS = 120


class MLEngineJobOperator(GraftOperator):
    """A step whose work is done by ML Engine jobs: submits or adopts them, waits, and reads what they left.

    Waiting is the triggerer's work, or with `deferrable=False` the task's own; what follows is the same. A
    job that has not ended by the deadline, or within the task's `execution_timeout`, is cancelled, and the
    task fails for good: another try would only pay for the same work again.

    Args:
        poll_seconds: Pause between two looks at the jobs.
        deadline_seconds: How long the jobs may take together.
        deferrable: Wait in the triggerer; otherwise the task waits itself.
        cancel_on_kill: Cancel the jobs when the task is killed, cleared, or marked failed or successful.
        arguments: Those of `GraftOperator`.
    """

    operator_extra_links: ClassVar[Sequence[BaseOperatorLink]] = (ClassifierLink(), JobLink())  # type: ignore[misc]

    def __init__(
        self,
        *,
        poll_seconds: float = 2.0,
        deadline_seconds: float = 6 * 3600,
        deferrable: bool = True,
        cancel_on_kill: bool = True,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.poll_seconds = poll_seconds
        self.deadline_seconds = deadline_seconds
        self.deferrable = deferrable
        self.cancel_on_kill = cancel_on_kill
        self.job_ids: list[str] = []
        self.adopted: list[str] = []
        self.labels: dict[str, str] = {}

    @abstractmethod
    def submit(self, context: Context) -> list[Job]:
        """Submit or adopt the jobs."""

    @abstractmethod
    def complete(self, context: Context, jobs: Sequence[Job]) -> StepOutput:
        """Return the task's result from its succeeded jobs, in the order of `submit`."""

    @property
    def wait_seconds(self) -> float:
        """How long the jobs may take: Airflow counts no `execution_timeout` while a task is deferred."""
        timeout = self.execution_timeout
        return min(self.deadline_seconds, timeout.total_seconds()) if timeout else self.deadline_seconds

    def perform(self, context: Context) -> StepOutput:
        """Submit, then wait until the jobs have ended."""
        self.job_ids, self.adopted = [], []
        try:
            jobs = self.submit(context)
            self.job_ids = [job["jobId"] for job in jobs]
            if all(job["state"] == "SUCCEEDED" for job in jobs):
                return self.complete(context, jobs)
            return self._wait(context)
        except AirflowTaskTimeout as error:
            raise self._timeout(dict.fromkeys(self.job_ids, "running")) from error

    def _wait(self, context: Context) -> StepOutput:
        from pipeline.ml_engine.watch import JobWatcher

        began = time.time()
        deadline = began + self.wait_seconds
        if self.deferrable:
            trigger = MLEngineJobTrigger(
                job_ids=self.job_ids,
                ml_engine_conn_id=self.ml_engine_conn_id,
                project=self.project_id,
                poll_seconds=self.poll_seconds,
                deadline=deadline,
                cancel_on_kill=self.cancel_on_kill,
            )
            late = {"adopted": self.adopted, "adopted_at": began}
            self.defer(trigger=trigger, method_name="execute_complete", kwargs=late)
        watcher = JobWatcher(self.connect(), self.job_ids, self.log)
        event = watcher.wait(deadline=deadline, poll_seconds=self.poll_seconds)
        return self._go_on(context, event, self.adopted, began)

    def execute_complete(
        self,
        context: Context,
        event: JobsEvent,
        adopted: Sequence[str] = (),
        adopted_at: float = 0.0,
    ) -> JsonValue:
        """Go on after the trigger's event."""
        with airflow_failures():
            return to_xcom(self._go_on(context, event, adopted, adopted_at))

    def _go_on(
        self, context: Context, event: JobsEvent, adopted: Sequence[str], adopted_at: float
    ) -> StepOutput:
        self.job_ids = list(event["job_ids"])
        if event["status"] == "deadline":
            raise self._timeout(event["states"])
        if event["status"] == "error":
            kind = PlatformError if event.get("is_final", True) else PlatformUnavailable
            raise kind(f"Waiting for {', '.join(self.job_ids)} failed: {event['message']}")
        engine = self.connect()
        jobs = [self._find(engine, job_id) for job_id in self.job_ids]
        if time.time() - adopted_at < LATE_CANCEL_SECONDS:
            late = [job["jobId"] for job in jobs if job["state"] == "CANCELLED" and job["jobId"] in adopted]
            if late:
                self.log.warning("an earlier try cancelled %s after this one adopted it", ", ".join(late))
                return self.perform(context)
        return self.complete(context, [self._succeeded(engine, job) for job in jobs])

    def submit_once(self, key: JobKey, make_body: Callable[[str], Job], **options: Any) -> Job:
        """Submit the job that does the work named by a key, or adopt it if it is there.

        Args:
            key: See `instance_key`; or what names work that several runs share.
            make_body: Builds the job for an id.
            options: Those of `pipeline.ml_engine.jobs.submit_job`.
        """
        from pipeline.ml_engine.jobs import submit_job

        def remember(job_id: str) -> Job:
            self.job_ids.append(job_id)  # before it exists, so that a kill in between cancels it
            body = make_body(job_id)
            return {**body, "labels": {**body.get("labels", {}), **self.labels}}

        return submit_job(self.connect(), key, remember, on_adopt=self.adopted.append, **options)

    def set_job_labels(self, context: Context, *, shared: bool = False) -> None:
        """Label the jobs that are submitted from now on, so that `engine_sweep` cancels abandoned ones.

        Args:
            context: The task's.
            shared: Whether any task of the DAG may want them, not only this one.
        """
        self.labels = dag_label(context) if shared else task_label(context)

    def _find(self, engine: MLEngine, job_id: str) -> Job:
        job = engine.get_job(job_id)
        if job is None:
            raise PlatformError(f"Job {job_id} is gone from project {engine.project}.", job_id=job_id)
        return job

    def _succeeded(self, engine: MLEngine, job: Job) -> Job:
        from pipeline.ml_engine.jobs import raise_unless_succeeded

        if job["state"] != "SUCCEEDED":
            self._show_log(engine, job["jobId"])
        return raise_unless_succeeded(job)

    def _show_log(self, engine: MLEngine, job_id: str) -> None:
        try:
            tail = engine.read_job_log(job_id, offset=-LOG_TAIL_BYTES).text
        except PlatformError as error:
            self.log.warning("the log of job %s cannot be read: %s", job_id, error)
        else:
            self.log.error("end of the log of job %s:\n%s", job_id, tail)

    def _timeout(self, states: Mapping[str, str]) -> JobTimeout:
        self._cancel(self.connect())
        return JobTimeout(
            f"Jobs {states or self.job_ids} have not ended within {self.wait_seconds:.0f} s and were "
            "cancelled. Raise `deadline_seconds` or the task's `execution_timeout`, or give them less to do."
        )

    def _cancel(self, engine: MLEngine) -> None:
        for job_id in self.job_ids:
            engine.cancel_job(job_id)

    def on_kill(self) -> None:
        """Cancel the jobs when the task is killed while it runs; while deferred, the trigger does it."""
        if self.job_ids and self.cancel_on_kill:
            self.log.info("cancelling %s", ", ".join(self.job_ids))
            self._cancel(self.connect())


def was_cleared(context: Context, operator: BaseOperator) -> bool:
    """Return True on the first try after a person cleared the task: its retries go on with what it began.

    Airflow gives a cleared task its retries anew, on top of the tries that it had.
    """
    ti = context["ti"]
    earlier_tries = int(ti.max_tries) - int(operator.retries or 0)
    return earlier_tries > 0 and int(ti.try_number) == earlier_tries + 1


def instance_key(context: Context) -> JobKey:
    """Return what names a task instance over all its tries."""
    ti = context["ti"]
    return ti.dag_id, ti.run_id, ti.task_id, ti.map_index
