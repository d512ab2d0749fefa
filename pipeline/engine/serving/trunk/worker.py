"""The process of a trunk: one network, the heads of every version that shares it."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from pipeline.engine.serving.images import bad_images_error
from pipeline.engine.serving.in_progress import FILE as IN_PROGRESS, InProgress
from pipeline.engine.serving.instances import (
    Columns,
    PredictionFailed,
    Row,
    TensorValue,
    read_request,
    rows_of,
)
from pipeline.engine.serving.limits import WorkerLimits
from pipeline.engine.serving.messages import LineError, RequestKind, WorkerReply, WorkerRequest, worker_failed
from pipeline.engine.serving.trunk.head_file import NETWORK, SPEC, HeadSource
from pipeline.engine.serving.trunk.heads import FeatureCache, HeadShelf, LoadedHead
from pipeline.engine.serving.trunk.micro_batcher import (
    MicroBatcher,
    Network,
    Outcome,
    Picture,
    PredictRequest,
    PredictResponse,
)
from pipeline.engine.serving.trunk.signatures import (
    SIGNATURES,
    BatchLine,
    Instance,
    no_signature,
    picture_reader,
    read_instances,
)
from pipeline.engine.serving.watchdog import Watchdog
from pipeline.errors import ApiError, FailedPrecondition, InvalidArgument, PipelineError
from pipeline.pixels.spec import PixelSpec
from pipeline.tflite.network import TFLiteNetwork

log = logging.getLogger(__name__)

HeadOutcome: TypeAlias = PredictResponse | PipelineError
MakeReply: TypeAlias = Callable[[str, LoadedHead, Sequence[Instance], Sequence[HeadOutcome]], WorkerReply]


class OutcomeCollector:
    """The outcomes of one request's pictures, which arrive in any order and from any thread.

    Args:
        count: How many pictures there are; at least one.
        finish: Receives all outcomes in order, on the thread that delivers the last.
    """

    def __init__(self, count: int, finish: Callable[[list[Outcome]], None]) -> None:
        self._outcomes: dict[int, Outcome] = {}
        self._count = count
        self._finish = finish
        self._lock = threading.Lock()

    def put(self, index: int, outcome: Outcome) -> None:
        """Store the outcome of one picture."""
        with self._lock:
            self._outcomes[index] = outcome
            is_complete = len(self._outcomes) == self._count
        if is_complete:
            self._finish([self._outcomes[index] for index in range(self._count)])


class TrunkWorker:
    """Answers requests; each reply is sent when it is ready, not in the order of the requests.

    Args:
        directory: The directory of the trunk, whose network the engine has checked.
        limits: The limits of the engine.
        send: Sends a reply; several threads call it.
    """

    def __init__(
        self, directory: Path, limits: WorkerLimits, send: Callable[[int, WorkerReply], None]
    ) -> None:
        self._spec = PixelSpec.from_dict(json.loads((directory / SPEC).read_bytes()))
        self._limits = limits
        self._send = send
        self._heads = HeadShelf(max_bytes=limits.head_bytes)
        count = limits.threads or len(os.sched_getaffinity(0))
        networks = [TFLiteNetwork(directory / NETWORK) for _ in range(count)]
        self._blank = np.zeros((self._spec.height, self._spec.width, 3), np.uint8)
        for network in networks:
            self._warm_up(network)
        cache = FeatureCache(max_bytes=limits.feature_bytes)
        record = Path(tempfile.gettempdir()) / IN_PROGRESS
        self._in_progress = InProgress(record, num_threads=count + 1, max_requests=limits.max_batch)
        self._batcher = MicroBatcher(
            networks,
            max_batch=limits.max_batch,
            cache=cache,
            watchdog=Watchdog(limits.stuck_seconds),
            begin=self._in_progress.begin,
        )
        self._receiver = count  # the thread that reads requests

    def _warm_up(self, network: Network) -> None:
        started = time.perf_counter()
        network.forward(self._blank[None])
        log.info("Warmed up a worker thread in %.2f s.", time.perf_counter() - started)

    def accept(self, number: int, request: WorkerRequest) -> None:
        """Begin to answer one request."""
        numbers = range(number, number + max(1, len(request.heads)))
        self._in_progress.begin(self._receiver, [number])
        try:
            self._accept(numbers, request)
        except PredictionFailed as error:
            self._reply_all(numbers, WorkerReply.online(error))
        except ApiError as error:
            self._reply_all(numbers, WorkerReply.failed(error))
        except Exception as error:  # the edge of the request: the worker goes on with the next one
            log.exception("A request failed.")
            self._reply_all(numbers, WorkerReply.failed(worker_failed(error)))

    def _accept(self, numbers: Sequence[int], request: WorkerRequest) -> None:
        match request.kind:
            case RequestKind.ADD_HEADS:
                self._add_heads(numbers, request)
            case RequestKind.DROP_HEADS:
                for digest in request.heads:
                    self._heads.remove(digest)
                self._reply_all(numbers, WorkerReply())
            case RequestKind.ONLINE:
                self._accept_online(numbers, request)
            case RequestKind.BATCH:
                self._accept_batch(numbers, request)

    def _reply(self, number: int, reply: WorkerReply) -> None:
        self._send(number, reply.with_batches(self._batcher.take_sizes()))

    def _reply_all(self, numbers: Sequence[int], reply: WorkerReply) -> None:
        for number in numbers:
            self._reply(number, reply)

    def _add_heads(self, numbers: Sequence[int], request: WorkerRequest) -> None:
        self._heads.add(HeadSource(**source) for source in json.loads(request.payload))
        if not request.heads:
            self._reply_all(numbers, WorkerReply())
        for number, digest in zip(numbers, request.heads, strict=False):
            self._warm_up_head(number, digest)

    def _warm_up_head(self, number: int, digest: str) -> None:
        """Reply once a blank picture went through the trunk and the head."""
        head = self._heads.get(digest)

        def finish(outcome: Outcome) -> None:
            answer = outcome if isinstance(outcome, PipelineError) else outcome[0]
            failed = FailedPrecondition(f"Failed to load model: {answer}") if _is_error(answer) else None
            self._reply(number, WorkerReply(error=failed))

        picture = Picture(key="blank", decode=lambda: self._blank)
        request = PredictRequest(read=lambda: picture, heads=[head], done=finish)
        self._batcher.submit([request], is_online=True)

    def _accept_online(self, numbers: Sequence[int], request: WorkerRequest) -> None:
        body = read_request(request.payload, max_instances=self._limits.max_instances)
        instances = read_instances(body.instances, body.signature_name)
        self._serve(numbers, request, body.signature_name, instances, online_reply)

    def _accept_batch(self, numbers: Sequence[int], request: WorkerRequest) -> None:
        signature = request.signature_name
        if signature not in SIGNATURES:
            raise InvalidArgument(no_signature(signature), field="prediction_input.signature_name")
        lines = [BatchLine(line=line, signature=signature) for line in request.payload.splitlines()]
        self._serve(numbers, request, signature, lines, batch_reply)

    def _find_heads(
        self, numbers: Sequence[int], request: WorkerRequest
    ) -> tuple[list[int], list[LoadedHead]]:
        """Return the heads of a request with their numbers; one that is lost has its reply here."""
        left, heads = [], []
        for number, digest in zip(numbers, request.heads, strict=True):
            try:
                heads.append(self._heads.get(digest))
                left.append(number)
            except ApiError as error:
                self._reply(number, WorkerReply.failed(error))
        return left, heads

    def _serve(
        self,
        numbers: Sequence[int],
        request: WorkerRequest,
        signature: str,
        instances: Sequence[Instance],
        make_reply: MakeReply,
    ) -> None:
        first = numbers[0]
        numbers, heads = self._find_heads(numbers, request)

        def finish(outcomes: Sequence[Outcome]) -> None:
            for place, (number, head) in enumerate(zip(numbers, heads, strict=True)):
                mine = [each if isinstance(each, PipelineError) else each[place] for each in outcomes]
                self._reply(number, _made(partial(make_reply, signature, head, instances, mine)))

        if not instances or not heads:
            finish([])
            return
        collector = OutcomeCollector(len(instances), finish)
        read = picture_reader(signature, self._spec, self._limits)
        requests = [
            PredictRequest(
                read=partial(instance.read, read),
                heads=heads,
                number=first,
                done=partial(collector.put, index),
                novelty=signature == "keyed",
                explain=signature == "explained",
                deadline=float("inf") if request.deadline is None else request.deadline,
            )
            for index, instance in enumerate(instances)
        ]
        self._batcher.submit(requests, is_online=request.kind == RequestKind.ONLINE)


def _is_error(outcome: HeadOutcome) -> bool:
    return isinstance(outcome, PipelineError)


def _made(make: Callable[[], WorkerReply]) -> WorkerReply:
    """Return a reply, or that it could not be made: this runs on a thread that others need."""
    try:
        return make()
    except Exception as error:  # the edge of the request
        log.exception("A reply could not be made.")
        return WorkerReply.failed(worker_failed(error))


def online_reply(
    signature: str, head: LoadedHead, instances: Sequence[Instance], outcomes: Sequence[HeadOutcome]
) -> WorkerReply:
    """Return the predictions of all instances, or why there are none."""
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
        return WorkerReply.online(make_rows(signature, head, [each.key for each in instances], responses))
    except PredictionFailed as error:
        return WorkerReply.online(error)


def batch_reply(
    signature: str, head: LoadedHead, lines: Sequence[Instance], outcomes: Sequence[HeadOutcome]
) -> WorkerReply:
    """Return the predictions of the lines that could be predicted, and the errors of the others."""
    rows: list[Row] = []
    errors: list[LineError] = []
    for number, (line, outcome) in enumerate(zip(lines, outcomes, strict=True)):
        try:
            if isinstance(outcome, PipelineError):
                raise outcome
            rows += make_rows(signature, head, [line.key], [outcome])
        except PipelineError as error:
            errors.append(LineError(line=number, error=error.message))
    return WorkerReply.batch(rows, errors)


def make_rows(
    signature: str, head: LoadedHead, keys: Sequence[TensorValue], responses: Sequence[PredictResponse]
) -> list[Row]:
    """Return the outputs of a signature, a row for each response."""
    columns: Columns = {"outputs": [each.outputs.tolist() for each in responses]}
    if signature in ("keyed", "explained"):
        may_reject = signature == "keyed"
        labels = [head.answers.label(each.outputs, each.novelty, may_reject=may_reject) for each in responses]
        columns["key"] = list(keys)
        columns["label"], columns["score"] = (
            [label for label, _ in labels],
            [score for _, score in labels],
        )
        if head.answers.has_novelty:
            columns["novelty"] = [each.novelty for each in responses]
    if signature == "explained":
        columns["features"] = [each.features.tolist() for each in responses if each.features is not None]
        maps = [each.activation for each in responses]
        columns["activation"] = [each.tolist() for each in maps if each is not None]
    return rows_of(dict(sorted(columns.items())), len(responses))
