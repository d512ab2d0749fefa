from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.errors import ConfigError, PipelineError, StorageError
from pipeline.patience import call_patiently
from tests.fakes.clock import FakeClock


def failing(*errors: PipelineError) -> Callable[[], str]:
    queue = list(errors)

    def call() -> str:
        if queue:
            raise queue.pop(0)
        return "answer"

    return call


def test_a_transient_error_is_survived_with_longer_and_longer_pauses() -> None:
    clock = FakeClock()
    call = failing(*[StorageError("busy")] * 8)
    assert call_patiently(call, seconds=120, clock=clock) == "answer"
    assert clock.sleeps == [0.5, 1, 2, 4, 8, 15, 15, 15]


def test_the_deadline_is_a_total_and_no_pause_goes_beyond_it() -> None:
    clock = FakeClock()
    with pytest.raises(StorageError, match="busy"):
        call_patiently(failing(*[StorageError("busy")] * 99), seconds=20, clock=clock)
    assert sum(clock.sleeps) <= 20
    assert len(clock.sleeps) == 5


def test_an_error_that_another_call_would_repeat_is_raised_at_once() -> None:
    clock = FakeClock()
    with pytest.raises(ConfigError, match="wrong"):
        call_patiently(failing(ConfigError("wrong")), seconds=120, clock=clock)
    assert clock.sleeps == []


def test_without_patience_there_is_one_call() -> None:
    clock = FakeClock()
    with pytest.raises(StorageError):
        call_patiently(failing(StorageError("busy")), seconds=0, clock=clock)
    assert clock.sleeps == []
