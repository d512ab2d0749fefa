from __future__ import annotations

import resource
import socket
import threading
import time
from contextlib import contextmanager

import pytest
import uvicorn

from pipeline.engine.api.app import READ_OFF_SECONDS
from pipeline.engine.api.connections import LimitedProtocol, connection_limit
from pipeline.engine.settings import EngineSettings
from tests.fakes.clock import wait_for

HALF = b"POST /x HTTP/1.1\r\nHost: x\r\nX-a: b\r\n"


LARGE_BYTES = 50_000_000


async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    body = b"x" * LARGE_BYTES if scope["path"] == "/large" else b"ok"
    length = str(len(body)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def serving(**limits):
    class Protocol(LimitedProtocol):
        pass

    for name, value in limits.items():
        setattr(Protocol, name, value)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, http=Protocol, log_config=None, ws="none", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_for(lambda: server.started)
            yield lambda: socket.create_connection(listener.getsockname(), timeout=5)
        finally:
            server.should_exit = True
            thread.join(10)


def is_closed(connection):
    try:
        return connection.recv(100) == b""
    except ConnectionResetError:
        return True


def get(connection, ending=b"\r\n"):
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + ending)
    return connection.recv(1000)


@pytest.mark.parametrize(
    "sent", [b"", HALF, HALF + b"Content-Length: 5\r\n\r\n12"], ids=["nothing", "headers", "body"]
)
def test_a_request_that_does_not_arrive_is_closed(sent):
    with serving(header_seconds=0.3, body_seconds=0.3) as connect, connect() as connection:
        connection.sendall(sent)
        before = time.monotonic()
        assert is_closed(connection)
        assert time.monotonic() - before < 3


def test_a_connection_that_was_answered_stays_open():
    with serving(header_seconds=0.2, body_seconds=0.2) as connect, connect() as connection:
        assert b"200 OK" in get(connection)
        time.sleep(0.5)
        assert b"200 OK" in get(connection)


def test_health_is_answered_while_half_sent_requests_are_held():
    with serving(max_connections=20) as connect:
        held = [connect() for _ in range(60)]
        for connection in held:
            try:
                connection.sendall(HALF)
            except ConnectionError:
                continue
        with connect() as connection:
            assert b"200 OK" in get(connection)
        assert is_closed(held[0])
        for connection in held:
            connection.close()


LARGE = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n"


def read_all(connection, *, pause):
    size = 0
    while part := connection.recv(2_000_000):
        size += len(part)
        time.sleep(pause)
    return size


def test_an_answer_that_is_not_read_is_dropped():
    with serving(read_seconds=0.3) as connect, connect() as connection:
        connection.sendall(LARGE)
        time.sleep(1)
        assert read_all(connection, pause=0) < LARGE_BYTES


def test_an_answer_that_is_read_slowly_arrives():
    with serving(read_seconds=0.3) as connect, connect() as connection:
        connection.sendall(LARGE.replace(b"1.1", b"1.0"))
        assert read_all(connection, pause=0.001) > LARGE_BYTES


def test_health_is_answered_while_answers_are_left_unread():
    with serving(max_connections=3) as connect:
        held = [connect() for _ in range(3)]
        for connection in held:
            connection.sendall(LARGE)
        time.sleep(0.3)
        with connect() as connection:
            assert b"200 OK" in get(connection)
        for connection in held:
            connection.close()


def test_descriptors_are_kept_back(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (300, 300))
    assert connection_limit(1000) == 44
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100_000, 100_000))
    assert connection_limit(1000) == 1000


def test_a_refused_body_may_arrive_as_slowly_as_one_that_is_taken() -> None:
    assert READ_OFF_SECONDS >= EngineSettings.model_fields["body_seconds"].default
