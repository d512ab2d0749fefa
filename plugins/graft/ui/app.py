"""The application behind the pages: everything needs a signed-in person, and every answer a tight policy."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Sequence
from typing import Any

from airflow.api_fastapi.core_api.security import get_user
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from graft.ui import (
    actions,
    bulk_pages,
    decision_pages,
    demo_pages,
    feedback,
    job_pages,
    look_pages,
    model_pages,
    new_pages,
    pages,
    run_actions,
    run_pages,
    threshold_pages,
    upload_pages,
    use_pages,
)
from graft.ui.rendering import JSON, STATIC, environment, render
from pipeline.errors import (
    ConfigError,
    DatasetError,
    ObjectNotFound,
    PipelineError,
    RollbackRefused,
    StorageError,
    TFLiteUnavailable,
    UndecodableImage,
)

log = logging.getLogger(__name__)

POLICY = (
    "default-src 'none'; img-src 'self' data: blob:; media-src 'self' blob:; style-src 'self'; "
    "script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    "referrer-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "private, no-store",
}
STATUS: tuple[tuple[type[PipelineError], int], ...] = (
    (ObjectNotFound, 404),
    (ConfigError, 400),
    (UndecodableImage, 422),
    (RollbackRefused, 409),
    (TFLiteUnavailable, 409),
    (DatasetError, 422),
)
TITLES = {
    401: "Please sign in",
    403: "Not allowed",
    404: "Not here",
    405: "Not like this",
    413: "Too large",
    422: "Not understood",
    429: "Not now",
    507: "No room",
}


class Headers:
    """Adds the headers that an answer does not set itself.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and complete its answer."""

        async def complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, complete)


def create_app() -> FastAPI:
    """Return the application; Airflow mounts it at `/graft`."""
    app = _make_app([Depends(get_user)])
    app.add_middleware(Headers)
    for template in environment().list_templates():
        environment().get_template(template)  # compiled now, not while the first reader waits
    app.include_router(pages.router)
    app.include_router(look_pages.router)
    app.include_router(run_pages.router)
    app.include_router(job_pages.router)
    app.include_router(actions.router)
    app.include_router(decision_pages.router)
    app.include_router(decision_pages.actions)
    app.include_router(run_actions.router)
    app.include_router(use_pages.router)
    app.include_router(upload_pages.router)
    app.include_router(upload_pages.actions)
    app.include_router(new_pages.router)
    app.include_router(new_pages.actions)
    app.include_router(feedback.router)
    app.include_router(bulk_pages.actions)
    app.include_router(model_pages.router)
    app.include_router(model_pages.actions)
    app.include_router(threshold_pages.router)
    app.include_router(threshold_pages.actions)
    app.mount("/demo", create_demo_app())
    return app


def create_demo_app() -> FastAPI:
    """Return the part that needs no sign-in: demo pages, which look at the key of a link themselves."""
    app = _make_app([], on_pipeline_error=_on_demo_error)
    app.include_router(demo_pages.router)
    return app


def _make_app(
    dependencies: Sequence[Any], *, on_pipeline_error: Callable[..., Response] | None = None
) -> FastAPI:
    """Return an application with our static files and pages for errors; all of it has the dependencies."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, dependencies=dependencies)
    handlers: dict[Any, Any] = {
        StarletteHTTPException: _on_http_exception,
        RequestValidationError: _on_validation_error,
        PipelineError: on_pipeline_error or _on_pipeline_error,
        OSError: _on_os_error,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
    app.add_api_route("/static/{name}", static, methods=["GET"])
    return app


def static(name: str) -> Response:
    """A style sheet or script of the pages."""
    if name not in STATIC:
        raise HTTPException(404, f"There is no file {name}.")
    file, media_type = STATIC[name]
    headers = {"cache-control": "private, max-age=31536000, immutable"}
    return Response(file.read_bytes(), media_type=media_type, headers=headers)


def _problem(request: Request, status_code: int, text: str, title: str = "") -> Response:
    if request.headers.get("accept") == JSON:
        return JSONResponse({"problem": text}, status_code=status_code)
    values = {"heading": title or TITLES.get(status_code, "That did not work"), "text": text}
    return render(request, "problem.html", {**values, "code": status_code}, status_code=status_code)


def _on_http_exception(request: Request, error: HTTPException) -> Response:
    return _problem(request, error.status_code, str(error.detail))


def _on_validation_error(request: Request, error: RequestValidationError) -> Response:
    wrong = "; ".join(f"{'.'.join(map(str, item['loc'][1:]))}: {item['msg']}" for item in error.errors())
    return _problem(request, 422, f"The address or form is not one of ours: {wrong}")


def _is_disk_full(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _on_os_error(request: Request, error: OSError) -> Response:
    """Tell that the server has no room, for a temporary file for instance; anything else is a bug."""
    if not _is_disk_full(error):
        raise error
    log.warning("%s failed: %s", request.url.path, error)
    return _problem(request, 507, f"The server cannot hold that: {error.strerror}.")


def _find_status(error: PipelineError) -> int:
    return next((code for kind, code in STATUS if isinstance(error, kind)), 502)


def _on_pipeline_error(request: Request, error: PipelineError) -> Response:
    is_full = isinstance(error, StorageError) and _is_disk_full(error.__cause__)
    status_code = 507 if is_full else _find_status(error)
    if status_code == 502:
        log.warning("%s failed: %s", request.url.path, error)
    return _problem(request, status_code, error.message)


def _on_demo_error(request: Request, error: PipelineError) -> Response:
    """Log what went wrong; strangers are told neither addresses nor names of files."""
    log.warning("%s failed: %s", request.url.path, error)
    return _problem(request, 502, "That does not work just now. Try later.")
