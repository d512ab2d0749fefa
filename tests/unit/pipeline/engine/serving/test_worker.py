from __future__ import annotations

import queue
import time
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.engine.serving import tflite
from pipeline.engine.serving.limits import WorkerLimits
from pipeline.engine.serving.messages import RequestKind, WorkerRequest
from pipeline.engine.serving.micro_batcher import MicroBatcher, PredictRequest
from pipeline.engine.serving.tflite import TFLiteWorker
from pipeline.engine.serving.worker import SerialWorker
from pipeline.errors import DeadlineExceeded, Internal

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


@pytest.mark.parametrize("error", [RecursionError, MemoryError, KeyError])
def test_any_exception_in_a_tflite_worker_is_the_answer_of_one_request(monkeypatch, error):
    spec = SimpleNamespace(height=1, width=1)
    monkeypatch.setattr(tflite, "read_manifest", lambda _: SimpleNamespace(spec=spec))
    monkeypatch.setattr(tflite, "TFLiteModel", lambda *_: SimpleNamespace(spec=spec))
    monkeypatch.setattr(tflite, "_warm_up", lambda _: None)
    replies = queue.Queue()
    worker = TFLiteWorker(None, WorkerLimits(threads=1), lambda *reply: replies.put(reply))

    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(tflite, "read_instances", fail)
        worker.accept(1, ONLINE)
    monkeypatch.setattr(worker, "_online_reply", fail)  # on the thread that predicts
    worker.accept(2, WorkerRequest(kind=ONLINE.kind, payload=b'{"instances": ["x"]}'))
    for number in (1, 2):
        got, reply = replies.get(timeout=5)
        assert (got, type(reply.error)) == (number, Internal)


def test_images_that_do_not_fit_together_leave_the_thread_alive():
    class Network:
        def predict(self, pixels):
            return pixels[:, 0, 0, :1].astype(np.float32)

    answers = queue.Queue()
    batcher = MicroBatcher([Network()], max_batch=2)

    def image(size):
        return PredictRequest(read=lambda: np.zeros((size, size, 3), np.uint8), done=answers.put)

    batcher.submit([image(1), image(2)], is_online=True)
    assert [type(answers.get(timeout=5)) for _ in range(2)] == [Internal, Internal]
    batcher.submit([image(1)], is_online=True)
    assert answers.get(timeout=5).outputs == [0.0]
