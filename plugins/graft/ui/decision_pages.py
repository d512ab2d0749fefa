"""Decisions on pictures: what is asked for by buttons and keys, and the history that takes it back."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Depends, HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.responses import JSONResponse, Response

from graft.ui import access
from graft.ui.actions import go_back, read_form, text_of
from graft.ui.page_context import PageContextDep
from graft.ui.pages import common
from graft.ui.rendering import JSON, render
from pipeline.artifacts.decision_event import Action, Decided
from pipeline.pages.decisions import (
    MAX_DECIDED,
    DecisionResult,
    decide,
    describe_decision,
    list_events,
    undo,
)
from pipeline.report.page import visible

router = APIRouter()
actions = APIRouter(dependencies=[Depends(access.require_same_site)])
ACTIONS: dict[str, Action | None] = {
    "delete": "delete",
    "relabel": "relabel",
    "confirm": "confirm",
    "undo": None,
}
BACK_TO = ("labels", "pictures", "decisions")


async def wide_form(request: Request, user: GetUserDep, name: access.Writable) -> FormData:
    """Return a form with a field for each picture; the role is looked at first, so `name` is asked for."""
    return await read_form(request, user, max_fields=MAX_DECIDED + 20)


WideForm = Annotated[FormData, Depends(wide_form)]


@router.get("/classifiers/{name}/decisions")
def history(
    request: Request, user: GetUserDep, name: access.Readable, page_context: PageContextDep
) -> Response:
    """What was decided on pictures, by whom and when."""
    values = {"events": list(list_events(page_context.cache, name))}
    return render(request, "decisions.html", {**common(request, user, name, "pictures"), **values})


@actions.post("/classifiers/{name}/decisions")
async def decisions(
    request: Request, user: GetUserDep, name: access.Writable, page_context: PageContextDep, form: WideForm
) -> Response:
    """Write what a person decided about pictures, or take what is in force for them back."""
    action, label = text_of(form, "action"), text_of(form, "label")
    ids = [each for each in dict.fromkeys(form.getlist("id")) if isinstance(each, str) and each]
    if action not in ACTIONS:
        raise HTTPException(400, f"A decision is one of {', '.join(ACTIONS)}. Received: {action[:20]!r}")
    if not ids:
        raise HTTPException(400, "Select a picture first.")
    kind = ACTIONS[action]
    decided = Decided(action=kind, label=label if kind == "relabel" else "") if kind else None
    version, by = text_of(form, "version"), str(user.get_name())
    act = partial(decide, page_context.cache, name, version, ids=ids, decided=decided, by=by)
    result = await run_in_threadpool(act)
    return _answer(request, name, form, result, anchor=f"p-{ids[0]}" if len(ids) == 1 else "")


@actions.post("/classifiers/{name}/decisions/undo")
async def take_back(
    request: Request, user: GetUserDep, name: access.Writable, page_context: PageContextDep, form: WideForm
) -> Response:
    """Take an event back, or the last one of the person."""
    act = partial(undo, page_context.cache, name, event=text_of(form, "event"), by=str(user.get_name()))
    return _answer(request, name, form, await run_in_threadpool(act))


def _answer(
    request: Request, name: str, form: FormData, result: DecisionResult, *, anchor: str = ""
) -> Response:
    """Return to the page that the form was on; tell a script on it what is in force now."""
    if request.headers.get("accept") == JSON:
        texts = {each.picture: visible(describe_decision(each.after, each.label)) for each in result.pictures}
        return JSONResponse({"event": result.event, "texts": texts, "kept": result.kept})
    page = text_of(form, "page") if text_of(form, "page") in BACK_TO else "labels"
    return go_back(request, f"classifiers/{name}/{page}", text_of(form, "query"), anchor=anchor)
