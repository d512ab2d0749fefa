"""Doubles of the seams of the engine: a backend that runs nothing and a pool that loads nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from pipeline.engine.backends import RunState, RunStatus, TrainingJob
from pipeline.engine.database import Database
from pipeline.engine.engine import Engine, EngineParts
from pipeline.engine.serving.instances import PredictionFailed, decode_b64, read_request
from pipeline.engine.serving.messages import LineError, RequestKind, WorkerReply, WorkerRequest
from pipeline.engine.settings import EngineSettings
from pipeline.engine.store import Store
from pipeline.errors import FailedPrecondition
from pipeline.storage import Storage
from tests.fakes.databases import database_of


class FakeBackend:
    """Jobs that are only noted; the test says how each goes on."""

    poll_seconds = 0.2  # as that of the local backend
    is_local = True
    has_replicas = False

    def __init__(self) -> None:
        self.calls: list[frozenset[str]] = []  # the runs of each call of `statuses`
        self.started: list[TrainingJob] = []
        self.stopped: list[str] = []
        self.states: dict[str, RunStatus] = {}
        self.logs: dict[str, bytes] = {}
        self.reports: dict[str, bytes] = {}
        self.moment = 1000.0  # when each job starts

    async def start(self, job: TrainingJob) -> None:
        if job.run_id not in self.states:
            self.started.append(job)
            self.states[job.run_id] = RunStatus(state=RunState.RUNNING, started=self.moment)

    async def statuses(self, runs: Collection[str]) -> dict[str, RunStatus]:
        self.calls.append(frozenset(runs))
        return {run: self.status(run) for run in runs}

    def status(self, run: str) -> RunStatus:
        return self.states.get(run, RunStatus(state=RunState.ABSENT))

    def finish(self, run: str, code: int, **facts: Any) -> None:
        self.states[run] = RunStatus(
            state=RunState.EXITED, exit_code=code, started=self.moment, ended=self.moment + 60, **facts
        )

    async def stop(self, run: str) -> None:
        self.stopped.append(run)
        if run in self.states and not self.status(run).is_over:
            self.states[run] = RunStatus(state=RunState.VANISHED)

    async def log_size(self, run: str) -> int:
        return len(self.logs.get(run, b""))

    async def log(self, run: str, start: int, length: int) -> bytes:
        return self.logs.get(run, b"")[start : start + length]

    async def metrics(self, run: str) -> bytes:
        return self.reports.get(run, b"")


class FakeWorker:
    """Answers with the length of what it is given; the instance "bad" fails."""

    runtime = ""  # so that versions carry no label of ours
    is_shared = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.closed = asyncio.Event()
        self.has_crashed = False
        self.last_reply = 0.0
        self.requests: list[RequestKind] = []

    async def ask(self, request: WorkerRequest) -> WorkerReply:
        self.requests.append(request.kind)
        is_batch = request.kind == RequestKind.BATCH
        return self._answer_lines(request.payload) if is_batch else self._answer_online(request.payload)

    def _answer_online(self, payload: bytes) -> WorkerReply:
        try:
            return WorkerReply.online([self._predict(item) for item in read_request(payload).instances])
        except PredictionFailed as error:
            return WorkerReply.online(error)

    def _answer_lines(self, payload: bytes) -> WorkerReply:
        rows, errors = [], []
        for number, line in enumerate(payload.splitlines()):
            try:
                rows.append(self._predict(json.loads(line)))
            except (PredictionFailed, ValueError) as error:
                errors.append(LineError(line=number, error=str(error)))
        return WorkerReply.batch(rows, errors)

    def _predict(self, instance: Any) -> dict[str, Any]:
        if instance == "bad":
            raise PredictionFailed("a bad instance")
        value = decode_b64(instance)
        return {"served_by": self.name, "size": len(value) if hasattr(value, "__len__") else 0}

    def kill_if_silent(self, since: float) -> bool:
        is_silent = self.last_reply < since
        if is_silent:
            self.closed.set()
        return is_silent

    async def close(self) -> None:
        self.closed.set()


class FakePool:
    """Loads nothing; a directory with a file `broken` cannot be loaded. `gate` holds loading back."""

    def __init__(self) -> None:
        self.loaded: list[FakeWorker] = []
        self.gate: Callable[[str], bool] = lambda name: True

    async def load(self, name: str, directory: Path) -> FakeWorker:
        while not self.gate(name):
            await asyncio.sleep(0.01)
        if (directory / "broken").exists():
            raise FailedPrecondition("Failed to load model: broken (Error code: 0)")
        worker = FakeWorker(name)
        self.loaded.append(worker)
        return worker

    async def close(self) -> None:
        pass


class FakeParts:
    """An engine on fakes, with real storage and a real database under a temporary home."""

    def __init__(self, home: Path, *, database: Database | None = None, **settings: Any) -> None:
        self.home = home
        self.database = database or database_of(home)
        self.may_lead = True
        self._stores: list[Store] = []
        self.backend = FakeBackend()
        self.pool = FakePool()
        self.storage = Storage({"graft": home / "buckets" / "graft", "other": home / "buckets" / "other"})
        self.settings = EngineSettings(requests_per_minute=1_000_000, **settings)

    def engine(self, address: str = "") -> Engine:
        parts = EngineParts(
            home=self.home,
            database=self.database,
            project="p",
            workspace="gs://graft",
            storage=self.storage,
            backend=self.backend,
            pool=self.pool,
            address=address,
            may_lead=self.may_lead,
        )
        engine = Engine(parts, self.settings)
        self._stores.append(engine.store)
        return engine

    def close(self) -> None:
        """Close the databases of engines that were made and never started."""
        for store in self._stores:
            store.close()

    def export(self, uri: str, *names: str) -> str:
        """Write something that looks like a SavedModel."""
        for name in ("saved_model.pb", *names):
            self.storage.write_bytes(f"{uri}/{name}", name.encode())
        return uri
