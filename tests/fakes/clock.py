"""Time in tests: a clock that a test moves, and waiting for what takes its own time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


class FakeClock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.sleeps: list[float] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.time += seconds


def wait_for(read: Callable[[], Any], *, seconds: float = 60) -> Any:
    """Return the first true value that `read` gives."""
    deadline = time.monotonic() + seconds
    while not (value := read()):
        if time.monotonic() > deadline:
            raise AssertionError(f"nothing true after {seconds} s")
        time.sleep(0.02)
    return value
