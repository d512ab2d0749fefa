"""Actions that change or cost something: a form of this site, sent by a user who may."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qsl, urlencode

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Depends, HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.responses import RedirectResponse, Response

from graft.ui import access
from graft.ui.page_context import PageContext, PageContextDep
from graft.ui.pages import render_trial
from pipeline.errors import PlatformError, UndecodableImage

if TYPE_CHECKING:
    from pipeline.pages.prediction import PredictionView

router = APIRouter(dependencies=[Depends(access.require_same_site)])
MAX_FORM_BYTES = 64_000
MAX_PICTURE_BYTES = 7_000_000  # base64 makes four bytes of three, and the engine takes 10 MB
MAX_LENGTH_DIGITS = 18  # Python reads no number of thousands of digits


def check_length(request: Request, limit: int) -> None:
    """Refuse a body that is larger than a number of bytes, or does not say how large it is.

    A body in chunks has no length: a length beside it says nothing of what comes.
    """
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or "transfer-encoding" in request.headers:
        raise HTTPException(411, "Send `Content-Length`, and no `Transfer-Encoding`.")
    if len(length) > MAX_LENGTH_DIGITS or int(length) > limit:
        raise HTTPException(413, f"That is larger than {limit / 1e6:.1f} MB, the most that is taken here.")


async def read_form(
    request: Request,
    user: GetUserDep,
    limit: int = MAX_FORM_BYTES,
    *,
    max_files: int = 1,
    max_part: int = MAX_FORM_BYTES,
    max_fields: int = 20,
) -> FormData:
    """Return a form of this site, of limited size."""
    check_length(request, limit)
    form = await request.form(max_files=max_files, max_fields=max_fields, max_part_size=max_part)
    try:
        access.require_token(user, form.get(access.TOKEN_FIELD))
    except HTTPException:
        await form.close()
        raise
    return form


async def small_form(request: Request, user: GetUserDep, name: access.Writable) -> FormData:
    """Return a form without files; the role is looked at first, so `name` is asked for."""
    return await read_form(request, user)


Form = Annotated[FormData, Depends(small_form)]


def text_of(form: FormData, field: str) -> str:
    """Return a field's text, empty where it is absent or a file."""
    value = form.get(field, "")
    return value.strip() if isinstance(value, str) else ""


async def take_picture(form: FormData) -> bytes:
    """Return the picture of a form, empty where there is none, and close the form."""
    picture = form.get("picture")
    data = await picture.read() if isinstance(picture, UploadFile) else b""
    await form.close()
    return data


@router.post("/classifiers/{name}/rollback")
async def rollback(
    request: Request, user: GetUserDep, name: access.Writable, page_context: PageContextDep, form: Form
) -> Response:
    """Give an older version the traffic, at once."""
    arguments = {"to": text_of(form, "version") or None, "reason": text_of(form, "reason")[:500]}
    await run_in_threadpool(_roll_back, page_context, name, str(user.get_name()), arguments)
    return go_back(request, f"classifiers/{name}", "notice=rolled_back")


def _roll_back(page_context: PageContext, name: str, by: str, arguments: dict[str, Any]) -> None:
    from pipeline.deploy.rollback import rollback_version

    with page_context.engine() as engine:
        rollback_version(page_context.cache.workspace, engine, model=name, by=by, **arguments)


@router.post("/classifiers/{name}/try")
async def try_it(
    request: Request, user: GetUserDep, name: access.Writable, page_context: PageContextDep
) -> Response:
    """Ask the serving version what is on a picture."""
    data = await take_picture(await read_form(request, user, MAX_PICTURE_BYTES + MAX_FORM_BYTES))
    if not data:
        return render_trial(request, user, name, {"problem": "Choose a picture first."}, status_code=400)
    try:
        may_ask = partial(access.may, request, user, method="GET")
        trial = await run_in_threadpool(_try, page_context, name, data, may_ask)
    except UndecodableImage as error:
        return render_trial(request, user, name, {"problem": error.message}, status_code=422)
    except PlatformError as error:
        return render_trial(request, user, name, {"problem": error.message}, status_code=502)
    return await run_in_threadpool(render_trial, request, user, name, {"trial": trial})


def _try(page_context: PageContext, name: str, data: bytes, may_ask: Callable[[str], bool]) -> PredictionView:
    from pipeline.pages.prediction import predict_picture

    with page_context.engine() as engine:
        return predict_picture(page_context.cache, engine, name, data, may_ask=may_ask)


def go_back(request: Request, path: str, query: str = "", *, anchor: str = "") -> Response:
    """Return to the page that the form was on, with its query as far as it is one."""
    root, pairs = request.scope.get("root_path", ""), urlencode(parse_qsl(query))
    url = f"{root}/{path}" + (f"?{pairs}" if pairs else "") + (f"#{anchor}" if anchor else "")
    return RedirectResponse(url, status_code=303)
