"""The edge of the engine over real sockets: what clients do wrong, and what the machine is short of."""

from __future__ import annotations

import errno
import logging
import socket
from urllib.parse import urlsplit

import pytest

from pipeline.engine.api.app import create_app
from tests.contract.conftest import serving
from tests.fakes.clock import wait_for


@pytest.fixture
def server(parts):
    with serving(create_app(parts.engine())) as address:
        yield address


def exchange(base, request, *, body=b""):
    """Send a request and its body in full, and only then read the answer."""
    url = urlsplit(base)
    with socket.create_connection((url.hostname, url.port), timeout=20) as connection:
        connection.sendall(request)
        for start in range(0, len(body), 65_536):
            connection.sendall(body[start : start + 65_536])
        answer = b""
        while part := connection.recv(65_536):
            answer += part
    return answer


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_client_that_sends_too_much_reads_why(server, version):
    size = 20_000_000
    head = f"POST /v1/projects/p/jobs HTTP/{version}\r\nHost: x\r\nConnection: close\r\n"
    answer = exchange(server, f"{head}Content-Length: {size}\r\n\r\n".encode(), body=b"x" * size)
    assert b" 400 " in answer.split(b"\r\n")[0]
    assert b"Request payload size exceeds the limit" in answer


def test_two_authorizations_are_refused(server):
    head = b"GET /v1/projects/p/jobs HTTP/1.0\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n"
    answer = exchange(server, head)
    assert b" 400 " in answer.split(b"\r\n")[0]
    assert b"more than one Authorization header" in answer


def test_a_client_that_leaves_is_one_line(server, caplog):
    caplog.set_level(logging.INFO)
    url = urlsplit(server)
    with socket.create_connection((url.hostname, url.port)) as connection:
        connection.sendall(b"POST /v1/projects/p/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
    exchange(server, b"GET /healthz HTTP/1.0\r\n\r\n")

    def lines():
        return [record for record in caplog.records if "jobs" in str(getattr(record, "fields", ""))]

    wait_for(lines)
    assert [(line.levelname, line.fields["status"]) for line in lines()] == [("INFO", 499)]
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "x"), OSError(errno.EMFILE, "x"), MemoryError()])
def test_a_shortage_is_a_503_that_names_it(v1, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr("pipeline.engine.jobs.jobs.Jobs.list", fail)
    message = v1.error("GET", "jobs", code=503)["message"]
    assert "try again" in message or "free some" in message


def test_a_version_that_a_full_disk_ended_says_so(v1, parts, monkeypatch):
    async def fail(_):
        raise OSError(errno.ENOSPC, "x")

    monkeypatch.setattr("pipeline.engine.serving.deployment.Deployment.start", fail)
    v1("POST", "models", {"name": "m"})
    operation = v1.deploy("m", "v1", parts.export("gs://other/export"))
    assert "disk of the engine is full" in operation["error"]["message"]
    assert "disk of the engine is full" in v1("GET", "models/m/versions/v1")["errorMessage"]
