"""The ASGI application of an engine. Every response that is not a success is the v1 envelope."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import OperationalError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.engine.api.errors import error_response
from pipeline.engine.api.openapi import openapi, operation_id
from pipeline.engine.api.override import MethodOverride, method_of
from pipeline.engine.api.routes import (
    ERRORS,
    feedback,
    health,
    jobs,
    models,
    operations,
    predict,
    projects,
    tokens,
    unimplemented,
)
from pipeline.engine.auth import Tokens, role_for
from pipeline.engine.engine import Engine
from pipeline.engine.models.reader_tokens import ReaderTokens
from pipeline.engine.telemetry.log import AccessLog
from pipeline.engine.v1.errors import CODES, as_api_error
from pipeline.engine.v1.shortages import shortage
from pipeline.errors import (
    ApiError,
    Cancelled,
    Internal,
    InvalidArgument,
    NotFound,
    PipelineError,
    Unavailable,
)

log = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
# Of a body that is refused: times the largest one, and as long as one that is taken may need.
READ_OFF_FACTOR, READ_OFF_SECONDS = 4, 60


class AuthMiddleware:
    """Refuses requests without the right token and bodies that are too large, before they are read.

    Args:
        app: The application behind it.
        tokens: The tokens that are accepted.
        reader_tokens: Those that predict with one model.
        max_body_bytes: The largest body that is accepted.
    """

    def __init__(
        self, app: ASGIApp, *, tokens: Tokens, reader_tokens: ReaderTokens, max_body_bytes: int
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._reader_tokens = reader_tokens
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            if scope["path"] not in OPEN_PATHS:
                self._check_token(_authorization(headers), method_of(scope), scope["path"])
            self._check_size(int(headers.get("content-length") or 0))
        except ApiError as error:
            if "expect" not in headers:  # such a client waits for the answer before it sends its body
                await self._read_off(receive)
            await error_response(error)(scope, receive, send)
            return
        await self._app(scope, self._counted(receive), send)

    def _check_token(self, authorization: str, method: str, path: str) -> None:
        if not self._reader_tokens.allows(authorization, method, path):
            self._tokens.check(authorization, role_for(method, path))

    async def _read_off(self, receive: Receive) -> None:
        """Read a refused body, up to a bound: a client that is still sending would not see the answer."""
        size = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(READ_OFF_SECONDS):
                while size <= READ_OFF_FACTOR * self._max_body_bytes:
                    message = await receive()
                    size += len(message.get("body", b""))
                    if not message.get("more_body"):
                        return

    def _check_size(self, size: int) -> None:
        if size > self._max_body_bytes:
            raise InvalidArgument(f"Request payload size exceeds the limit: {self._max_body_bytes} bytes.")

    def _counted(self, receive: Receive) -> Receive:
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._max_body_bytes:
                if message.get("more_body"):  # else the client has sent everything, and waits
                    await self._read_off(receive)
                self._check_size(size)
            return message

        return counted


def _authorization(headers: Headers) -> str:
    values = headers.getlist("authorization")
    if len(values) > 1:
        raise InvalidArgument("The request has more than one Authorization header.")
    return values[0] if values else ""


async def _on_pipeline_error(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, PipelineError):
        raise error
    answer = as_api_error(error)
    if answer is not error and CODES[type(answer)].http >= 500:  # else it is the client's, who is told
        log.error("A request failed.", exc_info=error)
    return error_response(answer)


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    code = error.status_code if isinstance(error, HTTPException) else 500
    what = f"{request.method} {request.url.path}"
    if code == 404:
        return error_response(NotFound(f"The requested URL was not found on this server: {what}."))
    return error_response(InvalidArgument(f"{what}: the method is not allowed here."), code=code)


async def _on_validation_error(_request: Request, error: Exception) -> JSONResponse:
    return error_response(InvalidArgument(f"The request is malformed: {error}"))


async def _on_disconnect(_request: Request, _error: Exception) -> Response:
    return Response(status_code=CODES[Cancelled].http)  # nobody reads it; the access log has its line


async def _on_system_error(request: Request, error: Exception) -> JSONResponse:
    text = shortage(error)
    if text is None:
        raise error
    log.error("%s %s failed: %s", request.method, request.url.path, text)
    return error_response(Unavailable(text, retry_after_seconds=5))


async def _on_bug(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed.", request.method, request.url.path, exc_info=error)
    return error_response(Internal("Internal error encountered; see the engine's log."))


def create_app(engine: Engine) -> FastAPI:
    """Return the ASGI application of an engine; its lifespan starts and stops the engine."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await engine.start()
        yield
        await engine.stop()

    app = FastAPI(
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=operation_id,
    )
    app.state.engine = engine
    app.add_exception_handler(PipelineError, _on_pipeline_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    for kind in (OSError, MemoryError, OperationalError):
        app.add_exception_handler(kind, _on_system_error)
    app.add_exception_handler(Exception, _on_bug)
    if engine.member is not None:
        from pipeline.engine.api.forwarding import Forwarding  # imports httpx, which one engine alone spares

        app.add_middleware(Forwarding, engine=engine, lease=engine.member.lease)
    app.add_middleware(MethodOverride)
    app.add_middleware(
        AuthMiddleware,
        tokens=engine.tokens,
        reader_tokens=engine.reader_tokens,
        max_body_bytes=engine.settings.max_body_bytes,
    )
    app.add_middleware(AccessLog, count=engine.metrics.count_request)  # outermost: it sees refusals too

    @app.get("/openapi.json", include_in_schema=False)
    async def describe() -> JSONResponse:
        return JSONResponse(openapi(app))

    # The unimplemented methods come first: `jobs/x:getIamPolicy` is not the name of a job.
    for module in (unimplemented, feedback, tokens, jobs, models, operations, projects, predict, health):
        app.include_router(module.router, responses=ERRORS)
    return app
