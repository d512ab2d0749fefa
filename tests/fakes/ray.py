"""A small Ray: its Jobs REST API at the seam of the HTTP client, and a node that the test is."""

from __future__ import annotations

import json
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import httpx

from pipeline.engine.backends import TrainingJob
from pipeline.engine.backends.ray.backend import RayBackend, submission_id
from pipeline.engine.backends.ray.jobs_api import RayJobs
from pipeline.engine.backends.run_files import AttemptFiles, Ending
from pipeline.engine.settings import EngineSettings
from pipeline.storage import Storage

ADDRESS = "http://ray.test:8265"
TOKEN = "a-token-of-ray"


class FakeRay:
    """Answers as Ray 2.60 does; the test ends its jobs. It keeps a token from logs and submissions apart.

    Args:
        on_submit: Called with the id of each new submission, as soon as Ray has it.
    """

    def __init__(self, on_submit: Callable[[str], None] = lambda name: None) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str]] = []
        self.stopped: list[str] = []
        self.on_submit = on_submit
        self.is_away = False

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if self.is_away:
            raise httpx.ConnectError("connection refused", request=request)
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return httpx.Response(401 if "authorization" not in request.headers else 403)
        path = request.url.path.removeprefix("/api/jobs/")
        self.requests.append((request.method, path))
        if not path:
            return self._submit(request) if request.method == "POST" else self._list()
        name, _, action = path.partition("/")
        if name not in self.jobs:
            return httpx.Response(404, text=f"Job {name} does not exist")
        if action == "stop":
            self.stopped.append(name)
            self.end(name, "STOPPED")
            return httpx.Response(200, json={"stopped": True})
        if request.method == "DELETE":
            del self.jobs[name]
            return httpx.Response(200, json={"deleted": True})
        return httpx.Response(200, json=self.jobs[name])

    def _list(self) -> httpx.Response:
        driver = {"type": "DRIVER", "job_id": "01000000", "submission_id": None, "status": "RUNNING"}
        return httpx.Response(200, json=[driver, *self.jobs.values()])

    def _submit(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        name = body["submission_id"]
        if name in self.jobs:
            text = f"ValueError: Job with submission_id {name} already exists. Please use a different one."
            return httpx.Response(500, text=f"Traceback (most recent call last):\n{text}")
        self.jobs[name] = {**body, "status": "RUNNING", "message": "", "driver_exit_code": None}
        self.on_submit(name)
        return httpx.Response(200, json={"submission_id": name, "job_id": name})

    def end(self, name: str, status: str, message: str = "", code: int | None = None) -> None:
        if self.jobs[name]["status"] in ("PENDING", "RUNNING"):
            self.jobs[name] |= {"status": status, "message": message, "driver_exit_code": code}

    def lose(self, name: str) -> None:
        """End a submission as Ray does when its node is gone."""
        self.end(name, "FAILED", "Job supervisor actor died: The actor is dead because its node has died.")


class _Logs(MutableMapping[str, bytes]):
    """What runs have printed; a longer text is sent as the node would, a piece more."""

    def __init__(self, double: RayDouble) -> None:
        self._double = double
        self._texts: dict[str, bytes] = {}

    def __setitem__(self, run: str, text: bytes) -> None:
        before = self._texts.get(run, b"")
        start = len(before) if text.startswith(before) else 0
        files = self._double.files(run)
        if not start:
            for piece in files.log_pieces():
                self._double.storage.delete(piece.uri)
        files.write_log(start, text[start:])
        self._texts[run] = text

    def __getitem__(self, run: str) -> bytes:
        return self._texts[run]

    def __delitem__(self, run: str) -> None:
        del self._texts[run]

    def __iter__(self):
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


class RayDouble(RayBackend):
    """The Ray backend on `FakeRay`, with what the tests of jobs do to `FakeBackend`."""

    poll_seconds = 0.05

    def __init__(self, home: Path, storage: Storage, **settings: Any) -> None:
        token = home / "ray_token"
        token.write_text(f"{TOKEN}\n")
        self.storage = storage
        self.ray = FakeRay(self._take)
        self.moment = 1000.0
        self.started_runs: list[str] = []
        self.stopped: list[str] = []
        self.logs = _Logs(self)
        limits = EngineSettings(ray_shares_directories=True, **settings)
        ray = RayJobs(ADDRESS, token, transport=self.ray.transport)
        super().__init__(storage, limits, workspace="gs://graft", ray=ray)

    def attempt(self, run: str) -> int:
        return max(int(name.rpartition("-")[2]) for name in self.ray.jobs if name.startswith(f"{run}-"))

    def files(self, run: str, attempt: int | None = None) -> AttemptFiles:
        number = attempt or self.attempt(run)
        return AttemptFiles(self.storage, f"gs://graft/engine/ray/{run}/{number}")

    def _take(self, name: str) -> None:
        run, _, number = name.rpartition("-")
        files = self.files(run, int(number))
        assert files.claim("the node of the test")
        files.note_start(self.moment)
        self.started_runs.append(run)

    @property
    def started(self) -> list[TrainingJob]:
        jobs = [self.files(run, 1).read_job() for run in self.started_runs]
        return [job.job for job in jobs if job]

    def finish(self, run: str, code: int, **facts: Any) -> None:
        ending = Ending(code=code, started=self.moment, ended=self.moment + 60, **facts)
        assert self.files(run).end(ending)
        self.ray.end(submission_id(run, self.attempt(run)), "SUCCEEDED")

    def lose_for_good(self, run: str) -> None:
        def lose(name: str) -> None:
            self._take(name)
            self.ray.lose(name)

        self.ray.on_submit = lose
        self.ray.lose(submission_id(run, self.attempt(run)))

    async def stop(self, run: str) -> None:
        self.stopped.append(run)
        await super().stop(run)
