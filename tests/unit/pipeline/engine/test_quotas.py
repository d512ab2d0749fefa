from __future__ import annotations

import pytest

from pipeline.engine.quotas import Quotas
from pipeline.errors import ResourceExhausted


def test_a_minute_has_its_share_and_time_brings_it_back():
    now = [1000.0]
    quotas = Quotas({"a": 6, "b": 1}, clock=lambda: now[0])
    for _ in range(6):
        quotas.spend("a")
    with pytest.raises(ResourceExhausted, match="6 a requests a minute. Try again in 10 s") as error:
        quotas.spend("a")
    assert error.value.retry_after_seconds == 10
    quotas.spend("b")
    now[0] += 9
    with pytest.raises(ResourceExhausted):
        quotas.spend("a")
    now[0] += 1
    quotas.spend("a")
    now[0] += 3600
    for _ in range(6):
        quotas.spend("a")
    with pytest.raises(ResourceExhausted):
        quotas.spend("a")
