"""The signatures of our own models, answered by the TFLite export as the SavedModel would answer them."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from pipeline.engine.serving.images import bad_images_error, read_image
from pipeline.engine.serving.instances import (
    Columns,
    PredictionFailed,
    Row,
    TensorValue,
    check_line,
    columns_of,
    parse_json,
    read_request,
    rows_of,
)
from pipeline.engine.serving.limits import WorkerLimits
from pipeline.engine.serving.messages import LineError, RequestKind, WorkerReply, WorkerRequest, worker_failed
from pipeline.engine.serving.micro_batcher import MicroBatcher, PredictRequest, PredictResponse
from pipeline.engine.serving.watchdog import Watchdog
from pipeline.errors import ApiError, InvalidArgument, PipelineError
from pipeline.pixels.host import resize_picture
from pipeline.tflite.manifest import read_manifest
from pipeline.tflite.network import TFLiteModel
from pipeline.types import JsonValue, UInt8Image

log = logging.getLogger(__name__)

# The inputs of each signature, as the SavedModel has them.
SIGNATURES = {
    "serving_default": ("inputs",),
    "keyed": ("inputs", "key"),
    "explained": ("inputs", "key"),
    "pixels": ("inputs",),
}
Outcome: TypeAlias = PredictResponse | PipelineError
ReadPixels: TypeAlias = Callable[[TensorValue], UInt8Image]


@dataclass(slots=True, kw_only=True)
class Instance:
    """One instance of a request."""

    image: TensorValue = None
    key: TensorValue = None

    def decode(self, read: ReadPixels) -> UInt8Image:
        """Return its pixels; the worker thread that predicts them does this.

        Raises:
            PredictionFailed: if it cannot be predicted.
        """
        return read(self.image)


@dataclass(slots=True, kw_only=True)
class BatchLine(Instance):
    """A line of a batch: it is parsed by the worker thread, and a bad one fails alone."""

    line: bytes
    signature: str

    def decode(self, read: ReadPixels) -> UInt8Image:
        """Parse the line and return its pixels."""
        try:
            value = parse_json(self.line)
        except (ValueError, RecursionError) as error:
            raise PredictionFailed(f"Invalid JSON: {error}") from error
        check_line(value, SIGNATURES[self.signature])
        (instance,) = read_instances([value], self.signature)
        self.key = instance.key
        try:
            return instance.decode(read)
        except PredictionFailed as error:
            raise PredictionFailed(f"Error processing input: {error.message}") from error


class ResponseCollector:
    """The outcomes of one request's images, which arrive in any order and from any thread.

    Args:
        count: How many images there are; at least one.
        finish: Receives all outcomes in order, on the thread that delivers the last.
    """

    def __init__(self, count: int, finish: Callable[[list[Outcome]], None]) -> None:
        self._outcomes: dict[int, Outcome] = {}
        self._count = count
        self._finish = finish
        self._lock = threading.Lock()

    def put(self, index: int, outcome: Outcome) -> None:
        """Store the outcome of one image."""
        with self._lock:
            self._outcomes[index] = outcome
            is_complete = len(self._outcomes) == self._count
        if is_complete:
            self._finish([self._outcomes[index] for index in range(self._count)])


class TFLiteWorker:
    """Answers requests; each reply is sent when it is ready, not in the order of the requests.

    Args:
        directory: A model directory with a TFLite export that the engine has checked.
        limits: The limits of the version.
        send: Sends a reply; several threads call it.

    Raises:
        TFLiteUnavailable: if the TFLite export cannot be used.
    """

    def __init__(
        self, directory: Path, limits: WorkerLimits, send: Callable[[int, WorkerReply], None]
    ) -> None:
        manifest = read_manifest(directory)
        count = limits.threads or len(os.sched_getaffinity(0))
        models = [TFLiteModel(directory, manifest) for _ in range(count)]
        for model in models:
            _warm_up(model)
        self._model = models[0]  # only its labels and sizes are read here: it runs on its own thread
        self._spec = manifest.spec
        self._limits = limits
        self._batcher = MicroBatcher(
            models, max_batch=limits.max_batch, watchdog=Watchdog(limits.stuck_seconds)
        )
        self._send = send

    def accept(self, number: int, request: WorkerRequest) -> None:
        """Begin to answer one request."""
        try:
            if request.kind == RequestKind.ONLINE:
                self._accept_online(number, request)
            else:
                self._accept_batch(number, request)
        except PredictionFailed as error:
            self._reply(number, WorkerReply.online(error))
        except ApiError as error:
            self._reply(number, WorkerReply.failed(error))
        except Exception:  # the edge of the request: the worker goes on with the next one
            log.exception("A request failed.")
            self._reply(number, WorkerReply.failed(worker_failed()))

    def _reply(self, number: int, reply: WorkerReply) -> None:
        self._send(number, reply.with_batches(self._batcher.take_sizes()))

    def _accept_online(self, number: int, request: WorkerRequest) -> None:
        body = read_request(request.payload, max_instances=self._limits.max_instances)
        instances = read_instances(body.instances, body.signature_name)
        self._serve(number, request, body.signature_name, instances, self._online_reply)

    def _accept_batch(self, number: int, request: WorkerRequest) -> None:
        signature = request.signature_name
        if signature not in SIGNATURES:
            raise InvalidArgument(_no_signature(signature), field="prediction_input.signature_name")
        lines = [BatchLine(line=line, signature=signature) for line in request.payload.splitlines()]
        self._serve(number, request, signature, lines, self._batch_reply)

    def _serve(
        self,
        number: int,
        request: WorkerRequest,
        signature: str,
        instances: Sequence[Instance],
        reply: Callable[[str, Sequence[Instance], Sequence[Outcome]], WorkerReply],
    ) -> None:
        def finish(outcomes: list[Outcome]) -> None:
            try:
                answer = reply(signature, instances, outcomes)
            except Exception:  # the edge of the request, on a thread that others need
                log.exception("A reply could not be made.")
                answer = WorkerReply.failed(worker_failed())
            self._reply(number, answer)

        if not instances:
            finish([])
            return
        collector = ResponseCollector(len(instances), finish)
        read: ReadPixels = self._check_pixels if signature == "pixels" else self._read_image
        requests = [
            PredictRequest(
                read=partial(instance.decode, read),
                done=partial(collector.put, index),
                novelty=signature == "keyed",
                explain=signature == "explained",
                deadline=float("inf") if request.deadline is None else request.deadline,
            )
            for index, instance in enumerate(instances)
        ]
        self._batcher.submit(requests, is_online=request.kind == RequestKind.ONLINE)

    def _read_image(self, value: TensorValue) -> UInt8Image:
        return resize_picture(read_image(value, self._limits), self._spec)

    def _check_pixels(self, value: TensorValue) -> UInt8Image:
        return check_pixels(value, (self._spec.height, self._spec.width, 3))

    def _online_reply(
        self, signature: str, instances: Sequence[Instance], outcomes: Sequence[Outcome]
    ) -> WorkerReply:
        problems: dict[int, str] = {}
        responses: list[PredictResponse] = []
        for index, outcome in enumerate(outcomes):
            if isinstance(outcome, PredictResponse):
                responses.append(outcome)
            elif isinstance(outcome, PredictionFailed):
                problems[index] = outcome.message
            else:
                return WorkerReply.failed(outcome)
        if problems:
            return WorkerReply.online(bad_images_error(problems))
        try:
            return WorkerReply.online(self._rows(signature, [each.key for each in instances], responses))
        except PredictionFailed as error:
            return WorkerReply.online(error)

    def _batch_reply(
        self, signature: str, lines: Sequence[Instance], outcomes: Sequence[Outcome]
    ) -> WorkerReply:
        rows: list[Row] = []
        errors: list[LineError] = []
        for number, (line, outcome) in enumerate(zip(lines, outcomes, strict=True)):
            try:
                if isinstance(outcome, PipelineError):
                    raise outcome
                rows += self._rows(signature, [line.key], [outcome])
            except PipelineError as error:
                errors.append(LineError(line=number, error=error.message))
        return WorkerReply.batch(rows, errors)

    def _rows(
        self, signature: str, keys: Sequence[TensorValue], responses: Sequence[PredictResponse]
    ) -> list[Row]:
        columns: Columns = {"outputs": [each.outputs.tolist() for each in responses]}
        if signature in ("keyed", "explained"):
            may_reject = signature == "keyed"
            labels = [
                self._model.label(each.outputs, each.novelty, may_reject=may_reject) for each in responses
            ]
            columns["key"] = list(keys)
            columns["label"], columns["score"] = (
                [label for label, _ in labels],
                [score for _, score in labels],
            )
            if self._model.has_novelty:
                columns["novelty"] = [each.novelty for each in responses]
        if signature == "explained":
            columns["features"] = [each.features.tolist() for each in responses if each.features is not None]
            maps = [each.activation for each in responses]
            columns["activation"] = [each.tolist() for each in maps if each is not None]
        return rows_of(dict(sorted(columns.items())), len(responses))


def read_instances(values: Sequence[JsonValue], signature: str) -> list[Instance]:
    """Return the instances of a request.

    Raises:
        PredictionFailed: if there is no such signature, an input is missing, or a key is not a string.
    """
    if signature not in SIGNATURES:
        raise PredictionFailed(_no_signature(signature))
    columns = columns_of(values, SIGNATURES[signature])
    keys = columns.get("key", [None] * len(values))
    for index, key in enumerate(columns.get("key", [])):
        if not isinstance(key, str | bytes):
            raise PredictionFailed(
                f"Error processing input: instance {index}: a key is a string. Received: {str(key)[:80]!r}"
            )
    return [Instance(image=image, key=key) for image, key in zip(columns["inputs"], keys, strict=True)]


def _no_signature(name: str) -> str:
    return f"the model has no signature {name!r}; it has {', '.join(sorted(SIGNATURES))}."


def check_pixels(value: TensorValue, shape: tuple[int, int, int]) -> UInt8Image:
    """Return the pixels that a client sent as numbers.

    Raises:
        PredictionFailed: if they have another shape, or are not whole numbers from 0 to 255.
    """
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
    log.info("Warmed up a worker thread in %.2f s.", time.perf_counter() - started)
