"""Why a task failed, as the pages say it: Airflow's own log reader is replaced, and nothing else of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

Event = dict[str, Any]
FAILED: Event = {
    "event": "Task failed with exception",
    "level": "error",
    "error_detail": [{"exc_type": "AirflowFailException", "exc_value": "ConfigError: no class"}],
}


class Log:
    """The log of one failed task: what the reader finds, or raises, when it is asked."""

    def __init__(self) -> None:
        self.events: list[Event] | Exception = []
        self.reads = 0

    def read(self, *_: Any) -> tuple[list[Any], None]:
        self.reads += 1
        if isinstance(self.events, Exception):
            raise self.events
        return [SimpleNamespace(model_dump=lambda event=event: event) for event in self.events], None


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    from graft.ui import task_log

    log, task = Log(), SimpleNamespace(id=uuid4(), try_number=1, task_id="clean", map_index=-1)

    @contextmanager
    def session() -> Iterator[Any]:
        yield SimpleNamespace(scalar=lambda _query: task)

    monkeypatch.setattr(task_log, "create_session", session)
    monkeypatch.setattr(task_log.TaskLogReader, "read_log_chunks", log.read)
    return log


@pytest.fixture
def failure() -> Callable[[], str]:
    from graft.ui.task_log import read_failure

    return lambda: read_failure("toys", "run")


def test_the_class_of_airflow_is_left_out_and_a_reason_is_read_once(
    log: Log, failure: Callable[[], str]
) -> None:
    log.events = [FAILED]
    assert failure() == "clean: ConfigError: no class"
    assert failure() == "clean: ConfigError: no class"
    assert log.reads == 1


@pytest.mark.parametrize(
    ("first", "text"),
    [(OSError("disk"), "clean: its log cannot be read"), ([], "clean: its log names no error")],
)
def test_a_log_that_could_not_be_read_is_read_again(
    log: Log, failure: Callable[[], str], first: list[Event] | Exception, text: str
) -> None:
    log.events = first
    assert failure().startswith(text)
    log.events = [FAILED]
    assert failure() == "clean: ConfigError: no class"
