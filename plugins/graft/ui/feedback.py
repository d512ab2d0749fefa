"""*Feedback*: wrong answers that people told of, and the form that confirms them."""

from __future__ import annotations

from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Depends, HTTPException, Path, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from graft.ui import access
from graft.ui.actions import MAX_FORM_BYTES, Form, go_back, read_form, text_of
from graft.ui.page_context import PageContext, PageContextDep
from graft.ui.pages import common
from graft.ui.rendering import render
from pipeline.config import Settings
from pipeline.pages.appended_source import add_source, has_source
from pipeline.pages.feedback import decide_feedback, read_feedback

router = APIRouter()
MAX_ENCODED_BYTES = 2_000_000  # of a picture of a megabyte in base64, as a form writes it
ORIGIN = "page"
DECISIONS: dict[str, bool | None] = {"confirm": True, "reject": False, "undo": None}
FeedbackId = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]


@router.get("/classifiers/{name}/feedback")
def feedback(
    request: Request, user: GetUserDep, name: access.Readable, page_context: PageContextDep
) -> Response:
    """The queue of wrong answers."""
    return _render(request, user, name, page_context)


def _render(
    request: Request, user: GetUserDep, name: str, page_context: PageContext, problem: str = ""
) -> Response:
    values = {
        "view": read_feedback(page_context.cache, name),
        "is_source": has_source(name, "feedback", Settings()),
        "problem": problem,
    }
    return render(request, "feedback.html", {**common(request, user, name, "feedback"), **values})


@router.get("/classifiers/{name}/feedback/{id}.jpg")
def picture(name: access.Readable, page_context: PageContextDep, id: FeedbackId) -> Response:
    """One picture, small and encoded anew: no byte of its file is passed on."""
    from pipeline.explain.thumbnails import encode_thumbnail

    folder = page_context.cache.workspace.feedback(name)
    data = encode_thumbnail(folder.storage.read_bytes(folder.picture(id)))
    return Response(data, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"})


@router.post("/classifiers/{name}/feedback", dependencies=[Depends(access.require_same_site)])
async def send(
    request: Request, user: GetUserDep, name: access.Writable, page_context: PageContextDep
) -> Response:
    """Keep a picture whose answer was wrong, with the label that a person says it has."""
    form = await read_form(request, user, MAX_ENCODED_BYTES + MAX_FORM_BYTES, max_part=MAX_ENCODED_BYTES)
    label, encoded = text_of(form, "label"), text_of(form, "picture")
    if not label or not encoded:
        raise HTTPException(400, "Choose what the picture shows.")
    [id] = await run_in_threadpool(_send, page_context, name, encoded, label, str(user.get_name()))
    return _show(request, name, id)


def _send(page_context: PageContext, name: str, encoded: str, label: str, by: str) -> list[str]:
    with page_context.engine() as engine:
        return engine.send_feedback(name, [{"b64": encoded}], [label], origin=ORIGIN, who=by)


@router.post("/classifiers/{name}/feedback/decisions", dependencies=[Depends(access.require_same_site)])
async def decide(
    request: Request, user: GetUserDep, name: access.Writable, page_context: PageContextDep, form: Form
) -> Response:
    """Confirm or reject a label, or take that back."""
    action, id, label = (text_of(form, field) for field in ("action", "id", "label"))
    if action not in DECISIONS or len(id) != 64 or not id.isalnum():
        raise HTTPException(400, f"A decision is one of {', '.join(DECISIONS)}. Received: {action[:20]!r}")
    decision = {"confirmed": DECISIONS[action], "label": label, "by": str(user.get_name())}
    problem = await run_in_threadpool(_decide, page_context, name, id, decision)
    if problem:
        return await run_in_threadpool(_render, request, user, name, page_context, problem)
    return _show(request, name, id)


@router.post("/classifiers/{name}/feedback/traffic", dependencies=[Depends(access.require_same_site)])
async def take_traffic(
    request: Request, user: GetUserDep, name: access.Writable, page_context: PageContextDep, form: Form
) -> Response:
    """Put logged live traffic into the queue."""
    from pipeline.pages.live_traffic import queue_traffic

    count = await run_in_threadpool(queue_traffic, page_context.cache, name)
    problem = "" if count else "All logged pictures are in the queue already."
    if problem:
        return await run_in_threadpool(_render, request, user, name, page_context, problem)
    return go_back(request, f"classifiers/{name}/feedback", anchor="waiting")


def _decide(page_context: PageContext, name: str, id: str, decision: dict[str, Any]) -> str:
    """Keep a decision; return what to do by hand where a confirmed picture could not be made a source's."""
    decide_feedback(page_context.cache, name, id, **decision)
    return add_source(name, "feedback", Settings()) if decision["confirmed"] else ""


def _show(request: Request, name: str, id: str) -> Response:
    root = request.scope.get("root_path", "")
    return RedirectResponse(f"{root}/classifiers/{name}/feedback#f-{id[:12]}", status_code=303)
