"""The signatures of a model of ours, answered by its light form as the SavedModel would answer them."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from pipeline.engine.serving.images import bad_images_error, read_image
from pipeline.engine.serving.instances import PredictionFailed, columns_of, decode_b64, read_request, rows_of
from pipeline.engine.serving.limits import WorkerLimits
from pipeline.engine.serving.micro_batcher import MicroBatcher, PredictRequest, PredictResponse
from pipeline.engine.serving.replies import error_frame, lines_frame, online_frame
from pipeline.engine.serving.wire import Frame
from pipeline.errors import ApiError, InvalidArgument, PipelineError
from pipeline.pixels.host import resize_picture
from pipeline.tflite.manifest import read_manifest
from pipeline.tflite.network import TFLiteModel
from pipeline.types import UInt8Image

log = logging.getLogger(__name__)

# The inputs of each signature, as the SavedModel has them.
SIGNATURES = {
    "serving_default": ("inputs",),
    "keyed": ("inputs", "key"),
    "explained": ("inputs", "key"),
    "pixels": ("inputs",),
}
Send: TypeAlias = Callable[[Frame], None]
Result: TypeAlias = "PredictResponse | PipelineError"


class ResponseCollector:
    """The answers of one request's pictures, which come back in any order and from any lane.

    Args:
        count: How many pictures there are; at least one.
        finish: Told all answers, in order, by the lane that brings the last.
    """

    def __init__(self, count: int, finish: Callable[[list[Result]], None]) -> None:
        self._answers: list[Any] = [None] * count
        self._missing = count
        self._finish = finish
        self._lock = threading.Lock()

    def place(self, index: int) -> Callable[[Result], None]:
        """Return who is to be told the answer of one picture."""

        def put(answer: Result) -> None:
            self._answers[index] = answer
            with self._lock:
                self._missing -= 1
                is_last = self._missing == 0
            if is_last:
                self._finish(self._answers)

        return put


class TFLiteWorker:
    """Answers frames; each answer is sent when it is ready, not in the order of the questions.

    Args:
        directory: A model directory with a light form, which the engine has checked.
        limits: Of the version.
        send: Sends an answer; may be called by several threads.

    Raises:
        TFLiteUnavailable: if the light form cannot be used.
    """

    def __init__(self, directory: Path, limits: WorkerLimits, send: Send) -> None:
        manifest = read_manifest(directory)
        count = limits.lanes or len(os.sched_getaffinity(0))
        models = [TFLiteModel(directory, manifest) for _ in range(count)]
        for model in models:
            _warm_up(model)
        self._model = models[0]  # its labels and sizes are read, it is run by its lane only
        self._spec = manifest.spec
        self._limits = limits
        self._lanes = MicroBatcher(models, max_batch=limits.max_batch)
        self._send = send

    def accept(self, frame: Frame) -> None:
        """Begin to answer one request."""
        try:
            if frame.header["kind"] == "online":
                self._accept_online(frame)
            else:
                self._accept_lines(frame)
        except ApiError as fault:
            self._reply(frame, error_frame(fault))

    def _reply(self, frame: Frame, reply: Frame) -> None:
        header = {**reply.header, "id": frame.header["id"], "batches": self._lanes.take_sizes()}
        self._send(Frame(header, reply.payload))

    def _accept_online(self, frame: Frame) -> None:
        request = read_request(frame.payload, max_instances=self._limits.max_instances)
        try:
            aliases = _aliases(request.signature_name)
            columns = columns_of(decode_b64(request.instances), aliases)
            keys = _keys(columns)
        except PredictionFailed as error:
            self._reply(frame, online_frame(error))
            return
        name, inputs = request.signature_name, columns["inputs"]
        if not inputs:
            self._reply(frame, online_frame([]))
            return

        def finish(answers: list[Result]) -> None:
            self._reply(frame, self._online_reply(name, answers, keys))

        gathering = ResponseCollector(len(inputs), finish)
        deadline = frame.header.get("deadline", float("inf"))
        pictures = [
            PredictRequest(
                read=self._reader(name, value),
                done=gathering.place(index),
                explain=name == "explained",
                deadline=deadline,
            )
            for index, value in enumerate(inputs)
        ]
        self._lanes.submit(pictures, is_online=True)

    def _reader(self, name: str, value: Any) -> Callable[[], UInt8Image]:
        def read() -> UInt8Image:
            if name == "pixels":
                return _given_pixels(value, (self._spec.height, self._spec.width, 3))
            return resize_picture(read_image(value, self._limits), self._spec)

        return read

    def _online_reply(self, name: str, answers: list[Result], keys: list[Any]) -> Frame:
        for answer in answers:
            if isinstance(answer, PipelineError) and not isinstance(answer, PredictionFailed):
                return error_frame(answer)
        problems = {
            i: answer.message for i, answer in enumerate(answers) if isinstance(answer, PipelineError)
        }
        if problems:
            return online_frame(bad_images_error(problems))
        try:
            return online_frame(self._rows(name, answers, keys))
        except PredictionFailed as error:
            return online_frame(error)

    def _rows(self, name: str, answers: Sequence[Any], keys: list[Any]) -> list[dict[str, Any]]:
        columns: dict[str, list[Any]] = {"outputs": [answer.outputs.tolist() for answer in answers]}
        if name in ("keyed", "explained"):
            columns["key"] = keys
            pairs = [self._model.label(answer.outputs, may_reject=name == "keyed") for answer in answers]
            columns["label"], columns["score"] = [label for label, _ in pairs], [score for _, score in pairs]
        if name == "explained":
            columns["features"] = [answer.features.tolist() for answer in answers]
            columns["activation"] = [answer.activation.tolist() for answer in answers]
        return rows_of(dict(sorted(columns.items())), len(answers))

    def _accept_lines(self, frame: Frame) -> None:
        name = frame.header["signature_name"]
        try:
            _aliases(name)
        except PredictionFailed as error:
            raise InvalidArgument(error.message, field="prediction_input.signature_name") from error
        lines = frame.payload.splitlines()
        keys: list[list[Any]] = [[] for _ in lines]

        def finish(answers: list[Result]) -> None:
            self._reply(frame, self._lines_reply(name, answers, keys))

        if not lines:
            finish([])
            return
        gathering = ResponseCollector(len(lines), finish)
        pictures = [
            PredictRequest(
                read=self._line_reader(name, line, keys[number]),
                done=gathering.place(number),
                explain=name == "explained",
            )
            for number, line in enumerate(lines)
        ]
        self._lanes.submit(pictures, is_online=False)

    def _line_reader(self, name: str, line: bytes, keys: list[Any]) -> Callable[[], UInt8Image]:
        def read() -> UInt8Image:
            try:
                instance = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise PredictionFailed(f"Invalid JSON: {error}") from error
            columns = columns_of(decode_b64([instance]), _aliases(name))
            keys.extend(_keys(columns))
            try:
                return self._reader(name, columns["inputs"][0])()
            except PredictionFailed as error:
                raise PredictionFailed(f"Error processing input: {error.message}") from error

        return read

    def _lines_reply(self, name: str, answers: list[Result], keys: list[list[Any]]) -> Frame:
        results: list[dict[str, Any]] = []
        errors: list[dict[str, Any]] = []
        for number, answer in enumerate(answers):
            try:
                if isinstance(answer, PipelineError):
                    raise answer
                results += self._rows(name, [answer], keys[number])
            except PipelineError as error:
                errors.append({"line": number, "error": error.message})
        return lines_frame(results, errors)


def _aliases(name: str) -> tuple[str, ...]:
    if name not in SIGNATURES:
        raise PredictionFailed(
            f"the model has no signature {name!r}; it has {', '.join(sorted(SIGNATURES))}."
        )
    return SIGNATURES[name]


def _keys(columns: dict[str, list[Any]]) -> list[Any]:
    keys = columns.get("key", [])
    for index, key in enumerate(keys):
        if not isinstance(key, str | bytes):
            raise PredictionFailed(
                f"Error processing input: instance {index}: a key is a string. Received: {str(key)[:80]!r}"
            )
    return keys


def _given_pixels(value: Any, shape: tuple[int, int, int]) -> UInt8Image:
    try:
        levels = np.asarray(value)
    except ValueError as error:
        raise PredictionFailed(f"the levels of a picture are {shape} whole numbers: {error}") from error
    if levels.shape != shape or levels.dtype.kind != "i" or levels.min() < 0 or levels.max() > 255:
        raise PredictionFailed(
            f"the levels of a picture are {shape} whole numbers from 0 to 255. "
            f"Received: {levels.shape} of type {levels.dtype}"
        )
    return levels.astype(np.uint8)


def _warm_up(model: TFLiteModel) -> None:
    started = time.perf_counter()
    model.explain(np.zeros((1, model.spec.height, model.spec.width, 3), np.uint8))
    log.info("Warmed up a lane in %.2f s.", time.perf_counter() - started)
