"""GETs that come as POSTs: Google's client sends one so when its address has more than 2048 characters."""

from __future__ import annotations

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send


def method_of(scope: Scope) -> str:
    """Return the method that a request means."""
    overridden = dict(scope["headers"]).get(b"x-http-method-override", b"").upper()
    method: str = scope["method"]
    return "GET" if method == "POST" and overridden == b"GET" else method


class MethodOverride:
    """Makes such a request the GET that it means; its body is the query.

    Args:
        app: What is behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http" or method_of(scope) == scope["method"]:
            await self._app(scope, receive, send)
            return
        query = await Request(scope, receive).body()

        async def nothing() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        await self._app({**scope, "method": "GET", "query_string": query}, nothing, send)
