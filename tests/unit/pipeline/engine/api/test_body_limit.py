from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from starlette.requests import Request

from pipeline.engine.api.app import AuthMiddleware
from pipeline.errors import InvalidArgument

WHOLE = {"type": "http.request", "body": b"1" * 11}
PART = WHOLE | {"more_body": True}
END = {"type": "http.request", "body": b""}


def ask(messages):
    """Send messages of a body to an application that reads it; at most 10 bytes are taken."""
    left = iter(messages)

    async def receive():
        return next(left)  # nothing more may be waited for

    async def app(scope, receive, send):
        await Request(scope, receive).body()

    anyone = SimpleNamespace(allows=lambda *_: True)
    middleware = AuthMiddleware(app, tokens=None, reader_tokens=anyone, max_body_bytes=10)
    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    with pytest.raises(InvalidArgument, match="Request payload size exceeds the limit: 10 bytes"):
        asyncio.run(middleware(scope, receive, None))
    return len(list(left))


@pytest.mark.parametrize("messages", [[WHOLE], [PART, END], [PART, PART, END]])
def test_a_body_over_the_limit_is_read_to_its_end_and_no_further(messages):
    assert ask(messages) == 0
