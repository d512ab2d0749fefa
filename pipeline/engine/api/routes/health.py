"""Health, readiness and metrics: for whoever runs the engine, not part of v1."""

from __future__ import annotations

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, Response

from pipeline.engine.engine import Engine

router = APIRouter()


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Say that the process answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """Say whether the default versions are loaded; 503 while some are being loaded for the first time."""
    engine: Engine = request.app.state.engine
    loading = engine.router.loading()
    status = {"status": "loading", "loading": loading} if loading else {"status": "ready"}
    return JSONResponse(status, 503 if loading else 200)


@router.get("/metrics")
def metrics(request: Request) -> Response:
    """Return the metrics in Prometheus's text format; with tokens it needs a reader's."""
    engine: Engine = request.app.state.engine
    return Response(engine.metrics.render(), media_type=CONTENT_TYPE_LATEST)
