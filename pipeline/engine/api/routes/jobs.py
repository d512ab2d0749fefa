"""projects.jobs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from pipeline.engine.api.routes import MANAGED, PROJECT, TheEngine, TheMask, ThePage, counted, read_json
from pipeline.engine.jobs.log import LogRange

router = APIRouter(prefix=f"{PROJECT}/jobs", dependencies=MANAGED)


@router.post("", dependencies=[counted("jobs.create")])
async def create(engine: TheEngine, request: Request) -> dict[str, Any]:
    """jobs.create."""
    return engine.jobs.create(await read_json(request))


@router.get("")
async def list_jobs(engine: TheEngine, page: ThePage) -> dict[str, Any]:
    """jobs.list, newest first."""
    return engine.jobs.list(page)


@router.get("/{job}:log")
async def read_log(
    engine: TheEngine, job: str, offset: str | None = None, limit: str | None = None
) -> dict[str, Any]:
    """Return a piece of what a training job has printed: an addition of ours to v1."""
    return engine.jobs.log(job, LogRange.read(offset, limit))


@router.get("/{job}")
async def get(engine: TheEngine, job: str) -> dict[str, Any]:
    """jobs.get."""
    return engine.jobs.get(job)


@router.patch("/{job}")
async def patch(engine: TheEngine, job: str, request: Request, mask: TheMask = None) -> dict[str, Any]:
    """jobs.patch: its labels."""
    return engine.jobs.patch(job, await read_json(request), mask)


@router.post("/{job}:cancel")
async def cancel(engine: TheEngine, job: str) -> dict[str, Any]:
    """jobs.cancel."""
    return engine.jobs.cancel(job)
