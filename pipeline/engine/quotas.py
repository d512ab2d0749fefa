"""Quotas per minute: a request over its quota is a 429, and v1's clients wait and retry."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from pipeline.errors import ResourceExhausted


class Quotas:
    """The requests that each kind may have in a minute: a token bucket each, refilled steadily.

    Args:
        per_minute: The quota of each kind.
        clock: Seconds.
    """

    def __init__(self, per_minute: Mapping[str, int], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = dict(per_minute)
        self._clock = clock
        self._left = {name: (float(limit), clock()) for name, limit in per_minute.items()}

    def spend(self, name: str, count: int = 1) -> None:
        """Count one request, or several that are sent as one.

        Raises:
            ResourceExhausted: over the quota; `retry_after_seconds` is how long to wait.
        """
        limit = self._per_minute[name]
        before, since = self._left[name]
        now = self._clock()
        left = min(float(limit), before + (now - since) * limit / 60)
        if left < min(count, limit):
            wait = math.ceil((min(count, limit) - left) * 60 / limit)
            raise ResourceExhausted(
                f"Quota exceeded: {limit} {name} requests a minute. Try again in {wait} s.",
                retry_after_seconds=wait,
            )
        self._left[name] = (left - count, now)
