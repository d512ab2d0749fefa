"""GETs sent as POSTs: Google's client does that if the URL has more than 2048 characters."""

from __future__ import annotations

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send


def method_of(scope: Scope) -> str:
    """Return the effective method of a request."""
    overridden = dict(scope["headers"]).get(b"x-http-method-override", b"").upper()
    method: str = scope["method"]
    return "GET" if method == "POST" and overridden == b"GET" else method


class MethodOverride:
    """Turns such a request into a GET; its body is the query.

    Args:
        app: The application behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http" or method_of(scope) == scope["method"]:
            await self._app(scope, receive, send)
            return
        query = await Request(scope, receive).body()

        async def no_body() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        await self._app({**scope, "method": "GET", "query_string": query}, no_body, send)
