"""A trunk or a model in one process: `python -m pipeline.engine.serving.worker RUNTIME DIRECTORY LIMITS`.

Frames come on stdin and go on stdout. It ends by itself when stdin does, and so when the engine dies.
"""

from __future__ import annotations

import itertools
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, TypeAlias

from pipeline.engine.serving.artifacts import model_file
from pipeline.engine.serving.instances import PredictionFailed, read_request
from pipeline.engine.serving.limits import KERAS, ONNX, TENSORFLOW, TFLITE, TFLITE_FILE, WorkerLimits
from pipeline.engine.serving.messages import READY, RequestKind, WorkerReply, WorkerRequest, worker_failed
from pipeline.engine.serving.wire import Frame, read_frame_blocking
from pipeline.errors import ApiError, DeadlineExceeded, FailedPrecondition, InvalidArgument

if TYPE_CHECKING:
    from pipeline.engine.serving.model import LoadedModel

log = logging.getLogger(__name__)


Send: TypeAlias = Callable[[int, WorkerReply], None]


class Worker(Protocol):
    """A loaded trunk or model that answers requests."""

    def accept(self, number: int, request: WorkerRequest) -> None:
        """Begin to answer a request; the reply carries its number."""


def claim_stdout() -> BinaryIO:
    """Reserve stdout for frames; what libraries print goes to stderr."""
    sys.stdout.flush()
    frames = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return frames


class SerialWorker:
    """Answers one request after the other, online ones first.

    Args:
        model: The loaded model.
        limits: The limits of the version.
        send: Sends a reply.
    """

    def __init__(self, model: LoadedModel, limits: WorkerLimits, send: Send) -> None:
        self._model = model
        self._limits = limits
        self._send = send
        self._sequence = itertools.count()
        self._queue: queue.PriorityQueue[tuple[bool, int, int, WorkerRequest]] = queue.PriorityQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def accept(self, number: int, request: WorkerRequest) -> None:
        """Begin to answer one request."""
        self._queue.put((request.kind != RequestKind.ONLINE, next(self._sequence), number, request))

    def _run(self) -> None:
        while True:
            _, _, number, request = self._queue.get()
            self._send(number, self._answer(request))

    def _answer(self, request: WorkerRequest) -> WorkerReply:
        try:
            if request.deadline is not None and time.monotonic() > request.deadline:
                raise DeadlineExceeded("The prediction was not begun before its deadline; try again.")
            return self._online(request) if request.kind == RequestKind.ONLINE else self._batch(request)
        except ApiError as error:
            return WorkerReply.failed(error)
        except Exception as error:  # the edge of the process
            log.exception("A request failed.")
            return WorkerReply.failed(worker_failed(error))

    def _online(self, request: WorkerRequest) -> WorkerReply:
        body = read_request(request.payload, max_instances=self._limits.max_instances)
        try:
            return WorkerReply.online(self._model.predict(body.instances, body.signature_name))
        except PredictionFailed as error:
            return WorkerReply.online(error)

    def _batch(self, request: WorkerRequest) -> WorkerReply:
        lines = request.payload.splitlines()
        try:
            return WorkerReply.batch(*self._model.predict_lines(lines, request.signature_name))
        except PredictionFailed as error:
            raise InvalidArgument(error.message, field="prediction_input.signature_name") from error


def _load_saved_model(directory: Path, limits: WorkerLimits) -> LoadedModel:
    from pipeline.engine.serving.saved_model import load_saved_model

    return load_saved_model(directory, limits)


def _load_keras_file(directory: Path, limits: WorkerLimits) -> LoadedModel:
    from pipeline.engine.serving.keras_file import load_keras_file

    return load_keras_file(model_file(directory), limits)


def _load_tflite_file(directory: Path, limits: WorkerLimits) -> LoadedModel:
    from pipeline.engine.serving.tflite_file import load_tflite_file

    return load_tflite_file(model_file(directory), limits)


def _load_onnx_file(directory: Path, limits: WorkerLimits) -> LoadedModel:
    from pipeline.engine.serving.onnx_file import load_onnx_file

    return load_onnx_file(model_file(directory), limits)


LOADERS: dict[str, Callable[[Path, WorkerLimits], LoadedModel]] = {
    TENSORFLOW: _load_saved_model,
    KERAS: _load_keras_file,
    TFLITE_FILE: _load_tflite_file,
    ONNX: _load_onnx_file,
}


def load(runtime: str, directory: Path, limits: WorkerLimits, send: Send) -> Worker:
    """Load a trunk or a model into its runtime and warm it up; TensorFlow is imported where needed only.

    Raises:
        FailedPrecondition: if it cannot be loaded, whatever the reason.
    """
    try:
        if runtime == TFLITE:
            from pipeline.engine.serving.trunk.worker import TrunkWorker

            return TrunkWorker(directory, limits, send)
        model = LOADERS[runtime](directory, limits)
        model.warm_up()
    except Exception as error:
        log.exception("The model could not be loaded.")
        raise FailedPrecondition(f"Failed to load model: {error} (Error code: 0)") from error
    return SerialWorker(model, limits, send)


def sender(file: BinaryIO) -> Send:
    """Return a function that writes whole frames and may be called by any thread."""
    lock = threading.Lock()

    def send(number: int, reply: WorkerReply) -> None:
        with lock:
            file.write(reply.to_frame(number).to_bytes())
            file.flush()

    return send


def inbox(file: BinaryIO) -> queue.SimpleQueue[Frame]:
    """Read frames in the background; the process exits at the end of the file, even while it is loading."""
    frames: queue.SimpleQueue[Frame] = queue.SimpleQueue()

    def read() -> None:
        while (frame := read_frame_blocking(file)) is not None:
            frames.put(frame)
        os._exit(0)  # whatever the other threads do: the engine is gone

    threading.Thread(target=read, daemon=True).start()
    return frames


def main(runtime: str, directory: Path, limits: WorkerLimits) -> None:
    """Load the model, report that it is ready, and answer requests until stdin ends."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    send = sender(claim_stdout())
    frames = inbox(sys.stdin.buffer)
    try:
        worker = load(runtime, directory, limits, send)
    except ApiError as error:
        send(READY, WorkerReply.failed(error))
        return
    send(READY, WorkerReply())
    while True:
        frame = frames.get()
        worker.accept(frame.header["id"], WorkerRequest.from_frame(frame))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), WorkerLimits.from_json(sys.argv[3]))
