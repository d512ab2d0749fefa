"""Operators of the `engine_sweep` DAG: cancel abandoned jobs, delete what is no longer needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from graft.hooks.airflow_api import AirflowApiHook
from graft.operators.base import GraftOperator
from graft.ownership import AIRFLOW, DAG, TASK, deployment, digest
from pipeline.config import Settings
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pipeline.airflow_api import TaskInstance


class CancelUnwantedJobsOperator(GraftOperator):
    """Cancel the jobs of this Airflow whose tasks are gone or have ended: what a lost `on_kill` left running.

    Args:
        arguments: Those of `GraftOperator`.
    """

    def perform(self, context: Context) -> list[str]:
        """Return the ids of the jobs it cancelled."""
        from pipeline.ml_v1 import JobState

        mine, engine = require_deployment(), self.connect()
        # The jobs before the tasks: a job is made by a task that is there already.
        jobs = [job for job in engine.list_jobs() if not JobState(job["state"]).is_terminal]
        for _ in range(2):  # a list of many pages may miss a task that changes its place between two of them
            if jobs:
                tasks = AirflowApiHook().unfinished_tasks()
                jobs = [job for job in jobs if not is_wanted(job.get("labels", {}), mine, tasks)]
        for job in jobs:
            self.log.warning("no task wants job %s any more; cancelling it", job["jobId"])
            engine.cancel_job(job["jobId"])
        return [job["jobId"] for job in jobs]


class CollectGarbageOperator(GraftOperator):
    """Delete versions that never served or served long ago, folders of old jobs, and half-written files.

    Args:
        grace_minutes: How long a version that never served stays.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = ("grace_minutes",)

    def __init__(self, *, grace_minutes: Any = 60, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.grace_minutes = grace_minutes

    def perform(self, context: Context) -> dict[str, Any]:
        """Return what it deleted."""
        day_ago = (datetime.now(UTC) - timedelta(days=1)).timestamp()
        return {
            "versions": self._collect_versions(),
            "jobs": self._collect_jobs(),
            "parts": self.workspace.storage.delete_parts(self.workspace.uri, before=day_ago),
        }

    def _collect_versions(self) -> dict[str, list[str]]:
        from pipeline.deploy.staging import is_staging, staging_model
        from pipeline.deploy.sweep import delete_staged_versions, delete_versions, find_old_versions
        from pipeline.deploy.version import version_name
        from pipeline.ml_engine.protocol import default_version, resource_id

        engine, deleted = self.connect(), {}
        models = engine.list_models()
        runs = AirflowApiHook().unfinished_runs()
        live = {version_name(run.dag_id, run.run_id) for run in runs}
        for model in models:
            name = resource_id(model)
            old = find_old_versions(
                self.workspace,
                engine,
                name,
                default=None if is_staging(name) else default_version(model),
                live=live,
                keep=Settings().keep_versions,
                grace=timedelta(minutes=float(self.grace_minutes)),
                now=datetime.now(UTC),
            )
            if is_staging(name):
                is_used = name in {staging_model(run.dag_id) for run in runs}
                gone = delete_staged_versions(engine, name, old, is_used=is_used)
            else:
                gone = delete_versions(engine, name, old)
            if gone:
                deleted[name] = gone
        return deleted

    def _collect_jobs(self) -> list[str]:
        from pipeline.deploy.sweep import delete_job_folders, find_needed_jobs, find_old_jobs

        engine = self.connect()
        jobs = engine.list_jobs()
        old = find_old_jobs(
            jobs,
            needed=find_needed_jobs(self.workspace, engine, jobs),
            mark=(AIRFLOW, require_deployment()),
            before=datetime.now(UTC) - timedelta(days=Settings().keep_days),
        )
        return delete_job_folders(self.workspace, old)


def require_deployment() -> str:
    """Return the label value of this Airflow's jobs.

    Raises:
        ConfigError: if it has no name to go by.
    """
    mine = deployment()
    if not mine:
        raise ConfigError(
            "`[api] base_url` is not set, so jobs of this Airflow cannot be told from those of another one "
            "on the same engine; set it to the API server's address."
        )
    return mine


def is_wanted(labels: Mapping[str, str], mine: str, tasks: Sequence[TaskInstance]) -> bool:
    """Return whether the job belongs to another Airflow, or a task that has not ended waits for it."""
    if labels.get(AIRFLOW) != mine:
        return True
    if TASK in labels:
        wanted = {digest(ti.dag_id, ti.run_id, ti.task_id, ti.map_index) for ti in tasks}
        return labels[TASK] in wanted
    return labels.get(DAG, "") in {digest(ti.dag_id) for ti in tasks}
