"""Demo pages: *Try it* of one classifier for whoever has a link, without Airflow's sign-in.

The key of a link is in the fragment of its address, which browsers send to no server, so no access log and
no proxy has it. A script of the page posts it once; then it is in a cookie of this page alone. Each request
compares it anew, so a link that is revoked opens nothing any more.
"""

from __future__ import annotations

import logging
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from graft.ui.access import ClassifierName, require_same_site
from graft.ui.actions import MAX_FORM_BYTES, MAX_PICTURE_BYTES, check_length, take_picture, text_of
from graft.ui.page_context import PageContext, PageContextDep
from graft.ui.rendering import render
from pipeline.artifacts.demo_link import DemoLink
from pipeline.config import Settings
from pipeline.errors import PlatformError, UndecodableImage
from pipeline.pages.demo import LinkQuota, find_link

log = logging.getLogger(__name__)
COOKIE = "graft_demo"
MAX_KEY_BYTES = 2_000
QUOTA = LinkQuota()
UNKNOWN = "This link opens nothing, or it was revoked. Ask who sent it for another."


def require_demo_pages() -> None:
    """Refuse everything where the settings allow no demo pages."""
    if not Settings().demo_per_minute:
        raise HTTPException(404, "There are no demo pages here.")


router = APIRouter(dependencies=[Depends(require_demo_pages)])


def require_link(request: Request, name: ClassifierName, page_context: PageContextDep) -> DemoLink:
    """Return the link whose key the browser keeps; 404 if that opens nothing here."""
    link = find_link(page_context.cache, name, request.cookies.get(COOKIE, ""))
    if link is None:
        raise HTTPException(404, UNKNOWN)
    return link


LinkDep = Annotated[DemoLink, Depends(require_link)]


@router.get("/{name}")
def demo(request: Request, name: ClassifierName, page_context: PageContextDep) -> Response:
    """The page: a place to drop a picture; before it is opened the same for every name."""
    key = request.cookies.get(COOKIE)
    is_open = key is not None and find_link(page_context.cache, name, key) is not None
    is_refused = key is not None and not is_open  # another link may still open it
    status_code = 404 if is_refused else 200
    return _render(request, name, UNKNOWN if is_refused else "", is_open=is_open, status_code=status_code)


@router.post("/{name}/open", dependencies=[Depends(require_same_site)])
async def open_demo(request: Request, name: ClassifierName, page_context: PageContextDep) -> Response:
    """Take the key of a link and keep it in a cookie of this page."""
    check_length(request, MAX_KEY_BYTES)
    async with request.form(max_files=0, max_fields=1) as form:
        key = text_of(form, "key")
    if await run_in_threadpool(find_link, page_context.cache, name, key) is None:
        raise HTTPException(404, UNKNOWN)
    address = f"{request.scope.get('root_path', '')}/{name}"
    answer = RedirectResponse(address, status_code=303)
    is_secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, key, path=address, secure=is_secure, httponly=True, samesite="strict")
    return answer


@router.post("/{name}", dependencies=[Depends(require_same_site)])
async def ask(
    request: Request, name: ClassifierName, page_context: PageContextDep, link: LinkDep
) -> Response:
    """Ask the serving version what is on a picture; the key and the quota are looked at before the body."""
    if wait := QUOTA.spend(link.id, Settings().demo_per_minute):
        problem = f"This link has been used too often just now. Try again in {wait} s."
        return _render(request, name, problem, status_code=429, headers={"retry-after": str(wait)})
    check_length(request, MAX_PICTURE_BYTES + MAX_FORM_BYTES)
    data = await take_picture(await request.form(max_files=1, max_fields=2, max_part_size=MAX_FORM_BYTES))
    if not data:
        return _render(request, name, "Choose a picture first.", status_code=400)
    try:
        trial = await run_in_threadpool(_predict, page_context, name, data)
    except UndecodableImage as error:
        return _render(request, name, error.message, status_code=422)
    except PlatformError as error:  # its text is for those who run the engine
        log.warning("the demo page of %s has no answer: %s", name, error)
        return _render(request, name, "The model does not answer just now. Try later.", status_code=502)
    return await run_in_threadpool(_render, request, name, trial=trial)


def _predict(page_context: PageContext, name: str, data: bytes) -> Any:
    from pipeline.pages.prediction import predict_picture

    with page_context.engine() as engine:
        return predict_picture(page_context.cache, engine, name, data)


def _render(
    request: Request,
    name: str,
    problem: str = "",
    *,
    is_open: bool = True,
    trial: Any = None,
    status_code: int = 200,
    headers: dict[str, str] | None = None,
) -> Response:
    values = {"name": name, "problem": problem, "is_open": is_open, "trial": trial}
    answer = render(request, "demo.html", values, status_code=status_code)
    answer.headers.update(headers or {})
    return answer
