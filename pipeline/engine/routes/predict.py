"""projects.predict: the body goes to the worker and its answer comes back, neither is read here."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from pipeline.engine.depth import check_depth
from pipeline.engine.routes import PROJECT, TheEngine, counted
from pipeline.engine.serving.pool import ONLINE

router = APIRouter(prefix=PROJECT, dependencies=[counted("predict")])


async def _predict(engine: TheEngine, request: Request, model: str, version: str | None) -> Response:
    body = await request.body()
    check_depth(body, engine.settings.max_json_depth)
    # From here nothing is awaited until the request is counted, so a version that is deleted waits for it.
    served = engine.router.find(model, version)
    engine.versions.note_use(served)
    answer = await served.ask(ONLINE, body)
    return Response(answer.payload, media_type="application/json")


@router.post("/models/{model}:predict")
async def predict_default(engine: TheEngine, request: Request, model: str) -> Response:
    """Predict with the default version of a model."""
    return await _predict(engine, request, model, None)


@router.post("/models/{model}/versions/{version}:predict")
async def predict_version(engine: TheEngine, request: Request, model: str, version: str) -> Response:
    """Predict with one version."""
    return await _predict(engine, request, model, version)
