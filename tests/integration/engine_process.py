"""A real engine in a process of its own, and the stock client of Google's library."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import requests
from googleapiclient import discovery

from pipeline.engine.backends.local import stop_all_jobs
from pipeline.engine.database import Database, PostgresServer
from pipeline.ml_engine.transport import StaticToken
from pipeline.storage import Storage
from tests.fakes.clock import wait_for
from tests.fakes.databases import database_of
from tests.packages import wheel

PROGRAM = """
import sys, time
from pathlib import Path
print('started', sys.argv, flush=True)
gate = Path(sys.argv[1])
while not gate.exists():
    time.sleep(0.05)
sys.exit(int(sys.argv[2]))
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


class EngineProcess:
    """Starts, kills and restarts an engine on one home and one port; a `with` block ends it in any case."""

    def __init__(
        self, home: Path, *, database: Database | None = None, replica: int = 0, **settings: Any
    ) -> None:
        self.home = home
        self._replica = replica
        self.log = home / f"engine{replica or ''}.log"
        self.settings = {f"GRAFT_ENGINE_{name.upper()}": str(value) for name, value in settings.items()}
        self.database = database or database_of(home)
        if isinstance(self.database, PostgresServer):
            self.settings["GRAFT_DATABASE"] = self.database.url.render_as_string()
        self.url = ""
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._services: dict[str, Any] = {}
        self.storage = Storage({"graft": home / "buckets" / "graft"})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        self.spawn()
        wait_for(self._answers, seconds=60)

    def spawn(self) -> None:
        """Start the process without waiting for it."""
        env = {key: value for key, value in os.environ.items() if not key.startswith("GRAFT_")}
        command = [
            sys.executable,
            "-m",
            "pipeline.engine",
            "--port",
            str(self.port),
            "--home",
            str(self.home),
            "--replica",
            str(self._replica),
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=env | self.settings)
        self.url = f"http://127.0.0.1:{self.port}"

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            return requests.get(f"{self.url}/healthz", timeout=5).status_code == 200
        except OSError:
            return False

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        while self._services:
            self._services.popitem()[1].close()
        self.process.send_signal(number)
        code = self.process.wait(20)
        self.process = None
        return code

    def close(self) -> None:
        try:
            if self.process is not None:
                self.end()
        finally:
            if self.process is not None:  # it did not end in time
                self.process.kill()
                self.process.wait()
            stop_all_jobs(self.home, grace_seconds=0)

    def client(self, token: str = "any") -> Any:
        if token not in self._services:
            self._services[token] = discovery.build(
                "ml",
                "v1",
                static_discovery=True,
                credentials=StaticToken(token),
                client_options={"api_endpoint": self.url},
            )
        return self._services[token].projects()

    def write_package(self) -> str:
        uri = "gs://graft/packages/tiny-1-py3-none-any.whl"
        self.storage.write_bytes(uri, wheel("tiny", {"tiny/__init__.py": "", "tiny/task.py": PROGRAM}))
        return uri

    def training(self, job_id: str, gate: Path, code: int = 0, **more: Any) -> dict[str, Any]:
        value = {
            "packageUris": [self.write_package()],
            "pythonModule": "tiny.task",
            "args": [str(gate), str(code)],
            "region": "local",
            "runtimeVersion": "2.21",
            **more,
        }
        return {"jobId": job_id, "trainingInput": value}

    def wait_job(self, job_id: str, *states: str, seconds: float = 60) -> dict[str, Any]:
        jobs = self.client().jobs()

        def read() -> dict[str, Any] | None:
            job: dict[str, Any] = jobs.get(name=f"projects/local/jobs/{job_id}").execute()
            ended = job["state"] in ("SUCCEEDED", "FAILED", "CANCELLED")
            assert job["state"] in states or not ended, job
            return job if job["state"] in states else None

        found: dict[str, Any] = wait_for(read, seconds=seconds)
        return found

    def deploy(self, model: str, version: str, uri: str) -> dict[str, Any]:
        client = self.client()
        body = {"name": version, "deploymentUri": uri, "runtimeVersion": "2.21"}
        begun = (
            client.models().versions().create(parent=f"projects/local/models/{model}", body=body).execute()
        )

        def read() -> dict[str, Any] | None:
            operation: dict[str, Any] = client.operations().get(name=begun["name"]).execute()
            return operation if operation.get("done") else None

        found: dict[str, Any] = wait_for(read, seconds=90)
        return found
