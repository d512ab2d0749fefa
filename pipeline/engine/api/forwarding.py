"""What a follower does not answer itself, it forwards to the leader: changes, and the logs of jobs."""

from __future__ import annotations

import asyncio
import logging
import re

import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.engine.api.errors import error_response
from pipeline.engine.auth import PREDICTIONS
from pipeline.engine.engine import Engine
from pipeline.engine.lease import Lease
from pipeline.engine.telemetry.log import HEADER, REQUEST_ID
from pipeline.errors import ApiError, Unavailable

log = logging.getLogger(__name__)

FORWARDED = "x-graft-forwarded"  # by whom: the receiver does not forward it again
POLL_SECONDS = 0.5  # between two looks at whether the leader is still the same
TIMEOUT = httpx.Timeout(120.0, connect=2.0)
REQUEST_HEADERS = ("authorization", "content-type")
ANSWER_HEADERS = ("content-type", "retry-after", "www-authenticate")
JOB_LOG = re.compile(r"/v1/projects/[^/]+/jobs/[^/]+:log")  # its file is where the job runs


def is_own(method: str, path: str) -> bool:
    """Return True if a follower answers a request itself: it reads, or predicts, or the path is none."""
    if not path.startswith("/"):  # `POST *`: no address can be made of it
        return True
    if method in ("GET", "HEAD", "OPTIONS"):
        return not JOB_LOG.fullmatch(path)
    return method == "POST" and path.endswith(PREDICTIONS)


class Forwarding:
    """Forwards requests to the leader while this engine follows it.

    Args:
        app: The application behind it.
        engine: The engine; `lease` says who leads.
        lease: Its lease.
    """

    def __init__(self, app: ASGIApp, *, engine: Engine, lease: Lease) -> None:
        self._app = app
        self._engine = engine
        self._lease = lease
        self._client = httpx.AsyncClient(timeout=TIMEOUT, trust_env=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            await self._client.aclose()
            return
        if scope["type"] != "http" or self._lease.is_ours or is_own(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            answer = await self._forward(Request(scope, receive))
        except ApiError as error:
            answer = error_response(error)
        except ClientDisconnect:
            return
        await answer(scope, receive, send)

    async def _forward(self, request: Request) -> Response:
        address = self._lease.leader_address
        if FORWARDED in request.headers or not address:
            raise Unavailable("No engine leads at the moment; try again.", retry_after_seconds=1)
        sending = asyncio.create_task(self._send(address, request))
        try:
            while not sending.done():
                await asyncio.wait([sending], timeout=POLL_SECONDS)
                if self._lease.leader_address != address and not sending.done():  # it stands still
                    raise _unanswered(address)
            answer = sending.result()
        except httpx.HTTPError as error:
            log.warning("The leader at %s did not answer: %r", address, error)
            raise _unanswered(address) from error
        finally:
            sending.cancel()
        self._engine.catch_up()
        kept = {name: answer.headers[name] for name in ANSWER_HEADERS if name in answer.headers}
        return Response(answer.content, answer.status_code, headers=kept)

    async def _send(self, address: str, request: Request) -> httpx.Response:
        headers = {name: request.headers[name] for name in REQUEST_HEADERS if name in request.headers}
        url = f"{address}{request.scope['raw_path'].decode()}"
        query = request.scope["query_string"].decode()
        return await self._client.request(
            request.method,
            f"{url}?{query}" if query else url,
            content=await request.body(),
            headers=headers | {FORWARDED: self._lease.holder, HEADER: REQUEST_ID.get()},
        )


def _unanswered(address: str) -> Unavailable:
    text = f"The leader at {address} did not answer, so this may have been done or not; try again."
    return Unavailable(text, retry_after_seconds=1)
