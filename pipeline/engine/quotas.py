"""Quotas by the minute: over one the answer is 429, after which v1's clients wait and ask again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from pipeline.errors import ResourceExhausted


class Quotas:
    """How many requests of each kind a minute may have. A bucket of tokens each, filled steadily.

    Args:
        per_minute: The quota of each kind.
        clock: Seconds.
    """

    def __init__(self, per_minute: Mapping[str, int], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = dict(per_minute)
        self._clock = clock
        self._left = {name: (float(limit), clock()) for name, limit in per_minute.items()}

    def spend(self, name: str) -> None:
        """Count one request.

        Raises:
            ResourceExhausted: if the minute has had its share; `retry_after_seconds` says how long to wait.
        """
        limit = self._per_minute[name]
        before, moment = self._left[name]
        now = self._clock()
        left = min(float(limit), before + (now - moment) * limit / 60)
        if left < 1:
            wait = math.ceil((1 - left) * 60 / limit)
            raise ResourceExhausted(
                f"Quota exceeded: {limit} {name} requests a minute. Try again in {wait} s.",
                retry_after_seconds=wait,
            )
        self._left[name] = (left - 1, now)
