from __future__ import annotations

import io

import pytest

from pipeline.engine.serving.instances import PredictionFailed
from pipeline.engine.serving.messages import LineError, RequestKind, WorkerReply, WorkerRequest
from pipeline.engine.serving.wire import read_frame_blocking
from pipeline.errors import ApiError, ConfigError, Internal, NotFound


def through_a_pipe(frame):
    return read_frame_blocking(io.BytesIO(frame.to_bytes()))


@pytest.mark.parametrize(
    "request_",
    [
        WorkerRequest(kind=RequestKind.ONLINE, payload=b'{"instances": []}', deadline=12.5),
        WorkerRequest(kind=RequestKind.BATCH, payload=b"[1]\n[2]", signature_name="keyed"),
    ],
)
def test_a_request_comes_out_of_the_pipe_as_it_went_in(request_):
    frame = through_a_pipe(request_.to_frame(7))
    assert frame.header["id"] == 7
    assert WorkerRequest.from_frame(frame) == request_


@pytest.mark.parametrize(
    "reply",
    [
        WorkerReply(),
        WorkerReply.online([{"outputs": [0.5, 0.5]}]).with_batches([1, 5]),
        WorkerReply.batch([{"a": 1}, {"a": 2}], [LineError(line=1, error="Invalid JSON")]),
        WorkerReply.batch([], [LineError(line=0, error="bad")]),
    ],
)
def test_a_reply_comes_out_of_the_pipe_as_it_went_in(reply):
    result = WorkerReply.from_frame(through_a_pipe(reply.to_frame(7)))
    assert (result.payload, result.count, result.error) == (reply.payload, reply.count, None)
    assert list(result.line_errors) == list(reply.line_errors)
    assert list(result.batches) == list(reply.batches)
    assert result.or_raise() is result


@pytest.mark.parametrize("kind", ApiError.__subclasses__())
def test_every_error_keeps_its_kind_its_message_and_its_field(kind):
    frame = through_a_pipe(WorkerReply.failed(kind("no", field="name")).to_frame(1))
    with pytest.raises(kind, match="no") as caught:
        WorkerReply.from_frame(frame).or_raise()
    assert caught.value.field == "name"


def test_an_error_of_the_library_is_an_internal_one():
    assert isinstance(WorkerReply.failed(ConfigError("x")).error, Internal)
    error = NotFound("x")
    assert WorkerReply.failed(error).error is error


def test_a_prediction_that_failed_is_the_body_of_a_successful_response():
    reply = WorkerReply.online(PredictionFailed("a bad instance"))
    assert (reply.payload, reply.error) == (b'{"error":"Prediction failed: a bad instance"}', None)
