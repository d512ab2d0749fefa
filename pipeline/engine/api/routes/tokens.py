"""Reader tokens of a model, an addition to v1."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter

from pipeline.engine.api.routes import PROJECT, TheBody, TheEngine, accepts, counted
from pipeline.engine.models.feedback import read_text
from pipeline.engine.v1.responses import (
    NewReaderToken,
    ReaderTokenList,
    ReaderTokenRequest,
    ReaderTokenResource,
    RevokedReaderToken,
    RevokeReaderTokenRequest,
)
from pipeline.errors import FailedPrecondition
from pipeline.types import JsonValue

router = APIRouter(prefix=PROJECT, dependencies=[counted("management")])


@router.post("/models/{model}:createToken", openapi_extra=accepts(ReaderTokenRequest))
async def create(engine: TheEngine, body: TheBody, model: str) -> NewReaderToken:
    """Make a token that may predict with this model only; it is in this answer and nowhere else."""
    if engine.tokens.is_open:
        raise FailedPrecondition(
            "This engine has no token file: it needs no token, so there is none to make."
        )
    name = read_text(_field(body, "name"), "name")
    # Without a thread: the model cannot be deleted, nor its tokens revoked, before this one is kept.
    kept, token = engine.reader_tokens.create(engine.models.get(model).name, name)
    return NewReaderToken(id=kept.id, name=kept.name, created=kept.created, token=token)


@router.post("/models/{model}:revokeToken", openapi_extra=accepts(RevokeReaderTokenRequest))
async def revoke(engine: TheEngine, body: TheBody, model: str) -> RevokedReaderToken:
    """Refuse a token from now on."""
    id = read_text(_field(body, "id"), "id")
    await asyncio.to_thread(engine.reader_tokens.revoke, engine.models.get(model).name, id)
    return RevokedReaderToken(id=id)


@router.get("/models/{model}/tokens")
async def list_tokens(engine: TheEngine, model: str) -> ReaderTokenList:
    """The tokens of a model, without the tokens themselves."""
    tokens = engine.reader_tokens.of_model(engine.models.get(model).name)
    return ReaderTokenList(
        tokens=[ReaderTokenResource(id=each.id, name=each.name, created=each.created) for each in tokens]
    )


def _field(body: JsonValue, name: str) -> JsonValue:
    return body.get(name) if isinstance(body, dict) else None
