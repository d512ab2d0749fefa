"""Ends a model worker of which a thread is stuck; the engine replaces it.

A worker that answers nothing is killed by the engine. One whose other threads go on answering would keep the
stuck one for ever, so it ends itself, and as if the engine had killed it: the requests that it has are sent
to the next worker. The one that is stuck has had its 504 by then.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


def end_process() -> None:
    """End this process as the engine would."""
    os.kill(os.getpid(), signal.SIGKILL)


class Watchdog:
    """Watches how long threads take for one piece of work.

    Args:
        seconds: The most that one may take.
        end: Called when one takes longer.
    """

    def __init__(self, seconds: float, *, end: Callable[[], None] = end_process) -> None:
        self._seconds = seconds
        self._end = end
        self._began: dict[int, float] = {}
        threading.Thread(target=self._run, daemon=True).start()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Watch this thread until the end of the block."""
        thread = threading.get_ident()
        self._began[thread] = time.monotonic()
        try:
            yield
        finally:
            del self._began[thread]

    def _run(self) -> None:
        while True:
            time.sleep(min(1.0, self._seconds / 4))
            latest = time.monotonic() - self._seconds
            if any(began < latest for began in list(self._began.values())):
                log.error("A thread is stuck for %g s; the worker ends and is replaced.", self._seconds)
                self._end()
                return
