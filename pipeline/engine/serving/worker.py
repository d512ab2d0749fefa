"""One model in one process: `python -m pipeline.engine.serving.worker DIRECTORY`, frames on stdin and stdout.

It ends by itself when stdin does, and so when the engine dies.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import queue
import sys
import threading
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.engine.serving.instances import PredictionFailed, read_request
from pipeline.engine.serving.wire import Frame, read_frame_blocking
from pipeline.errors import EngineFault, FailedPrecondition, Internal, InvalidArgument

log = logging.getLogger(__name__)


def claim_stdout() -> BinaryIO:
    """Keep stdout for frames; whatever else a library prints goes to stderr."""
    sys.stdout.flush()
    frames = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return frames


class Inbox:
    """Requests in the order they should run: online ones first.

    Args:
        file: Where frames come from; at its end the process leaves.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._queue: queue.PriorityQueue[tuple[bool, int, Frame]] = queue.PriorityQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for number in itertools.count():
            frame = read_frame_blocking(self._file)
            if frame is None:
                os._exit(0)
            self._queue.put((frame.header["kind"] != "online", number, frame))

    def take(self) -> Frame:
        """Wait for the next request."""
        return self._queue.get()[2]


def answer_online(model: Any, frame: Frame) -> Frame:
    """Answer `:predict` with the whole response body."""
    request = read_request(frame.payload)
    try:
        body = {"predictions": model.predict(request.instances, request.signature_name)}
    except PredictionFailed as error:
        body = {"error": f"Prediction failed: {error.message}"}
    return Frame({}, json.dumps(body, separators=(",", ":")).encode())


def answer_lines(model: Any, frame: Frame) -> Frame:
    """Answer a batch of JSON lines: a result for each that can be predicted, an error for each other."""
    try:
        results, errors = model.predict_lines(frame.payload.splitlines(), frame.header["signature_name"])
    except PredictionFailed as error:
        raise InvalidArgument(error.message, field="prediction_input.signature_name") from error
    lines = [json.dumps(result, separators=(",", ":")) for result in results]
    return Frame({"errors": errors, "count": len(lines)}, "".join(f"{line}\n" for line in lines).encode())


def answer(model: Any, frame: Frame) -> Frame:
    """Answer one request; a fault becomes part of the answer."""
    try:
        reply = (
            answer_online(model, frame) if frame.header["kind"] == "online" else answer_lines(model, frame)
        )
    except EngineFault as fault:
        reply = fault_frame(fault)
    except Exception:  # the edge of the process
        log.exception("A request failed.")
        reply = fault_frame(Internal("The model worker failed; see its log."))
    return Frame({**reply.header, "id": frame.header["id"]}, reply.payload)


def fault_frame(fault: EngineFault) -> Frame:
    """Return a fault as a frame."""
    return Frame({"fault": {"kind": type(fault).__name__, "message": fault.message, "field": fault.field}})


def load(directory: Path) -> Any:
    """Import TensorFlow, load the model and warm it up.

    Raises:
        FailedPrecondition: if it cannot be loaded; anything may go wrong in somebody's model.
    """
    from pipeline.engine.serving.model import LoadedModel

    try:
        model = LoadedModel(directory)
        model.warm_up()
    except Exception as error:
        log.exception("The model could not be loaded.")
        raise FailedPrecondition(f"Failed to load model: {error} (Error code: 0)") from error
    return model


def main(directory: Path) -> None:
    """Load, say so, and answer until stdin ends."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    out = claim_stdout()

    def send(frame: Frame) -> None:
        out.write(frame.to_bytes())
        out.flush()

    inbox = Inbox(sys.stdin.buffer)
    try:
        model = load(directory)
    except EngineFault as fault:
        send(Frame({**fault_frame(fault).header, "id": 0}))
        return
    send(Frame({"id": 0}))
    while True:
        send(answer(model, inbox.take()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
