"""Run a component of a team's stack, and start it again whenever it ends by itself.

Airflow's scheduler, for instance, ends when its database is away. It is run as a file, and imports no other
module of Graft: there is one of these processes for each component.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import psutil

log = logging.getLogger("keeper")

START_SECONDS = 30  # a component that ends sooner after `graft up` does not start at all, which `up` must see
FIRST_PAUSE, LAST_PAUSE = 1.0, 30.0  # seconds before the component starts again


class Keeper:
    """Keeps one process running until it is told to end.

    Args:
        command: Of the process; it stays in this process's session.
        start_seconds: If the first process ends sooner, none is started again.
        first_pause: Seconds before the second start; doubled while processes end soon.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        start_seconds: float = START_SECONDS,
        first_pause: float = FIRST_PAUSE,
    ) -> None:
        self._command = list(command)
        self._start_seconds = start_seconds
        self._first_pause = first_pause
        self._process: subprocess.Popen[bytes] | None = None
        self._ending = threading.Event()

    def end(self) -> None:
        """End the process and start none again; what a signal handler calls."""
        self._ending.set()
        if self._process is not None:
            self._process.terminate()

    def run(self) -> int:
        """Run until the process is told to end, or does not start.

        Returns:
            The exit code of the last process.
        """
        pause, is_first = self._first_pause, True
        while True:
            began = time.monotonic()
            code = self._run_once()
            seconds = time.monotonic() - began
            if self._ending.is_set() or (is_first and seconds < self._start_seconds):
                return code
            if seconds >= self._start_seconds:
                pause = self._first_pause
            log.warning("the component ended with the code %d, and starts again in %g s", code, pause)
            if self._ending.wait(pause):
                return code
            pause, is_first = min(2 * pause, LAST_PAUSE), False

    def _run_once(self) -> int:
        self._process = subprocess.Popen(self._command)
        if self._ending.is_set():  # set by a signal between the start and the assignment
            self._process.terminate()
        code = self._process.wait()
        kill_session()
        return code


def kill_session() -> None:
    """Kill what a component that has ended has left in this session: it would hold its port or its tasks."""
    session = os.getsid(0)
    if session != os.getpid():
        return  # somebody else's session
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError, psutil.Error):
            if process.pid != session and os.getsid(process.pid) == session:
                process.kill()


def main(command: Sequence[str]) -> int:
    """Keep a command running; TERM ends both."""
    logging.basicConfig(format="[%(asctime)s] keeper %(levelname)s %(message)s", level=logging.INFO)
    keeper = Keeper(command)
    signal.signal(signal.SIGTERM, lambda *_: keeper.end())
    return keeper.run()


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.exit(code if code >= 0 else 128 - code)
