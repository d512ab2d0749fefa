"""The clock of a job: wall and CPU seconds of each of its parts."""

from __future__ import annotations

import time


class Clock:
    """Wall and CPU seconds of each part; CPU seconds are of all threads."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """End a part: the time since the last lap is its own, beside that of an earlier lap of this name."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.seconds[name] = round(self.seconds.get(name, 0.0) + wall - self._wall, 3)
        self.cpu_seconds[name] = round(self.cpu_seconds.get(name, 0.0) + cpu - self._cpu, 3)
        self._wall, self._cpu = wall, cpu
