"""projects.jobs."""

from __future__ import annotations

from fastapi import APIRouter

from pipeline.engine.api.routes import (
    MANAGED,
    PROJECT,
    IntegerQuery,
    TheBody,
    TheEngine,
    TheMask,
    ThePage,
    V1Route,
    accepts,
    counted,
)
from pipeline.engine.jobs.log import LogRange
from pipeline.engine.v1.patches import LabelsPatch
from pipeline.engine.v1.resources import JobBody
from pipeline.engine.v1.responses import Empty, Job, JobList, JobLog

router = APIRouter(prefix=f"{PROJECT}/jobs", dependencies=MANAGED, route_class=V1Route)


@router.post("", dependencies=[counted("jobs.create")], openapi_extra=accepts(JobBody))
async def create(engine: TheEngine, body: TheBody) -> Job:
    """jobs.create."""
    return engine.jobs.create(body)


@router.get("")
async def list_jobs(engine: TheEngine, page: ThePage) -> JobList:
    """jobs.list, newest first."""
    return engine.jobs.list(page)


@router.get("/{job}:log")
async def read_log(
    engine: TheEngine,
    job: str,
    offset: IntegerQuery = None,
    limit: IntegerQuery = None,
    trial: IntegerQuery = None,
) -> JobLog:
    """Return a piece of the log of a training job or of one of its trials: an addition of ours to v1."""
    return await engine.jobs.log(job, LogRange.read(offset, limit), trial or "")


@router.get("/{job}")
async def get(engine: TheEngine, job: str) -> Job:
    """jobs.get."""
    return engine.jobs.get(job)


@router.patch("/{job}", openapi_extra=accepts(LabelsPatch))
async def patch(engine: TheEngine, job: str, body: TheBody, mask: TheMask = None) -> Job:
    """jobs.patch: its labels."""
    return engine.jobs.patch(job, body, mask)


@router.post("/{job}:cancel")
async def cancel(engine: TheEngine, job: str) -> Empty:
    """jobs.cancel."""
    return engine.jobs.cancel(job)
