"""projects.predict: the body goes to the worker and its answer comes back, neither is read here."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request
from starlette.responses import Response

from pipeline.engine.api.json_limits import check_depth
from pipeline.engine.api.routes import PROJECT, TheEngine, counted
from pipeline.engine.serving.pool import ONLINE
from pipeline.engine.v1.errors import CODES
from pipeline.errors import ApiError

router = APIRouter(prefix=PROJECT, dependencies=[counted("predict")])


async def _predict(engine: TheEngine, request: Request, model: str, version: str | None) -> Response:
    body = await request.body()
    check_depth(body, engine.settings.max_json_depth)
    # From here nothing is awaited until the request is counted, so a version that is deleted waits for it.
    served = engine.router.find(model, version)
    engine.versions.note_use(served)
    started, code, batches = time.perf_counter(), 500, None
    try:
        answer = await served.ask(ONLINE, body)
        code, batches = 200, answer.header.get("batches")
    except ApiError as fault:
        code = CODES[type(fault)].http
        raise
    finally:
        seconds = time.perf_counter() - started
        engine.metrics.count_prediction(served.name, code=code, seconds=seconds, batches=batches)
    engine.request_log.note(served.sample, served.name, body, answer.payload)
    return Response(answer.payload, media_type="application/json")


@router.post("/models/{model}:predict")
async def predict_default(engine: TheEngine, request: Request, model: str) -> Response:
    """Predict with the default version of a model."""
    return await _predict(engine, request, model, None)


@router.post("/models/{model}/versions/{version}:predict")
async def predict_version(engine: TheEngine, request: Request, model: str, version: str) -> Response:
    """Predict with one version."""
    return await _predict(engine, request, model, version)
