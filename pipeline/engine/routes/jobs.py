"""projects.jobs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from pipeline.engine.routes import PROJECT, TheEngine, ThePage, read_json
from pipeline.errors import Unimplemented

router = APIRouter(prefix=f"{PROJECT}/jobs")


@router.post("")
async def create(engine: TheEngine, request: Request) -> dict[str, Any]:
    """jobs.create."""
    return engine.jobs.create(await read_json(request))


@router.get("")
async def list_jobs(engine: TheEngine, page: ThePage, request: Request) -> dict[str, Any]:
    """jobs.list, newest first."""
    if request.query_params.get("filter"):
        raise Unimplemented("This engine does not filter lists yet.", field="filter")
    return engine.jobs.list(page)


@router.get("/{job}:log")
async def read_log(engine: TheEngine, job: str) -> Response:
    """Return what a training job has printed: an addition of ours to v1."""
    return Response(engine.jobs.log(job), media_type="text/plain; charset=utf-8")


@router.get("/{job}")
async def get(engine: TheEngine, job: str) -> dict[str, Any]:
    """jobs.get."""
    return engine.jobs.get(job)


@router.post("/{job}:cancel")
async def cancel(engine: TheEngine, job: str) -> dict[str, Any]:
    """jobs.cancel."""
    return engine.jobs.cancel(job)
