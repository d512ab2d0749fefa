"""A job of the engine: what it does, for which run, and what it wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from fastapi import APIRouter, HTTPException, Path, Request
from starlette.responses import Response

from graft.ownership import DAG, TASK, digest
from graft.ui import scheduler
from graft.ui.page_context import PageContextDep
from graft.ui.rendering import render
from pipeline.ml_v1 import JobState
from pipeline.pages.artifact_cache import ArtifactCache
from pipeline.pages.job_input import flatten_input

if TYPE_CHECKING:
    from pipeline.types import JsonObject

router = APIRouter()
LOG_SHOWN = 20_000  # bytes
RUNS_SEARCHED = 50
JOB_STEPS = ("tune", "train", "evaluate")
JobId = Annotated[str, Path(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,127}$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOrigin:
    """What a job works for.

    Args:
        name: The classifier.
        run_id: The run; empty if it is none of the newest.
        step: The step of the run; likewise.
        version: The version that the run made, if it made one.
        number: What people call that version.
    """

    name: str
    run_id: str = ""
    step: str = ""
    version: str | None = None
    number: int | None = None


@router.get("/jobs/{job_id}")
def job(request: Request, user: GetUserDep, page_context: PageContextDep, job_id: JobId) -> Response:
    """A job of the engine: what it works for, its state, its input, and the end of its log."""
    requires_access_dag("GET", DagAccessEntity.TASK_LOGS)(request, user)
    with page_context.engine() as engine:
        resource = engine.get_job(job_id)
        if resource is None:
            raise HTTPException(404, f"The engine has no job {job_id}. Old ones are swept away.")
        log = engine.read_job_log(job_id, offset=-LOG_SHOWN).text
    job_input = resource.get("trainingInput") or resource.get("predictionInput") or {}
    values = {
        "job": resource,
        "origin": find_origin(page_context.cache, user, resource.get("labels", {})),
        "input": list(flatten_input(cast("JsonObject", job_input))),
        "log": log,
        "is_waiting": not JobState(resource["state"]).is_terminal,
    }
    return render(request, "job.html", values)


def find_origin(cache: ArtifactCache, user: GetUserDep, labels: Mapping[str, str]) -> JobOrigin | None:
    """Return what the labels of a job say, among the classifiers that the person may see."""
    allowed = get_auth_manager().get_authorized_dag_ids(user=user, method="GET")
    names = [each.name for each in scheduler.read_classifiers() if each.name in allowed]
    name = next((name for name in names if digest(name) == labels.get(DAG)), None)
    if name is None:
        return None
    for run in scheduler.read_runs(name, RUNS_SEARCHED):
        for step in JOB_STEPS:
            if digest(name, run.run_id, step, -1) == labels.get(TASK):
                return _describe(cache, name, run.run_id, step)
    return JobOrigin(name=name)


def _describe(cache: ArtifactCache, name: str, run_id: str, step: str) -> JobOrigin:
    summary, numbers = cache.summary(name, run_id), cache.numbered_history(name, 0)[1]
    version = summary.version if summary else None
    number = numbers.get(version) if version else None
    return JobOrigin(name=name, run_id=run_id, step=step, version=version, number=number)
