"""What the routes share: the engine, quotas, pages, masks, and bodies, which are read as they came."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request, params
from fastapi.routing import APIRoute
from pydantic import BaseModel, WithJsonSchema

from pipeline.engine.api.json_limits import read_body
from pipeline.engine.engine import Engine
from pipeline.engine.v1.paging import Page
from pipeline.engine.v1.responses import Error
from pipeline.errors import InvalidArgument, NotFound
from pipeline.types import JsonValue

PROJECT = "/v1/projects/{project}"
ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": Error}, "5XX": {"model": Error}}


class V1Route(APIRoute):
    """A route of v1: a field without a value is absent from the response."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        absent = {"response_model_exclude_unset": True, "response_model_exclude_none": True}
        super().__init__(path, endpoint, **options | absent)


def engine_of(request: Request) -> Engine:
    """Return the engine of the application."""
    engine: Engine = request.app.state.engine
    return engine


async def read_json(request: Request) -> JsonValue:
    """Return the body as JSON.

    Raises:
        InvalidArgument: if it is not JSON in UTF-8, nested too deeply, or could not be sent back as it came.
    """
    limits = engine_of(request).settings
    body = await read_body(request, max_depth=limits.max_json_depth, max_bytes=limits.max_body_bytes)
    try:
        value: JsonValue = json.loads(body)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # no NaN, no half of a surrogate pair
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"Invalid JSON payload received. {error}") from error
    return value


async def _find_engine(request: Request, project: Annotated[str, Path()]) -> Engine:
    engine = engine_of(request)
    if project != engine.project:
        raise NotFound(
            f"The specified project was not found; this engine serves {engine.project!r}.", field="name"
        )
    return engine


def counted(quota: str) -> params.Depends:
    """Return the dependency that counts a request against a quota."""

    async def count(request: Request) -> None:
        engine_of(request).quotas.spend(quota)

    return params.Depends(count)


def accepts(body: type[BaseModel]) -> dict[str, JsonValue]:
    """Return the OpenAPI description of a request body, which the route reads by itself."""
    schema = {"$ref": f"#/components/schemas/{body.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


TextQuery = Annotated[str | None, WithJsonSchema({"type": "string"})]
IntegerQuery = Annotated[str | None, WithJsonSchema({"type": "integer"})]


async def _read_page(
    size: Annotated[IntegerQuery, Query(alias="pageSize")] = None,
    token: Annotated[TextQuery, Query(alias="pageToken")] = None,
    filter_text: Annotated[
        TextQuery, Query(alias="filter", description="Such as `jobId:rnn* AND state:FAILED`.")
    ] = None,
) -> Page:
    return Page.read(size, token, filter_text)


MANAGED = [counted("management")]
TheEngine = Annotated[Engine, Depends(_find_engine)]
TheBody = Annotated[JsonValue, Depends(read_json)]
TheMask = Annotated[TextQuery, Query(alias="updateMask", description="Comma-separated paths.")]
ThePage = Annotated[Page, Depends(_read_page)]
