"""The way of a prediction's body to pixels, without a network: nothing breaks it and nothing is kept."""

from __future__ import annotations

import os
import time

import hypothesis
import psutil
import pytest
from hypothesis import HealthCheck

from pipeline.engine.api.json_limits import check_depth
from pipeline.engine.serving.images import read_image
from pipeline.engine.serving.instances import PredictionFailed, columns_of, decode_b64, read_request
from pipeline.engine.serving.limits import WorkerLimits
from pipeline.errors import InvalidArgument
from pipeline.pixels.host import resize_picture
from pipeline.pixels.spec import PixelSpec
from tests.hostile_predictions import BODIES

COUNT = 100_000 if os.environ.get("GRAFT_SOAK") else 300
SECONDS = 600 if os.environ.get("GRAFT_SOAK") else 0
SPEC = PixelSpec(height=8, width=8, offset=127.0, divisor=128.0)
PART = 1000  # hypothesis remembers every example until it is done
OUTCOMES = {"refused": 0, "error": 0, "pictures": 0}


def follow(body: bytes) -> str:
    try:
        check_depth(body, 64)
        request = read_request(body)
    except InvalidArgument:
        return "refused"
    try:
        for value in columns_of(decode_b64(request.instances), ["inputs"])["inputs"]:
            assert resize_picture(read_image(value, WorkerLimits()), SPEC).shape == (8, 8, 3)
    except PredictionFailed:
        return "error"
    return "pictures"


def send(count: int) -> None:
    @hypothesis.given(BODIES)
    @hypothesis.settings(
        max_examples=min(count, PART), deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    def check(body: bytes) -> None:
        OUTCOMES[follow(body)] += 1

    for _ in range(0, count, PART):
        check()


@pytest.mark.timeout(4 * 3600)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged pictures
def test_no_body_and_no_picture_breaks_it_and_memory_stays_flat() -> None:
    until = time.monotonic() + SECONDS
    process = psutil.Process()
    send(max(100, COUNT // 20))
    before = process.memory_info().rss
    send(COUNT)
    while time.monotonic() < until:
        send(COUNT // 20)
    assert process.memory_info().rss < before + 100_000_000
    assert min(OUTCOMES.values()) > 0, OUTCOMES
