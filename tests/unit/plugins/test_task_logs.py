from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import graft.task_logs as module
import pytest
import structlog
from airflow import logging_config
from airflow.utils.log.file_task_handler import FileTaskHandler
from airflow.utils.state import TaskInstanceState
from graft.task_logs import BucketTaskLog

from pipeline.artifacts.task_logs import TaskLogFolder
from pipeline.artifacts.workspace import Workspace
from pipeline.errors import StorageError
from pipeline.storage import Storage

PATH = "dag_id=cats/run_id=one/task_id=fetch/attempt=1.log"
SOON = 0.01
IN_AIRFLOW = f"""
import os, sys
from pathlib import Path
import structlog
from airflow.logging_config import get_remote_task_log
from airflow.sdk.log import load_remote_log_handler, logging_processors

logs = load_remote_log_handler()
assert type(logs).__name__ == type(get_remote_task_log()).__name__ == "BucketTaskLog"
assert logs._left_out.name == "dag_processor"
path = logs._base / "{PATH}"
path.parent.mkdir(parents=True)
logger = structlog.wrap_logger(structlog.BytesLogger(path.open("ab")), processors=logging_processors(True))
logger.info("first")
if child := os.fork():
    assert os.waitpid(child, 0)[1] == 0
    assert not any(uri.endswith(".log") for uri in logs.logs.storage.list_uris(logs.logs.uri))
    logs.upload("{PATH}")
    (part,) = logs.logs.parts("{PATH}")
    (line,) = part.read_lines()
    assert "first" in line
else:
    logs.upload("{PATH}")  # the task has no log to send: it is the supervisor's
    os._exit(0)
"""


@pytest.fixture
def folder(tmp_path: Path) -> TaskLogFolder:
    storage = Storage({"graft": tmp_path / "bucket"})
    return TaskLogFolder(storage=storage, uri=Workspace(storage, "gs://graft").task_logs)


class Machine:
    """A machine with a folder of logs of its own, on which Airflow runs tasks."""

    def __init__(self, base: Path, folder: TaskLogFolder, *, first_seconds: float = SOON) -> None:
        self.base = base
        self.io = BucketTaskLog(
            base, left_out=base / "dag_processor", logs=folder, first_seconds=first_seconds
        )

    @contextmanager
    def task(self, path: str = PATH) -> Iterator[Any]:
        """Yield a task's logger, which writes like that of Airflow's supervisor."""
        file = self.base / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab") as stream:
            processors = [*self.io.processors, lambda _, __, event: json.dumps(event).encode()]
            yield structlog.wrap_logger(structlog.BytesLogger(stream), processors=processors)

    def run(self, *lines: str, path: str = PATH) -> None:
        """Run a task to its end."""
        with self.task(path) as logger:
            for line in lines:
                logger.info(line)
            self.io.upload(path)


@pytest.fixture
def shown(tmp_path: Path, folder: TaskLogFolder, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """What Airflow's own reader gives, on a machine that has no log of its own."""
    monkeypatch.setattr(module.socket, "gethostname", lambda: "api")
    reader = FileTaskHandler(str(tmp_path / "api"))
    io = BucketTaskLog(tmp_path / "api", left_out=tmp_path / "none", logs=folder)
    monkeypatch.setattr(logging_config, "get_remote_task_log", lambda: io)
    monkeypatch.setattr(FileTaskHandler, "_render_filename", lambda *_: PATH)
    monkeypatch.setattr(FileTaskHandler, "_read_from_logs_server", lambda *_: ([], []))
    monkeypatch.setattr(FileTaskHandler, "_get_executor_get_task_log", lambda *_: lambda *_: ([], []))

    def read(state: TaskInstanceState = TaskInstanceState.SUCCESS) -> list[str]:
        lines, _ = reader._read(SimpleNamespace(state=state, try_number=1), 1)  # type: ignore[arg-type]
        events = [str(line.event) for line in lines]
        return events[events.index("::endgroup::") + 1 :]

    return read


def wait_for(value: Callable[[], Any], expected: Any) -> None:
    deadline = time.monotonic() + 60
    while value() != expected and time.monotonic() < deadline:
        time.sleep(SOON)
    assert value() == expected


def objects(folder: TaskLogFolder) -> list[str]:
    return folder.storage.list_uris(folder.uri)


def test_a_log_is_read_after_its_machine_is_gone(
    tmp_path: Path, folder: TaskLogFolder, shown: Callable[..., list[str]]
) -> None:
    Machine(tmp_path / "lost", folder).run("first", "second")
    (uri,) = objects(folder)
    assert uri.startswith(f"gs://graft/airflow/logs/{PATH}/")
    assert shown() == ["first", "second"]


def test_a_machine_that_is_lost_while_the_task_runs_has_sent_what_it_had(
    tmp_path: Path, folder: TaskLogFolder, shown: Callable[..., list[str]]
) -> None:
    with Machine(tmp_path / "lost", folder).task() as logger:
        logger.info("first")
        wait_for(lambda: shown(TaskInstanceState.RUNNING), ["first"])
        logger.info("second")
        wait_for(lambda: shown(TaskInstanceState.UP_FOR_RETRY), ["first", "second"])


def test_a_log_that_is_complete_is_one_object(
    tmp_path: Path, folder: TaskLogFolder, shown: Callable[..., list[str]]
) -> None:
    machine = Machine(tmp_path / "one", folder)
    with machine.task() as logger:
        logger.info("first")
        wait_for(lambda: len(objects(folder)), 1)
        logger.info("second")
        machine.io.upload(PATH)
        (uri,) = objects(folder)
        assert uri.endswith(".log")
    assert shown() == ["first", "second"]


def test_a_task_that_was_deferred_has_the_lines_of_both_machines_once(
    tmp_path: Path, folder: TaskLogFolder, shown: Callable[..., list[str]]
) -> None:
    one, other = (Machine(tmp_path / name, folder) for name in ("one", "other"))
    one.run("started")
    other.run("waited", path=f"{PATH}.trigger.7.log")
    one.run("resumed")  # its file has the first line still
    other.run("ended")
    Machine(tmp_path / "one", folder).run("another try", path=PATH.replace("attempt=1", "attempt=10"))
    assert sorted(shown()) == ["ended", "resumed", "started", "waited"]


# Airflow's reader closes no file.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_reader_of_a_running_task_shows_its_own_file_and_not_the_copy(
    tmp_path: Path, folder: TaskLogFolder, shown: Callable[..., list[str]]
) -> None:
    with Machine(tmp_path / "api", folder).task() as logger:
        logger.info("first")
        wait_for(lambda: len(objects(folder)), 1)
        logger.info("second")
        assert shown(TaskInstanceState.RUNNING) == ["first", "second"]


def test_a_log_that_is_completed_while_it_is_read_is_whole(tmp_path: Path, folder: TaskLogFolder) -> None:
    part = folder.part(PATH, 1.0, "host")
    part.write_piece(0, b"one\ntw")
    part.write_piece(6, b"o\nthree")
    lines = part.read_lines()
    assert next(lines) == "one"
    path = tmp_path / "whole"
    path.write_bytes(b"one\ntwo\nthree\nfour\n")
    with path.open("rb") as file:
        part.complete(file, num_pieces=2)
    assert list(lines) == ["two", "three", "four"]


def test_a_bucket_that_is_away_costs_no_task_and_no_line(
    tmp_path: Path, folder: TaskLogFolder, shown: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []

    def refuse(self: Storage, uri: str, *_: object) -> None:
        refused.append(uri)
        raise StorageError("The bucket is away.", uri=uri)

    machine = Machine(tmp_path / "one", folder)
    with monkeypatch.context() as away, machine.task() as logger:
        away.setattr(Storage, "write_bytes", refuse)
        away.setattr(Storage, "list_uris", refuse)
        logger.info("first")
        wait_for(lambda: bool(refused), True)
        sources, streams = machine.io.stream(PATH, None)
        assert (len(sources), streams) == (1, [])
        assert "does not give the log: The bucket is away." in sources[0]
        away.undo()
        logger.info("second")
        machine.io.upload(PATH)
    assert shown() == ["first", "second"]


def test_a_log_that_airflow_forgot_to_upload_is_completed(
    tmp_path: Path, folder: TaskLogFolder, shown: Callable[..., list[str]]
) -> None:
    with Machine(tmp_path / "one", folder).task() as logger:
        logger.info("first")
    wait_for(lambda: [uri[-4:] for uri in objects(folder)], [".log"])
    assert shown() == ["first"]


def test_what_the_dag_processor_writes_at_each_parsing_is_not_sent(
    tmp_path: Path, folder: TaskLogFolder
) -> None:
    machine = Machine(tmp_path / "one", folder)
    machine.run("parsed", path="dag_processor/latest/dags-folder/cats.py.log")
    machine.run("ran")
    assert [uri.removeprefix(folder.uri).split("/")[0] for uri in objects(folder)] == ["dag_id=cats"]


def test_airflow_takes_it_from_its_setting_and_sends_from_the_supervisor_only(tmp_path: Path) -> None:
    environ = {**os.environ, "AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS": "graft.task_logs.LOGGING_CONFIG"}
    environ |= {"GRAFT_HOME": str(tmp_path), "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(tmp_path / "logs")}
    subprocess.run([sys.executable, "-c", IN_AIRFLOW], cwd=tmp_path, env=environ, check=True, timeout=120)
