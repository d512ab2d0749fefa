from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from pipeline.engine.serving.watchdog import Watchdog

STUCK = """
import threading, time
from pipeline.engine.serving.watchdog import Watchdog
watchdog = Watchdog(0.2)
def work():
    with watchdog.watch():
        time.sleep(60)
threading.Thread(target=work, daemon=True).start()
time.sleep(30)
"""


def test_a_process_with_a_stuck_thread_ends_as_if_it_were_killed():
    begun = time.monotonic()
    assert subprocess.run([sys.executable, "-c", STUCK], timeout=20).returncode == -9
    assert time.monotonic() - begun < 15


def test_threads_that_go_on_are_left_alone():
    ended = threading.Event()
    watchdog = Watchdog(0.4, end=ended.set)
    for _ in range(4):
        with watchdog.watch():
            time.sleep(0.1)
    assert not ended.wait(0.6)


def test_work_that_fails_is_not_watched_any_more():
    ended = threading.Event()
    watchdog = Watchdog(0.2, end=ended.set)
    with pytest.raises(ValueError, match="x"), watchdog.watch():
        raise ValueError("x")
    assert not ended.wait(0.5)
