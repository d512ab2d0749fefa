"""An engine on fakes, spoken to in process."""

from __future__ import annotations

import itertools
import re
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from googleapiclient import discovery

from pipeline.engine.api.app import create_app
from tests.contract.discovery import CheckedHttp
from tests.fakes.clock import wait_for
from tests.fakes.engine import FakeParts

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
def parts(tmp_path: Path) -> Iterator[FakeParts]:
    parts = FakeParts(tmp_path)
    yield parts
    parts.close()


@pytest.fixture
def restart(parts: FakeParts) -> Iterator[Callable[[], V1Client]]:
    """Start the engine, or start it again on the same home; `restart.stop()` leaves it stopped."""
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

    start.stop = stop  # type: ignore[attr-defined]
    yield start
    stop()


@pytest.fixture
def v1(restart: Callable[[], V1Client]) -> V1Client:
    return restart()


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Serve an application on a port of its own; give its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app, log_config=None, ws="none", timeout_graceful_shutdown=2, timeout_keep_alive=75
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_for(lambda: server.started or not thread.is_alive(), seconds=60)
            assert server.started
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(60)


class Site:
    """An engine on fakes behind real HTTP, and Google's own client, judged by the discovery document."""

    def __init__(self, url: str, parts: FakeParts) -> None:
        self.url = url
        self.parts = parts
        self.http = CheckedHttp()
        options = {"api_endpoint": url}
        self.api = discovery.build("ml", "v1", http=self.http, client_options=options, static_discovery=True)
        self.projects = self.api.projects()
        self.jobs = self.projects.jobs()
        self.models = self.projects.models()
        self.versions = self.models.versions()
        self.operations = self.projects.operations()
        self.uri = parts.export("gs://other/export")
        self._numbers = itertools.count(1)

    def new_name(self) -> str:
        return f"n{next(self._numbers)}"

    def new_model(self, *versions: str) -> str:
        """Return the full name of a model with these versions, READY."""
        name = self.new_name()
        self.models.create(parent="projects/p", body={"name": name}).execute()
        for version in versions:
            self.deploy(f"projects/p/models/{name}", version)
        return f"projects/p/models/{name}"

    def deploy(self, model: str, name: str, **body: Any) -> dict[str, Any]:
        body = {"name": name, "deploymentUri": self.uri, **body}
        return self.wait(self.versions.create(parent=model, body=body).execute())

    def wait(self, operation: dict[str, Any]) -> dict[str, Any]:
        def read() -> dict[str, Any] | None:
            found: dict[str, Any] = self.operations.get(name=operation["name"]).execute()
            return found if found.get("done") else None

        return wait_for(read)

    def new_job(self, **fields: Any) -> dict[str, Any]:
        body = {"jobId": self.new_name(), **fields}
        if not {"predictionInput", "prediction_input"} & set(fields):
            body = {"trainingInput": self.training(), **body}
        return self.jobs.create(parent="projects/p", body=body).execute()

    @staticmethod
    def training(**more: Any) -> dict[str, Any]:
        return {"pythonModule": "trainer.task", "packageUris": ["gs://graft/a.tar.gz"], "region": "r", **more}

    def prediction(self, *lines: str, **more: Any) -> dict[str, Any]:
        folder = f"gs://other/{self.new_name()}"
        self.parts.storage.write_bytes(f"{folder}/in.jsonl", "".join(f"{line}\n" for line in lines).encode())
        value = {"dataFormat": "JSON", "inputPaths": [f"{folder}/in*"], "outputPath": f"{folder}/out"}
        target = {} if {"modelName", "versionName"} & set(more) else {"uri": self.uri}
        return {**value, **target, "region": "r", **more}

    def wait_state(self, job: dict[str, Any], state: str) -> dict[str, Any]:
        def read() -> dict[str, Any] | None:
            found: dict[str, Any] = self.jobs.get(name=f"projects/p/jobs/{job['jobId']}").execute()
            return found if found["state"] == state else None

        return wait_for(read)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    limits = {"training_slots": 100, "prediction_slots": 4, "job_creations_per_minute": 100_000}
    parts = FakeParts(tmp_path_factory.mktemp("home"), max_models=10_000, max_versions=10_000, **limits)
    with serving(create_app(parts.engine())) as url:
        found = Site(url, parts)
        yield found
        found.api.close()
