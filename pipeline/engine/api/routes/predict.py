"""projects.predict: the body goes to the worker and its reply comes back as it is; several models at once."""

from __future__ import annotations

import asyncio
import json
import re
import time

from fastapi import APIRouter, Request
from starlette.responses import Response

from pipeline.engine.api.json_limits import read_body
from pipeline.engine.api.routes import PROJECT, TheEngine, accepts, counted
from pipeline.engine.engine import Engine
from pipeline.engine.serving.messages import RequestKind, WorkerReply, WorkerRequest
from pipeline.engine.v1.errors import CODES, as_api_error, error_envelope
from pipeline.engine.v1.responses import (
    ManyPredictions,
    ManyPredictionsRequest,
    Prediction,
    PredictionRequest,
)
from pipeline.errors import ApiError, InvalidArgument, PipelineError
from pipeline.ml_v1 import TEST_HEADER
from pipeline.types import JsonValue

router = APIRouter(prefix=PROJECT, dependencies=[counted("predict")])
OK = {"model": Prediction}
MANY = {"model": ManyPredictions}
MODEL_OR_VERSION = re.compile(r"([^/]+)(?:/versions/([^/]+))?")


async def _predict(
    engine: Engine, body: bytes, model: str, version: str | None, *, is_test: bool = False
) -> bytes:
    # Nothing is awaited until the request is counted, so a version that is deleted waits for it.
    deployment = engine.find_deployment(model, version)
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
    if not is_test:
        engine.traffic.count(model)
        engine.request_log.add(deployment.request_logging, deployment.name, body, reply.payload)
    return reply.payload


async def _read(engine: Engine, request: Request) -> bytes:
    limits = engine.settings
    return await read_body(request, max_depth=limits.max_json_depth, max_bytes=limits.max_body_bytes)


async def _answer(engine: Engine, request: Request, model: str, version: str | None) -> Response:
    body = await _read(engine, request)
    is_test = request.headers.get(TEST_HEADER) == "1"
    answer = await _predict(engine, body, model, version, is_test=is_test)
    return Response(answer, media_type="application/json")


@router.post("/models/{model}:predict", responses={200: OK}, openapi_extra=accepts(PredictionRequest))
async def predict_default(engine: TheEngine, request: Request, model: str) -> Response:
    """Predict with the default version of a model."""
    return await _answer(engine, request, model, None)


@router.post(
    "/models/{model}/versions/{version}:predict",
    responses={200: OK},
    openapi_extra=accepts(PredictionRequest),
)
async def predict_version(engine: TheEngine, request: Request, model: str, version: str) -> Response:
    """Predict with one version."""
    return await _answer(engine, request, model, version)


@router.post(":predictMany", responses={200: MANY}, openapi_extra=accepts(ManyPredictionsRequest))
async def predict_many(engine: TheEngine, request: Request) -> Response:
    """Predict the same instances with several models; not part of v1.

    Versions that share a trunk decode and compute each picture once. An error of one model is its result.
    """
    body = await _read(engine, request)
    names = await asyncio.to_thread(read_models, body)
    engine.quotas.spend("predict", len(names) - 1)  # the first is counted as every request is
    results = await asyncio.gather(*(_result(engine, body, name) for name in names))
    members = [json.dumps(name).encode() + b":" + result for name, result in zip(names, results, strict=True)]
    return Response(b'{"results":{' + b",".join(members) + b"}}", media_type="application/json")


async def _result(engine: Engine, body: bytes, name: str) -> bytes:
    """Return what `predict` of one model would answer."""
    match = MODEL_OR_VERSION.fullmatch(name)
    try:
        if match is None:
            raise InvalidArgument(
                f"Expected MODEL or MODEL/versions/VERSION. Received: {name!r}", field="models"
            )
        return await _predict(engine, body, match[1], match[2])
    except PipelineError as error:
        return json.dumps(error_envelope(as_api_error(error)).to_json()).encode()


def read_models(body: bytes) -> list[str]:
    """Return the models that a request names, each once.

    Raises:
        InvalidArgument: if it names none, or has no instances.
    """
    try:
        value: JsonValue = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"Invalid JSON payload received. {error}") from error
    names = value.get("models") if isinstance(value, dict) else None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise InvalidArgument("Expected a list of names of models, one at least.", field="models")
    if not isinstance(value, dict) or not isinstance(value.get("instances"), list):
        raise InvalidArgument("Expected a list of instances.", field="instances")
    return list(dict.fromkeys(names))
