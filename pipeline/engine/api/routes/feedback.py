"""`:feedback`, an addition to v1: the right labels of pictures whose answers were wrong."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request

from pipeline.engine.api.routes import PROJECT, TheBody, TheEngine, accepts, counted
from pipeline.engine.models.feedback import read_sender
from pipeline.engine.telemetry.log import REQUEST_ID
from pipeline.engine.v1.responses import Feedback, FeedbackRequest
from pipeline.types import JsonObject

router = APIRouter(prefix=PROJECT, dependencies=[counted("management")])


@router.post("/models/{model}:feedback", openapi_extra=accepts(FeedbackRequest))
async def send_feedback(engine: TheEngine, request: Request, body: TheBody, model: str) -> Feedback:
    """Keep pictures with the labels that somebody says they have, until a person confirms them."""
    name = engine.models.get(model).name.rpartition("/")[2]
    remarks = engine.feedback.read(body)
    fields: JsonObject = body if isinstance(body, dict) else {}
    token_name = engine.tokens.name_of(request.headers.get("authorization", ""))
    sender = read_sender(fields, token_name=token_name, request_id=REQUEST_ID.get())
    engine.quotas.spend("feedback", len(remarks))
    return Feedback(feedback=await asyncio.to_thread(engine.feedback.keep, name, remarks, sender))
