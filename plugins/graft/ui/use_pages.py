"""*Use it*: programs that ask a classifier from outside, and its versions as files."""

from __future__ import annotations

import logging
import tempfile
from functools import partial
from pathlib import Path
from threading import Lock

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Depends, HTTPException, Request
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, Response

from graft.ui import access
from graft.ui.actions import Form, go_back, text_of
from graft.ui.demo_pages import require_demo_pages
from graft.ui.page_context import PageContext, PageContextDep
from graft.ui.pages import VersionQuery, common
from graft.ui.rendering import render
from pipeline.config import Settings
from pipeline.errors import PlatformError
from pipeline.export.formats import DESCRIPTIONS, ExportFormat
from pipeline.ml_engine.protocol import ReaderToken, default_version
from pipeline.pages.demo import create_link, list_links, revoke_link
from pipeline.pages.snippets import write_snippets

log = logging.getLogger(__name__)
router = APIRouter()
EXPORTING = Lock()  # an export takes seconds of a processor and up to a gigabyte


@router.get("/classifiers/{name}/use")
def use_it(
    request: Request, user: GetUserDep, name: access.Readable, page_context: PageContextDep
) -> Response:
    """Programs that ask the classifier, what they may send, and its versions as files."""
    return _render(request, user, name, page_context)


def _render(
    request: Request,
    user: GetUserDep,
    name: str,
    page_context: PageContext,
    *,
    new_token: str = "",
    new_link: str = "",
) -> Response:
    may_write, per_minute = access.may(request, user, name, method="PUT"), Settings().demo_per_minute
    endpoint, project = page_context.endpoint()
    serving, problem = _find_serving(page_context, name)
    bucket = page_context.cache.workspace.uri
    values = {
        "snippets": write_snippets(endpoint, project=project, model=name, bucket=bucket),
        "problem": problem,
        "serving": serving,
        "number": page_context.cache.numbered_history(name, 0)[1].get(serving or ""),
        "formats": DESCRIPTIONS,
        "tokens": _list_tokens(page_context, name) if may_write else None,
        "new_token": new_token,
        "links": list_links(page_context.cache, name) if may_write else None,
        "new_link": new_link,
        "per_minute": per_minute,
    }
    return render(request, "use.html", {**common(request, user, name, "use"), **values})


def _list_tokens(page_context: PageContext, name: str) -> list[ReaderToken] | None:
    """Return the reader tokens; None if the engine has none to give, without the model for instance."""
    try:
        with page_context.engine() as engine:
            return engine.list_tokens(name)
    except PlatformError:
        return None


@router.post("/classifiers/{name}/tokens", dependencies=[Depends(access.require_same_site)])
async def change_tokens(
    request: Request, user: GetUserDep, name: access.Writable, page_context: PageContextDep, form: Form
) -> Response:
    """Make a reader token, which this answer alone shows, or revoke one."""
    if id := text_of(form, "revoke"):
        await run_in_threadpool(_revoke_token, page_context, name, id)
        return go_back(request, f"classifiers/{name}/use", anchor="tokens")
    label = text_of(form, "label") or "unnamed"
    token = await run_in_threadpool(_create_token, page_context, name, f"{label[:100]}, by {user.get_name()}")
    return await run_in_threadpool(_render, request, user, name, page_context, new_token=token)


def _create_token(page_context: PageContext, name: str, label: str) -> str:
    with page_context.engine() as engine:
        return engine.create_token(name, label)


def _revoke_token(page_context: PageContext, name: str, id: str) -> None:
    with page_context.engine() as engine:
        engine.revoke_token(name, id)


@router.post("/classifiers/{name}/demo", dependencies=[Depends(access.require_same_site)])
async def change_links(
    request: Request, user: GetUserDep, name: access.Writable, page_context: PageContextDep, form: Form
) -> Response:
    """Make a link to the demo page, which this answer alone shows, or revoke one."""
    cache, by = page_context.cache, str(user.get_name())
    if id := text_of(form, "revoke"):
        await run_in_threadpool(revoke_link, cache, name, id)
        log.info("%s revoked the demo link %s of %s", by, id, name)
        return go_back(request, f"classifiers/{name}/use", anchor="demo")
    require_demo_pages()
    label = text_of(form, "label")[:100] or "unnamed"
    link, key = await run_in_threadpool(partial(create_link, cache, name, label, by=by))
    log.info("%s made the demo link %s of %s", by, link.id, name)
    root = request.scope.get("root_path", "")
    address = f"{request.url.scheme}://{request.url.netloc}{root}/demo/{name}#{key}"
    return await run_in_threadpool(_render, request, user, name, page_context, new_link=address)


def _find_serving(page_context: PageContext, name: str) -> tuple[str | None, str | None]:
    """Return the version that serves, and the error if the engine does not answer."""
    try:
        with page_context.engine() as engine:
            return default_version(engine.get_model(name)), None
    except PlatformError as error:
        return None, str(error)


@router.get("/classifiers/{name}/export", dependencies=[Depends(access.require_same_site)])
def export(
    name: access.Writable, page_context: PageContextDep, format: ExportFormat, version: VersionQuery
) -> Response:
    """A version as a zip; one at a time, since each takes a processor."""
    from pipeline.export.archive import export_version

    if not EXPORTING.acquire(blocking=False):
        raise HTTPException(429, "Another export is being made; try again in a minute.")
    folder = tempfile.TemporaryDirectory()
    file = Path(folder.name, f"{name}-{version}-{format.value}.zip")
    try:
        export_version(page_context.cache.workspace, model=name, version=version, format=format, file=file)
    except BaseException:
        folder.cleanup()
        raise
    finally:
        EXPORTING.release()
    return FileResponse(
        file, media_type="application/zip", filename=file.name, background=BackgroundTask(folder.cleanup)
    )
