"""An engine on fakes, spoken to in process."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from pipeline.engine.app import create_app
from tests.fakes import FakeParts, wait_for

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # httpx2, which it asks for, is not what Airflow has
    from starlette.testclient import TestClient


def every_route(app: FastAPI) -> list[tuple[str, str]]:
    """Every method and path of the application, with names put in."""
    found = []
    for route in app.routes:
        path = re.sub(r"\{project\}|\{p\}", "p", route.path)
        found += [(method, re.sub(r"\{[^}]*\}", "x", path)) for method in route.methods]
    return found


class V1Client:
    """A client of one project, with the waits that tests need."""

    def __init__(self, http: TestClient) -> None:
        self.http = http

    def __call__(self, method: str, path: str, body: Any = None, *, code: int = 200, **more: Any) -> Any:
        answer = self.http.request(method, f"/v1/projects/p/{path}", json=body, **more)
        assert answer.status_code == code, answer.text
        return answer.json()

    def error(self, method: str, path: str, body: Any = None, *, code: int, **more: Any) -> dict[str, Any]:
        error: dict[str, Any] = self(method, path, body, code=code, **more)["error"]
        assert error["code"] == code
        return error

    def wait_state(self, job_id: str, state: str) -> dict[str, Any]:
        def read() -> dict[str, Any] | None:
            job: dict[str, Any] = self("GET", f"jobs/{job_id}")
            return job if job["state"] == state else None

        return wait_for(read)

    def wait_done(self, operation: dict[str, Any]) -> dict[str, Any]:
        name = operation["name"].removeprefix("projects/p/")

        def read() -> dict[str, Any] | None:
            found: dict[str, Any] = self("GET", name)
            return found if found.get("done") else None

        return wait_for(read)

    def deploy(self, model: str, version: str, uri: str) -> dict[str, Any]:
        body = {"name": version, "deploymentUri": uri, "runtimeVersion": "2.21"}
        return self.wait_done(self("POST", f"models/{model}/versions", body))


@pytest.fixture
def parts(tmp_path: Path) -> FakeParts:
    return FakeParts(tmp_path)


@pytest.fixture
def restart(parts: FakeParts) -> Iterator[Callable[[], V1Client]]:
    """Start the engine, or start it again on the same home."""
    running: list[TestClient] = []

    def stop() -> None:
        while running:
            running.pop().__exit__(None, None, None)

    def start() -> V1Client:
        stop()
        client = TestClient(create_app(parts.engine()), raise_server_exceptions=False)
        client.__enter__()
        running.append(client)
        return V1Client(client)

    yield start
    stop()


@pytest.fixture
def v1(restart: Callable[[], V1Client]) -> V1Client:
    return restart()
