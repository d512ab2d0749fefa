"""What the engine and its model workers say to each other, as typed messages over frames."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

from pipeline.engine.serving.instances import PredictionFailed, Row
from pipeline.engine.serving.wire import Frame
from pipeline.engine.v1.shortages import shortage
from pipeline.errors import ApiError, Internal, LostHead, PipelineError
from pipeline.types import JsonValue

ERRORS_BY_NAME = {kind.__name__: kind for kind in (*ApiError.__subclasses__(), LostHead)}
READY = 0  # the number of a worker's first reply: it is loaded, or cannot be


def worker_failed(error: Exception | None = None) -> Internal:
    """Return the error of a request that failed in the worker for a reason that is not its own."""
    return Internal(shortage(error) or "The model worker failed; see its log.")


class RequestKind(StrEnum):
    """The two streams of requests, of which online ones are served first, and changes of a trunk's heads."""

    ONLINE = "online"
    BATCH = "batch"
    ADD_HEADS = "add_heads"  # the payload is a JSON list of sources; `heads` are loaded and warmed up
    DROP_HEADS = "drop_heads"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRequest:
    """One request to a model worker.

    Args:
        kind: Online: the payload is the body of `:predict`. Batch: it is JSON lines, an instance each.
        payload: The bytes that the client sent; only the worker reads them.
        signature_name: The signature of a batch; the body of an online request names its own.
        deadline: When the client gives up, in seconds of the monotonic clock of this machine.
        heads: The heads of a trunk that answer, each in a reply of its own: the number of the request is the
            first one's, the others count on.
    """

    kind: RequestKind
    payload: bytes
    signature_name: str = ""
    deadline: float | None = None
    heads: Sequence[str] = ()

    def to_frame(self, number: int) -> Frame:
        """Return the frame that carries the request."""
        header: dict[str, JsonValue] = {"id": number, "kind": self.kind.value, "deadline": self.deadline}
        header |= {"signature_name": self.signature_name, "heads": self.heads}
        return Frame(header, self.payload)

    @classmethod
    def from_frame(cls, frame: Frame) -> WorkerRequest:
        """Read the request in a frame."""
        header = frame.header
        return cls(
            kind=RequestKind(header["kind"]),
            payload=frame.payload,
            signature_name=header["signature_name"],
            deadline=header["deadline"],
            heads=tuple(header["heads"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LineError:
    """Why a line of a batch was not predicted; lines count from 0."""

    line: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReply:
    """The reply to one request.

    Args:
        payload: Online: the body of the response. Batch: the predictions, a line each.
        count: How many lines of a batch were predicted.
        line_errors: The other lines.
        batches: The sizes of the forward passes since the last reply.
        error: Why there is no payload.
    """

    payload: bytes = b""
    count: int = 0
    line_errors: Sequence[LineError] = ()
    batches: Sequence[int] = ()
    error: ApiError | None = None

    @classmethod
    def online(cls, predictions: Sequence[Row] | PredictionFailed) -> WorkerReply:
        """Return the predictions of an online request, or why there are none."""
        if isinstance(predictions, PredictionFailed):
            return cls(payload=_json_bytes({"error": f"Prediction failed: {predictions.message}"}))
        return cls(payload=_json_bytes({"predictions": predictions}))

    @classmethod
    def batch(cls, predictions: Sequence[Row], errors: Sequence[LineError]) -> WorkerReply:
        """Return the predictions of a batch, and the errors of its other lines."""
        lines = b"".join(_json_bytes(row) + b"\n" for row in predictions)
        return cls(payload=lines, count=len(predictions), line_errors=errors)

    @classmethod
    def failed(cls, error: PipelineError) -> WorkerReply:
        """Return an error that the engine answers the request with."""
        return cls(error=error if isinstance(error, ApiError) else Internal(error.message))

    def or_raise(self) -> WorkerReply:
        """Return the reply, or raise its error."""
        if self.error is not None:
            raise self.error
        return self

    def with_batches(self, sizes: Sequence[int]) -> WorkerReply:
        """Return the reply with the sizes of the forward passes since the last one."""
        return replace(self, batches=sizes)

    def to_frame(self, number: int) -> Frame:
        """Return the frame that carries the reply to a request."""
        header: dict[str, JsonValue] = {"id": number, "batches": self.batches}
        if self.error is not None:
            error = self.error
            header["error"] = {"kind": type(error).__name__, "message": error.message, "field": error.field}
        if self.count or self.line_errors:
            header |= {"count": self.count, "line_errors": [asdict(item) for item in self.line_errors]}
        return Frame(header, self.payload)

    @classmethod
    def from_frame(cls, frame: Frame) -> WorkerReply:
        """Read the reply in a frame."""
        header, error = frame.header, None
        if item := header.get("error"):
            error = ERRORS_BY_NAME[item["kind"]](item["message"], field=item["field"])
        return cls(
            payload=frame.payload,
            count=header.get("count", 0),
            line_errors=[LineError(**item) for item in header.get("line_errors", ())],
            batches=header["batches"],
            error=error,
        )


def _json_bytes(value: JsonValue) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
