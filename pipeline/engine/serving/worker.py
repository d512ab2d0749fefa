"""One model in one process: `python -m pipeline.engine.serving.worker RUNTIME DIRECTORY LIMITS`.

Frames come on stdin and go on stdout. It ends by itself when stdin does, and so when the engine dies.
"""

from __future__ import annotations

import itertools
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from pipeline.engine.serving.instances import PredictionFailed, read_request
from pipeline.engine.serving.limits import TFLITE, WorkerLimits
from pipeline.engine.serving.replies import error_frame, lines_frame, online_frame
from pipeline.engine.serving.wire import Frame, read_frame_blocking
from pipeline.errors import ApiError, FailedPrecondition, Internal, InvalidArgument

log = logging.getLogger(__name__)


class Service(Protocol):
    """A loaded model that answers frames."""

    def accept(self, frame: Frame) -> None:
        """Begin to answer one request."""


def claim_stdout() -> BinaryIO:
    """Keep stdout for frames; whatever else a library prints goes to stderr."""
    sys.stdout.flush()
    frames = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return frames


class TensorFlowWorker:
    """Answers one frame after the other, online ones first.

    Args:
        model: The loaded SavedModel.
        limits: Of the version.
        send: Sends an answer.
    """

    def __init__(self, model: Any, limits: WorkerLimits, send: Callable[[Frame], None]) -> None:
        self._model = model
        self._limits = limits
        self._send = send
        self._numbers = itertools.count()
        self._queue: queue.PriorityQueue[tuple[bool, int, Frame]] = queue.PriorityQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def accept(self, frame: Frame) -> None:
        """Begin to answer one request."""
        self._queue.put((frame.header["kind"] != "online", next(self._numbers), frame))

    def _run(self) -> None:
        while True:
            frame = self._queue.get()[2]
            reply = self._answer(frame)
            self._send(Frame({**reply.header, "id": frame.header["id"]}, reply.payload))

    def _answer(self, frame: Frame) -> Frame:
        try:
            return self._online(frame) if frame.header["kind"] == "online" else self._lines(frame)
        except ApiError as fault:
            return error_frame(fault)
        except Exception:  # the edge of the process
            log.exception("A request failed.")
            return error_frame(Internal("The model worker failed; see its log."))

    def _online(self, frame: Frame) -> Frame:
        request = read_request(frame.payload, max_instances=self._limits.max_instances)
        try:
            return online_frame(self._model.predict(request.instances, request.signature_name))
        except PredictionFailed as error:
            return online_frame(error)

    def _lines(self, frame: Frame) -> Frame:
        name = frame.header["signature_name"]
        try:
            return lines_frame(*self._model.predict_lines(frame.payload.splitlines(), name))
        except PredictionFailed as error:
            raise InvalidArgument(error.message, field="prediction_input.signature_name") from error


def load(runtime: str, directory: Path, limits: WorkerLimits, send: Callable[[Frame], None]) -> Service:
    """Load the model into one runtime and warm it up; only TensorFlow's imports TensorFlow.

    Raises:
        FailedPrecondition: if it cannot be loaded; anything may go wrong in somebody's model.
    """
    try:
        if runtime == TFLITE:
            from pipeline.engine.serving.tflite import TFLiteWorker

            return TFLiteWorker(directory, limits, send)
        from pipeline.engine.serving.saved_model import LoadedModel

        model = LoadedModel(directory, limits)
        model.warm_up()
    except Exception as error:
        log.exception("The model could not be loaded.")
        raise FailedPrecondition(f"Failed to load model: {error} (Error code: 0)") from error
    return TensorFlowWorker(model, limits, send)


def sender(file: BinaryIO) -> Callable[[Frame], None]:
    """Return a function that writes whole frames, whichever thread calls it."""
    lock = threading.Lock()

    def send(frame: Frame) -> None:
        with lock:
            file.write(frame.to_bytes())
            file.flush()

    return send


def inbox(file: BinaryIO) -> queue.SimpleQueue[Frame]:
    """Read frames from now on; at the end of the file the process leaves, even while it is loading."""
    frames: queue.SimpleQueue[Frame] = queue.SimpleQueue()

    def read() -> None:
        while (frame := read_frame_blocking(file)) is not None:
            frames.put(frame)
        os._exit(0)  # whatever the other threads are at: nobody is there to be answered

    threading.Thread(target=read, daemon=True).start()
    return frames


def main(runtime: str, directory: Path, limits: WorkerLimits) -> None:
    """Load, say so, and answer until stdin ends."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    send = sender(claim_stdout())
    frames = inbox(sys.stdin.buffer)
    try:
        service = load(runtime, directory, limits, send)
    except ApiError as fault:
        send(Frame({**error_frame(fault).header, "id": 0}))
        return
    send(Frame({"id": 0}))
    while True:
        service.accept(frames.get())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), WorkerLimits.from_json(sys.argv[3]))
