from __future__ import annotations

import json
import queue
import time
from dataclasses import replace

import numpy as np
import pytest

from pipeline.engine.serving.limits import WorkerLimits
from pipeline.engine.serving.messages import RequestKind, WorkerRequest
from pipeline.engine.serving.trunk import worker as trunk_worker
from pipeline.engine.serving.trunk.heads import FeatureCache, LoadedHead
from pipeline.engine.serving.trunk.micro_batcher import MicroBatcher, Picture, PredictRequest
from pipeline.engine.serving.trunk.worker import TrunkWorker
from pipeline.engine.serving.watchdog import Watchdog
from pipeline.engine.serving.worker import SerialWorker
from pipeline.errors import DeadlineExceeded, Internal
from pipeline.pixels.spec import PixelSpec

ONLINE = WorkerRequest(kind=RequestKind.ONLINE, payload=b'{"instances": [[0]]}')


class Model:
    """A model whose first request fails with an error that nobody foresaw."""

    def __init__(self, *errors):
        self.errors = list(errors)

    def predict(self, instances, _signature):
        if self.errors:
            raise self.errors.pop()
        return [{"x": 1} for _ in instances]


@pytest.mark.parametrize("error", [RecursionError, MemoryError, ZeroDivisionError, AssertionError])
def test_any_exception_is_the_answer_of_one_request(error):
    replies = queue.Queue()
    worker = SerialWorker(Model(error()), WorkerLimits(), lambda *reply: replies.put(reply))
    for number in (1, 2):
        worker.accept(number, ONLINE)
    (first, failed), (second, answer) = replies.get(timeout=5), replies.get(timeout=5)
    assert (first, type(failed.error), second) == (1, Internal, 2)
    assert answer.payload == b'{"predictions":[{"x":1}]}'


def test_a_request_that_nobody_waits_for_is_not_predicted():
    replies = queue.Queue()
    worker = SerialWorker(Model(), WorkerLimits(), lambda *reply: replies.put(reply))
    worker.accept(1, WorkerRequest(kind=ONLINE.kind, payload=ONLINE.payload, deadline=time.monotonic() - 1))
    assert isinstance(replies.get(timeout=5)[1].error, DeadlineExceeded)


class Network:
    """Features are the first level of a picture."""

    def __init__(self, *_):
        pass

    def forward(self, pixels):
        return self.pool(pixels), pixels

    def pool(self, pixels):
        return pixels[:, 0, 0, :1].astype(np.float32)


class Answers:
    has_novelty = False

    def predict(self, pooled):
        return pooled


HEAD = LoadedHead("h", Answers())


@pytest.mark.parametrize("error", [RecursionError, MemoryError, KeyError])
def test_any_exception_in_a_trunk_is_the_answer_of_one_request(monkeypatch, tmp_path, error):
    spec = PixelSpec(height=1, width=1, offset=0, divisor=1)
    (tmp_path / "spec").write_text(json.dumps(spec.to_dict()))
    monkeypatch.setattr(trunk_worker, "TFLiteNetwork", Network)
    replies = queue.Queue()
    worker = TrunkWorker(tmp_path, WorkerLimits(threads=1), lambda *reply: replies.put(reply))
    monkeypatch.setattr(worker._heads, "get", lambda _: HEAD)
    online = replace(ONLINE, heads=["h"], payload=b'{"instances": ["x"]}')

    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(trunk_worker, "read_instances", fail)
        worker.accept(1, online)
    monkeypatch.setattr(trunk_worker, "online_reply", fail)  # on the thread that predicts
    worker.accept(2, online)
    for number in (1, 2):
        got, reply = replies.get(timeout=5)
        assert (got, type(reply.error)) == (number, Internal)


def test_images_that_do_not_fit_together_leave_the_thread_alive():
    answers = queue.Queue()
    batcher = MicroBatcher([Network()], max_batch=2, cache=FeatureCache(max_bytes=0), watchdog=Watchdog(60))

    def image(size):
        picture = Picture(key="", decode=lambda: np.zeros((size, size, 3), np.uint8))
        return PredictRequest(read=lambda: picture, heads=[HEAD], done=answers.put)

    batcher.submit([image(1), image(2)], is_online=True)
    assert [type(answers.get(timeout=5)) for _ in range(2)] == [Internal, Internal]
    batcher.submit([image(1)], is_online=True)
    assert answers.get(timeout=5)[0].outputs == [0.0]
