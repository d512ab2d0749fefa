"""Routes: what they share. A body is read as it came, because what a job echoes must be what was sent."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request

from pipeline.engine.api.json_limits import check_depth
from pipeline.engine.engine import Engine
from pipeline.engine.v1.paging import Page
from pipeline.errors import InvalidArgument, NotFound

PROJECT = "/v1/projects/{project}"


async def read_json(request: Request) -> Any:
    """Return the body as JSON.

    Raises:
        InvalidArgument: if it is not JSON, nested too deeply, or could not be sent back as it came.
    """
    engine: Engine = request.app.state.engine
    body = await request.body()
    check_depth(body, engine.settings.max_json_depth)
    try:
        value = json.loads(body)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # no NaN, no half of a surrogate pair
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"Invalid JSON payload received. {error}") from error
    return value


async def _find_engine(request: Request, project: Annotated[str, Path()]) -> Engine:
    engine: Engine = request.app.state.engine
    if project != engine.project:
        raise NotFound(
            f"The specified project was not found; this engine serves {engine.project!r}.", field="name"
        )
    return engine


async def _read_page(
    size: Annotated[str | None, Query(alias="pageSize")] = None,
    token: Annotated[str | None, Query(alias="pageToken")] = None,
    filter_text: Annotated[str | None, Query(alias="filter")] = None,
) -> Page:
    return Page.read(size, token, filter_text)


TheEngine = Annotated[Engine, Depends(_find_engine)]


def counted(quota: str) -> Any:
    """Return the dependency that counts a request against a quota."""

    async def count(request: Request) -> None:
        engine: Engine = request.app.state.engine
        engine.quotas.spend(quota)

    return Depends(count)


MANAGED = [counted("management")]
TheMask = Annotated[str | None, Query(alias="updateMask")]
ThePage = Annotated[Page, Depends(_read_page)]
