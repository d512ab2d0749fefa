"""projects.predict: the body goes to the worker and its reply comes back; neither is read here."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request
from starlette.responses import Response

from pipeline.engine.api.json_limits import read_body
from pipeline.engine.api.routes import PROJECT, TheEngine, accepts, counted
from pipeline.engine.serving.messages import RequestKind, WorkerReply, WorkerRequest
from pipeline.engine.v1.errors import CODES
from pipeline.engine.v1.responses import Prediction, PredictionRequest
from pipeline.errors import ApiError

router = APIRouter(prefix=PROJECT, dependencies=[counted("predict")])
OK = {"model": Prediction}


async def _predict(engine: TheEngine, request: Request, model: str, version: str | None) -> Response:
    limits = engine.settings
    body = await read_body(request, max_depth=limits.max_json_depth, max_bytes=limits.max_body_bytes)
    # From here nothing is awaited until the request is counted, so a version that is deleted waits for it.
    deployment = engine.router.find(model, version)
    engine.versions.record_use(deployment)
    started, code, reply = time.perf_counter(), 500, WorkerReply()
    try:
        reply = await deployment.ask(WorkerRequest(kind=RequestKind.ONLINE, payload=body))
        code = 200
    except ApiError as error:
        code = CODES[type(error)].http
        raise
    finally:
        seconds = time.perf_counter() - started
        engine.metrics.count_prediction(deployment.name, code=code, seconds=seconds, batches=reply.batches)
    engine.request_log.add(deployment.request_logging, deployment.name, body, reply.payload)
    return Response(reply.payload, media_type="application/json")


@router.post("/models/{model}:predict", responses={200: OK}, openapi_extra=accepts(PredictionRequest))
async def predict_default(engine: TheEngine, request: Request, model: str) -> Response:
    """Predict with the default version of a model."""
    return await _predict(engine, request, model, None)


@router.post(
    "/models/{model}/versions/{version}:predict",
    responses={200: OK},
    openapi_extra=accepts(PredictionRequest),
)
async def predict_version(engine: TheEngine, request: Request, model: str, version: str) -> Response:
    """Predict with one version."""
    return await _predict(engine, request, model, version)
