"""Routes: what they share. A body is read as it came, because what a job echoes must be what was sent."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request

from pipeline.engine.engine import Engine
from pipeline.engine.paging import Page
from pipeline.errors import InvalidArgument, NotFound

PROJECT = "/v1/projects/{project}"


async def read_json(request: Request) -> Any:
    """Return the body as JSON.

    Raises:
        InvalidArgument: if it is not JSON.
    """
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"Invalid JSON payload received. {error}") from error


def _find_engine(request: Request, project: Annotated[str, Path()]) -> Engine:
    engine: Engine = request.app.state.engine
    if project != engine.project:
        raise NotFound(
            f"The specified project was not found; this engine serves {engine.project!r}.", field="name"
        )
    return engine


def _read_page(
    size: Annotated[str | None, Query(alias="pageSize")] = None,
    token: Annotated[str | None, Query(alias="pageToken")] = None,
) -> Page:
    return Page.read(size, token)


TheEngine = Annotated[Engine, Depends(_find_engine)]
ThePage = Annotated[Page, Depends(_read_page)]
