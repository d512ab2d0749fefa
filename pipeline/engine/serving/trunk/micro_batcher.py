"""Micro-batches: the pictures of requests to all classifiers in one queue, drawn by a thread for each core.

A worker thread decodes and resizes what it draws, runs the network on it, and then each picture's heads. It
never waits for a batch to fill: on this runtime a larger batch costs no less per picture (docs/adr/0009), so
waiting would only add latency. A batch is a thread's fair share of the queue at the time it becomes free, so
batches grow under load. Pillow, LiteRT and NumPy release the interpreter lock.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pipeline.engine.serving.messages import worker_failed
from pipeline.engine.serving.trunk.heads import FeatureCache, LoadedHead
from pipeline.engine.serving.watchdog import Watchdog
from pipeline.errors import DeadlineExceeded, PipelineError
from pipeline.types import Float32Features, UInt8Image, UInt8Images

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)


class Network(Protocol):
    """What a worker thread runs; each thread has its own."""

    def pool(self, pixels: UInt8Images) -> Float32Features:
        """Return the pooled features."""

    def forward(self, pixels: UInt8Images) -> tuple[Float32Features, NDArray[np.float32]]:
        """Return the pooled features and the feature maps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictResponse:
    """The answer of one head to one picture.

    Args:
        outputs: Its class probabilities.
        novelty: How unlike the training pictures it is, if that was requested and the model has it.
        features: The direction of its pooled features, if an explanation was requested.
        activation: Its class-activation map, if an explanation was requested.
    """

    outputs: NDArray[np.float32]
    novelty: float | None = None
    features: NDArray[np.uint8] | None = None
    activation: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture that was received and is not decoded yet.

    Args:
        key: Its digest; empty if its features are not kept.
        decode: Returns its pixels, in the size of the network.
    """

    key: str
    decode: Callable[[], UInt8Image]


Outcome = Sequence[PredictResponse | PipelineError] | PipelineError  # of each head, or of the picture


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictRequest:
    """One picture to predict.

    Args:
        read: Returns the picture.
        heads: The heads that answer.
        done: Receives the response of each head, or the error of this picture.
        number: The request that it is of.
        novelty: Whether the novelty is requested.
        explain: Whether an explanation, with the novelty, is requested.
        deadline: When the client gives up, in seconds of the monotonic clock.
    """

    read: Callable[[], Picture]
    heads: Sequence[LoadedHead]
    done: Callable[[Outcome], None]
    number: int = 0
    novelty: bool = False
    explain: bool = False
    deadline: float = float("inf")


@dataclass(slots=True, kw_only=True)
class _Drawn:
    """A picture that a thread has drawn; its features are known or its pixels are read."""

    request: PredictRequest
    key: str
    pixels: UInt8Image | None = None
    features: NDArray[np.float32] | None = None
    feature_map: NDArray[np.float32] | None = None


class MicroBatcher:
    """The queue and its worker threads.

    Args:
        networks: One for each worker thread.
        max_batch: Most pictures in one forward pass.
        cache: The features that are known already.
        watchdog: Watches each batch.
        begin: Told which requests a thread works on next, before it does.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        *,
        max_batch: int,
        cache: FeatureCache,
        watchdog: Watchdog,
        begin: Callable[[int, Sequence[int]], None] = lambda thread, requests: None,
    ) -> None:
        self._num_threads = len(networks)
        self._max_batch = max_batch
        self._cache = cache
        self._watchdog = watchdog
        self._begin = begin
        self._numbers = itertools.count()
        self._queue: list[tuple[bool, int, PredictRequest]] = []
        self._changed = threading.Condition()
        self._sizes: list[int] = []
        for thread, network in enumerate(networks):
            threading.Thread(target=self._run, args=(thread, network), daemon=True).start()

    def submit(self, requests: Sequence[PredictRequest], *, is_online: bool) -> None:
        """Queue requests; online ones go before all others."""
        with self._changed:
            for request in requests:
                heapq.heappush(self._queue, (not is_online, next(self._numbers), request))
            self._changed.notify(len(requests))

    def take_sizes(self) -> list[int]:
        """Return the sizes of the forward passes since the last call."""
        with self._changed:
            sizes, self._sizes = self._sizes, []
        return sizes

    def _take(self) -> list[PredictRequest]:
        with self._changed:
            while not self._queue:
                self._changed.wait()
            fair_share = -(-len(self._queue) // self._num_threads)
            count = min(fair_share, self._max_batch)
            return [heapq.heappop(self._queue)[2] for _ in range(count)]

    def _run(self, thread: int, network: Network) -> None:
        while True:
            requests = self._take()
            self._begin(thread, [request.number for request in requests])
            with self._watchdog.watch():
                self._answer(network, requests)

    def _answer(self, network: Network, requests: Sequence[PredictRequest]) -> None:
        batch = [drawn for request in requests if (drawn := self._draw(request)) is not None]
        if not batch:
            return
        try:
            self._add_features(network, batch)
            outcomes: Sequence[Outcome] = answer_heads(batch)
        except Exception as error:  # the edge of the thread
            log.exception("A forward pass failed.")
            outcomes = [worker_failed(error)] * len(batch)
        for drawn, outcome in zip(batch, outcomes, strict=True):
            drawn.request.done(outcome)

    def _draw(self, request: PredictRequest) -> _Drawn | None:
        """Return a picture with its features or its pixels, or report why it has none and return None."""
        if time.monotonic() > request.deadline:
            request.done(DeadlineExceeded("The prediction was not begun before its deadline; try again."))
            return None
        try:
            picture = request.read()
            features = self._cache.get(picture.key) if picture.key and not request.explain else None
            pixels = picture.decode() if features is None else None
            return _Drawn(request=request, key=picture.key, pixels=pixels, features=features)
        except PipelineError as error:
            request.done(error)
        except Exception as error:  # the edge of the thread, which must survive for the next batch
            log.exception("A picture could not be read.")
            request.done(worker_failed(error))
        return None

    def _add_features(self, network: Network, batch: Sequence[_Drawn]) -> None:
        new = [drawn for drawn in batch if drawn.features is None]
        if not new:
            return
        with self._changed:
            self._sizes.append(len(new))
        pixels = np.stack([drawn.pixels for drawn in new if drawn.pixels is not None])
        if any(drawn.request.explain for drawn in new):
            pooled, maps = network.forward(pixels)
            for drawn, feature_map in zip(new, maps, strict=True):
                drawn.feature_map = feature_map
        else:
            pooled = network.pool(pixels)
        for drawn, features in zip(new, pooled, strict=True):
            drawn.features, drawn.pixels = features, None
            if drawn.key:
                self._cache.put(drawn.key, features)


def answer_heads(batch: Sequence[_Drawn]) -> list[list[PredictResponse | PipelineError]]:
    """Run each head once for each kind of answer, on all the pictures of a batch that it is asked about."""
    asked: dict[tuple[LoadedHead, bool, bool], list[tuple[int, int]]] = {}
    for row, drawn in enumerate(batch):
        for place, head in enumerate(drawn.request.heads):
            key = head, drawn.request.novelty, drawn.request.explain
            asked.setdefault(key, []).append((row, place))
    outcomes: list[list[PredictResponse | PipelineError]] = [
        [worker_failed()] * len(drawn.request.heads) for drawn in batch
    ]
    for (head, novelty, explain), places in asked.items():
        mine = [batch[row] for row, _ in places]
        for (row, place), response in zip(places, _answer(head, mine, novelty, explain), strict=True):
            outcomes[row][place] = response
    return outcomes


def _answer(
    head: LoadedHead, batch: Sequence[_Drawn], novelty: bool, explain: bool
) -> Sequence[PredictResponse | PipelineError]:
    try:
        pooled = np.stack([drawn.features for drawn in batch if drawn.features is not None])
        if explain:
            maps = np.stack([drawn.feature_map for drawn in batch if drawn.feature_map is not None])
            return _explained(head, pooled, maps)
        outputs = head.answers.predict(pooled)
        values = _floats(head.answers.score(pooled) if novelty else None, len(outputs))
        rows = zip(outputs, values, strict=True)
        return [PredictResponse(outputs=row, novelty=value) for row, value in rows]
    except Exception as error:  # of this head; the others answer
        log.exception("The head %s failed.", head.digest)
        return [worker_failed(error)] * len(batch)


def _explained(
    head: LoadedHead, pooled: Float32Features, maps: NDArray[np.float32]
) -> list[PredictResponse | PipelineError]:
    outputs, explanation = head.answers.explain(pooled, maps)
    values = _floats(explanation.novelty, len(outputs))
    rows = zip(outputs, values, explanation.features, explanation.activation, strict=True)
    return [
        PredictResponse(outputs=row, novelty=value, features=each, activation=where)
        for row, value, each, where in rows
    ]


def _floats(values: NDArray[np.float32] | None, count: int) -> list[float | None]:
    return [None] * count if values is None else [float(value) for value in values]
