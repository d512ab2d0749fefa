"""Health, readiness and metrics: for the operator, not part of v1."""

from __future__ import annotations

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, Response

from pipeline.engine.api.routes import engine_of
from pipeline.engine.engine import Engine

router = APIRouter(include_in_schema=False)


@router.get("/healthz")
async def healthz(request: Request) -> dict[str, str]:
    """Return that the process is alive, and what is wrong with its database if something is."""
    return {"status": "ok", **_problem(request)}


def _problem(request: Request) -> dict[str, str]:
    problem = engine_of(request).registry.problem()
    return {"database": problem} if problem else {}


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """Return whether the default versions are loaded; 503 while some are loaded for the first time."""
    engine = engine_of(request)
    loading = engine.router.loading()
    status = {"status": "loading", "loading": loading} if loading else {"status": "ready"}
    return JSONResponse({**status, **_role(engine), **_problem(request)}, 503 if loading else 200)


def _role(engine: Engine) -> dict[str, str]:
    """Return whether the engine leads, if it shares its database with others."""
    if engine.member is None:
        return {}
    return {"role": "leader" if engine.member.lease.is_ours else "follower"}


@router.get("/metrics")
def metrics(request: Request) -> Response:
    """Return the metrics in Prometheus's text format; with tokens it needs a reader's."""
    return Response(engine_of(request).metrics.render(), media_type=CONTENT_TYPE_LATEST)
