"""The pace of each host: requests a second, the pauses it asks for, and when it is left alone."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from pipeline.datasets.fetcher.reasons import FetchReason
from pipeline.errors import FetchRefused

GIVE_UP_AFTER = 10  # requests in a row that failed for good
MAX_TRACKED_DELAY = 30.0  # of robots.txt's Crawl-delay, seconds


@dataclass
class _Host:
    next_time: float = 0.0
    interval: float = 0.0
    failures: int = 0


class HostTable:
    """When each host may be asked again; used by all threads.

    Args:
        requests_per_second: The pace of every host.
        retry_after_cap: Longest pause that a host may ask for.
        sleep: Waits; another one in tests.
    """

    def __init__(
        self,
        requests_per_second: float,
        *,
        retry_after_cap: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval = 1 / requests_per_second
        self._cap = retry_after_cap
        self._sleep = sleep
        self._hosts: dict[str, _Host] = {}
        self._lock = threading.Lock()

    def _host(self, name: str) -> _Host:
        return self._hosts.setdefault(name, _Host(interval=self._interval))

    def wait_turn(self, name: str) -> None:
        """Wait until the host may be asked.

        Raises:
            FetchRefused: `host_given_up`, if it failed too often.
        """
        with self._lock:
            host = self._host(name)
            if host.failures >= GIVE_UP_AFTER:
                raise FetchRefused(
                    f"{name} failed {host.failures} times in a row and is left alone.",
                    reason=FetchReason.HOST_GIVEN_UP,
                )
            now = time.monotonic()
            turn = max(now, host.next_time)
            host.next_time = turn + host.interval
        if turn > now:
            self._sleep(turn - now)

    def pause(self, name: str, retry_after: str | None, *, attempt: int) -> None:
        """Let no request go to the host before the pause that it asked for is over; without one, back off."""
        seconds = parse_retry_after(retry_after)
        if seconds is None:
            seconds = 0.5 * 2**attempt
        seconds = min(max(seconds, 0.0), self._cap) + random.uniform(0, 0.1)
        with self._lock:
            host = self._host(name)
            host.next_time = max(host.next_time, time.monotonic() + seconds)

    def slow_down(self, name: str, seconds: float) -> None:
        """Keep the Crawl-delay of a host's robots.txt, within reason."""
        with self._lock:
            host = self._host(name)
            host.interval = max(host.interval, min(seconds, MAX_TRACKED_DELAY))

    def note(self, name: str, *, failed: bool) -> None:
        """Remember how a request ended."""
        with self._lock:
            host = self._host(name)
            host.failures = host.failures + 1 if failed else 0


def parse_retry_after(value: str | None) -> float | None:
    """Return the seconds of a Retry-After header, in either form; None if it says nothing."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return (until - datetime.now(UTC)).total_seconds()
