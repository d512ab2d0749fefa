from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pipeline.engine.backends import RunState, TrainingJob
from pipeline.engine.backends.kept import KeptBackend
from pipeline.engine.backends.run_report import RunReport
from pipeline.engine.engine import _backend
from pipeline.engine.settings import EngineSettings
from pipeline.errors import StorageError
from pipeline.storage import Storage
from tests.fakes.engine import FakeBackend

JOB = TrainingJob(
    job_id="j1",
    package_uris=(),
    python_module="a",
    args=(),
    job_dir=None,
    max_running_seconds=60.0,
    training_input={},
)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage({"graft": tmp_path})


def kept(machine: FakeBackend, storage: Storage, *, log_bytes: int = 10_000) -> KeptBackend:
    return KeptBackend(machine, storage, workspace="gs://graft", log_bytes=log_bytes)


def log_of(backend: KeptBackend, run: str = "j1") -> bytes:
    return asyncio.run(backend.log(run, 0, asyncio.run(backend.log_size(run))))


def look(backend: KeptBackend, run: str = "j1") -> RunState:
    """Ask for a run's state, and let what that starts come to its end."""

    async def ask() -> RunState:
        status = (await backend.statuses([run]))[run]
        if backend._task is not None:
            await backend._task
        return status.state

    return asyncio.run(ask())


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunReport, "is_due", True)


@pytest.mark.usefixtures("at_once")
def test_a_running_job_is_sent_in_pieces_that_another_engine_goes_on_with(storage: Storage) -> None:
    machine, elsewhere = FakeBackend(), kept(FakeBackend(), storage)
    first = kept(machine, storage)
    asyncio.run(first.start(JOB))
    for text in (b"one\n", b"one\n", b"one\ntwo\n"):
        machine.logs["j1"] = text
        assert look(first) == RunState.RUNNING
    assert log_of(elsewhere) == b"one\ntwo\n"
    second = kept(machine, storage)  # the engine was started again
    machine.logs["j1"] += b"three\n"
    look(second)
    machine.logs["j1"] += b"four\n"
    machine.reports["j1"] = b"accuracy"
    machine.finish("j1", 0)
    asyncio.run(second.stop("j1"))
    assert log_of(elsewhere) == machine.logs["j1"]
    assert asyncio.run(elsewhere.metrics("j1")) == b"accuracy"
    assert look(elsewhere) == RunState.EXITED
    assert len(storage.list_uris("gs://graft/engine/local/j1/log/")) == 4


def test_a_job_that_ended_while_others_were_sent_is_left_alone(storage: Storage) -> None:
    machine = FakeBackend()
    backend = kept(machine, storage)
    asyncio.run(backend.start(JOB))
    status = machine.status("j1")
    machine.logs["j1"] = b"one\n"
    machine.finish("j1", 0)
    asyncio.run(backend.stop("j1"))
    machine.logs["j1"] += b"of no job\n"
    asyncio.run(backend._send({"j1": status}))
    assert log_of(kept(FakeBackend(), storage)) == b"one\n"


def test_a_stopped_job_and_one_without_an_end_are_told_apart(storage: Storage) -> None:
    machine, elsewhere = FakeBackend(), kept(FakeBackend(), storage)
    backend = kept(machine, storage)
    asyncio.run(backend.start(JOB))
    asyncio.run(backend.stop("j1"))  # its supervisor left nothing
    assert look(elsewhere) == RunState.VANISHED
    asyncio.run(backend.stop("never started"))
    assert look(elsewhere, "never started") == RunState.ABSENT


def test_a_job_that_has_ended_elsewhere_is_not_started_again(storage: Storage) -> None:
    machine, other = FakeBackend(), FakeBackend()
    backend = kept(machine, storage)
    asyncio.run(backend.start(JOB))
    machine.finish("j1", 3)
    asyncio.run(backend.stop("j1"))
    asyncio.run(kept(other, storage).start(JOB))
    assert other.started == []


def test_a_bucket_that_is_away_ends_no_job(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    machine = FakeBackend()
    backend = kept(machine, storage)
    asyncio.run(backend.start(JOB))
    machine.logs["j1"] = b"one\n"

    def refuse(self: Storage, uri: str, data: bytes) -> bool:
        raise StorageError("The bucket is away.", uri=uri)

    with monkeypatch.context() as away:
        away.setattr(Storage, "write_bytes", refuse)
        away.setattr(Storage, "create_bytes", refuse)
        assert look(backend) == RunState.RUNNING
        assert "does not take the log of j1 at the moment: The bucket is away." in caplog.text
        machine.finish("j1", 0)
        asyncio.run(backend.stop("j1"))
    assert "The log and the end of j1 are on this machine only" in caplog.text
    assert look(backend) == RunState.EXITED


def test_only_engines_with_a_common_database_and_bucket_send(tmp_path: Path) -> None:
    settings = EngineSettings()
    for buckets, is_shared, expected in (
        ({}, True, "KeptBackend"),
        ({}, False, "LocalBackend"),
        ({"graft": tmp_path}, True, "LocalBackend"),
    ):
        backend = _backend(tmp_path, Storage(buckets), settings, "gs://graft", is_shared=is_shared)
        assert type(backend).__name__ == expected
