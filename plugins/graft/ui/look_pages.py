"""Pages that look into a version: its answers cell by cell, its pictures on a map, and what one resembles."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import quote

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, HTTPException, Query, Request
from markupsafe import escape
from starlette.responses import Response

from graft.ui import access
from graft.ui.page_context import PageContextDep
from graft.ui.pages import PictureId, common
from graft.ui.rendering import render
from pipeline.pages.answers import find_cell, list_cell, read_answers
from pipeline.pages.embedding_map import HEIGHT, MAX_LISTED, WIDTH, draw_map
from pipeline.pages.similar import find_similar

router = APIRouter()
RunId = Annotated[str, Query(min_length=1, max_length=250)]
Label = Annotated[str, Query(max_length=200)]
REPORT_CELL = re.compile(rb'data-cell="([^"]*)"([^>]*)>(\d+)')


@router.get("/classifiers/{name}/answers")
def answers(
    request: Request,
    user: GetUserDep,
    name: access.Readable,
    page_context: PageContextDep,
    run: RunId,
    label: Label = "",
    taken_for: Label = "",
    page: int = 1,
) -> Response:
    """The confusion matrix of a run, and the pictures of one of its cells."""
    cache = page_context.cache
    run_answers = read_answers(cache, name, run)
    cell = find_cell(run_answers, label, taken_for)
    if cell is None and (label or taken_for):
        raise HTTPException(404, f"The run's answers have no cell of {label!r} taken for {taken_for!r}.")
    sheet = list_cell(cache, run_answers, cell, page) if cell else None
    values = {"answers": run_answers, "cell": cell, "sheet": sheet}
    return render(request, "answers.html", {**common(request, user, name, "versions"), **values})


@router.get("/classifiers/{name}/map")
def embedding_map(
    request: Request, user: GetUserDep, name: access.Readable, page_context: PageContextDep
) -> Response:
    """The pictures of the version that serves, near each other where its network finds them alike."""
    drawn = draw_map(page_context.cache, name)
    values = {"map": drawn, "width": WIDTH, "height": HEIGHT, "listed": MAX_LISTED}
    return render(request, "map.html", {**common(request, user, name, "versions"), **values})


@router.get("/classifiers/{name}/similar/{id}")
def similar(
    request: Request, user: GetUserDep, name: access.Readable, page_context: PageContextDep, id: PictureId
) -> Response:
    """The training pictures that a picture of the dataset resembles."""
    values = {"similar": find_similar(page_context.cache, name, id)}
    return render(request, "similar.html", {**common(request, user, name, "pictures"), **values})


def link_cells(html: bytes, address: str, run_id: str) -> bytes:
    """Return a report whose confusion matrix leads to the pictures of each cell.

    Args:
        html: The report, in which a cell names its label and class in `data-cell`.
        address: Of the classifier's pages.
        run_id: The run of the report.
    """
    start = str(escape(f"{address}/answers?run={quote(run_id, safe='')}&")).encode()

    def link(match: re.Match[bytes]) -> bytes:
        query, rest, count = match.groups()
        return b'%s><a href="%s%s#cell">%s</a>' % (rest.strip(), start, query, count)

    return REPORT_CELL.sub(link, html)
