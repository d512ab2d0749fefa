"""A new classifier: a form, its YAML with a look at the pictures, and the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.api_fastapi.core_api.security import GetUserDep
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.responses import RedirectResponse, Response

from graft.ui import access, scheduler
from graft.ui.actions import read_form, text_of
from graft.ui.page_context import PageContextDep
from graft.ui.pages import render_unread
from graft.ui.rendering import render
from pipeline.config import Settings
from pipeline.errors import ClassifierExists, ConfigError, DatasetError

if TYPE_CHECKING:
    from pipeline.preprocess.preview import DatasetPreview

router = APIRouter(dependencies=[Depends(access.require_creator)])
actions = APIRouter(dependencies=[Depends(access.require_same_site), Depends(access.require_creator)])
MAX_YAML_BYTES = 1_000_000  # as a form encodes it
PREVIEWS = CapacityLimiter(2)  # processes at the same time


@router.get("/new")
def new(request: Request, user: GetUserDep) -> Response:
    """The empty form."""
    return _render(request, user, {})


@router.get("/new/{name}")
def created(request: Request, user: GetUserDep, name: access.Writable) -> Response:
    """The new classifier, as soon as Airflow has read its file."""
    if scheduler.read_classifiers([name]):
        return _go(request, f"classifiers/{name}")
    return render_unread(request, user, name)


@actions.post("/new")
async def draft(request: Request, user: GetUserDep, page_context: PageContextDep) -> Response:
    """The YAML that the form describes, and a look at its pictures."""
    from pipeline.pages.new_classifier import draft_yaml, read_answers

    form = await _read(request, user)
    answers = read_answers({key: value for key, value in form.items() if isinstance(value, str)})
    by = str(user.get_name())
    try:
        text = await run_in_threadpool(draft_yaml, page_context.cache.storage, answers, by=by)
    except ConfigError as error:
        values = {"answers": answers, "problem": error.message}
        return await run_in_threadpool(_render, request, user, values, status_code=400)
    return await _show(request, user, text)


@actions.post("/new/look")
async def look(request: Request, user: GetUserDep) -> Response:
    """A look at the pictures of a YAML that was edited."""
    return await _show(request, user, text_of(await _read(request, user), "text"))


@actions.post("/new/file")
async def download(request: Request, user: GetUserDep) -> Response:
    """The YAML as a file."""
    text = text_of(await _read(request, user), "text") + "\n"
    headers = {"content-disposition": 'attachment; filename="classifier.yaml"'}
    return Response(text, media_type="application/yaml", headers=headers)


@actions.post("/new/create")
async def create(request: Request, user: GetUserDep) -> Response:
    """Write the file, unless there is such a classifier."""
    text = text_of(await _read(request, user), "text").replace("\r\n", "\n") + "\n"
    try:
        name, is_uploaded = await run_in_threadpool(_create, request, user, text)
    except ConfigError as error:
        status_code = 409 if isinstance(error, ClassifierExists) else 400
        values = {"text": text, "problem": error.message}
        return await run_in_threadpool(_render, request, user, values, status_code=status_code)
    return _go(request, f"classifiers/{name}/add" if is_uploaded else f"new/{name}")


def _create(request: Request, user: GetUserDep, text: str) -> tuple[str, bool]:
    from pipeline.config.new_classifier import check_text, create_classifier_file

    classifier, settings = check_text(text), Settings()
    access.require_writer(request, user, classifier.name)
    create_classifier_file(text, settings.own_classifiers, settings)
    return classifier.name, any(source.type == "uploads" for source in classifier.dataset.all_sources)


async def _read(request: Request, user: GetUserDep) -> FormData:
    return await read_form(request, user, MAX_YAML_BYTES)


async def _show(request: Request, user: GetUserDep, text: str) -> Response:
    values: dict[str, Any] = {"text": text}
    try:
        values["preview"] = await run_sync(_preview, text, limiter=PREVIEWS)
    except (ConfigError, DatasetError) as error:
        values["problem"] = error.message
    return await run_in_threadpool(_render, request, user, values)


def _preview(text: str) -> DatasetPreview | None:
    """Return the preview of a YAML; None where all pictures are still to be uploaded."""
    from pipeline.config.new_classifier import check_text
    from pipeline.preprocess.preview_process import preview_in_process

    classifier = check_text(text)
    if all(source.type == "uploads" for source in classifier.dataset.all_sources):
        return None
    return preview_in_process(classifier)


def _render(
    request: Request, user: GetUserDep, values: dict[str, Any], *, status_code: int = 200
) -> Response:
    from pipeline.pages.new_classifier import SCHEDULES, SEARCHES, Answers

    page = {
        "answers": Answers(),
        "searches": SEARCHES,
        "schedules": SCHEDULES,
        "directory": str(Settings().own_classifiers),
        "token": access.issue_token(user),
        **{"text": None, "preview": None, "problem": "", **values},
    }
    return render(request, "new.html", page, status_code=status_code)


def _go(request: Request, path: str) -> Response:
    return RedirectResponse(f"{request.scope.get('root_path', '')}/{path}", status_code=303)
