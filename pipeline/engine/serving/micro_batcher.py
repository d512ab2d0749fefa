"""Micro-batches: the images of all requests in one queue, drawn by one worker thread for each core.

A worker thread decodes and resizes what it draws and runs the network on it. It never waits for a batch to
fill: on this runtime a larger batch costs no less per image (docs/adr/0009), so waiting would only add
latency. A batch is a thread's fair share of the queue at the time it becomes free, so batches grow under
load. Pillow and LiteRT release the interpreter lock.
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

from pipeline.engine.serving.watchdog import Watchdog
from pipeline.errors import DeadlineExceeded, Internal, PipelineError
from pipeline.types import Float32Outputs, UInt8Image, UInt8Images

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.tflite.network import Explanation

log = logging.getLogger(__name__)


class Network(Protocol):
    """What a worker thread runs; each thread has its own."""

    def predict(self, pixels: UInt8Images) -> Float32Outputs:
        """Return class probabilities."""

    def predict_novelty(self, pixels: UInt8Images) -> tuple[Float32Outputs, NDArray[np.float32] | None]:
        """Return class probabilities, and the novelty of each picture if the model has it."""

    def explain(self, pixels: UInt8Images) -> tuple[Float32Outputs, Explanation]:
        """Return class probabilities and their explanation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictResponse:
    """The network's outputs for one image.

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
class PredictRequest:
    """One image to predict.

    Args:
        read: Returns its pixels, in the size of the network.
        done: Receives the response, or the error of this image.
        novelty: Whether the novelty is requested.
        explain: Whether an explanation, with the novelty, is requested.
        deadline: When the client gives up, in seconds of the monotonic clock.
    """

    read: Callable[[], UInt8Image]
    done: Callable[[PredictResponse | PipelineError], None]
    novelty: bool = False
    explain: bool = False
    deadline: float = float("inf")


class MicroBatcher:
    """The queue and its worker threads.

    Args:
        networks: One for each worker thread.
        max_batch: Most images in one forward pass.
        watchdog: Watches each batch.
    """

    def __init__(self, networks: Sequence[Network], *, max_batch: int, watchdog: Watchdog) -> None:
        self._num_threads = len(networks)
        self._max_batch = max_batch
        self._watchdog = watchdog
        self._numbers = itertools.count()
        self._queue: list[tuple[bool, int, PredictRequest]] = []
        self._changed = threading.Condition()
        self._sizes: list[int] = []
        for network in networks:
            threading.Thread(target=self._run, args=(network,), daemon=True).start()

    def submit(self, requests: Sequence[PredictRequest], *, is_online: bool) -> None:
        """Queue requests; online ones go before all others."""
        with self._changed:
            for request in requests:
                heapq.heappush(self._queue, (not is_online, next(self._numbers), request))
            self._changed.notify(len(requests))

    def take_sizes(self) -> list[int]:
        """Return the sizes of the batches that ran since the last call."""
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

    def _run(self, network: Network) -> None:
        while True:
            requests = self._take()
            with self._watchdog.watch():
                self._answer(network, requests)

    def _answer(self, network: Network, requests: Sequence[PredictRequest]) -> None:
        batch = [(request, pixels) for request in requests if (pixels := _read(request)) is not None]
        if not batch:
            return
        with self._changed:
            self._sizes.append(len(batch))
        for (request, _), response in zip(batch, _predict(network, batch), strict=True):
            request.done(response)


def _read(request: PredictRequest) -> UInt8Image | None:
    """Return the pixels of a request, or report why it has none and return None."""
    if time.monotonic() > request.deadline:
        request.done(DeadlineExceeded("The prediction was not begun before its deadline; try again."))
        return None
    try:
        return request.read()
    except PipelineError as error:
        request.done(error)
    except Exception:  # the edge of the thread, which must survive for the next batch
        log.exception("An image could not be read.")
        request.done(Internal("The model worker failed; see its log."))
    return None


def _predict(
    network: Network, batch: list[tuple[PredictRequest, UInt8Image]]
) -> Sequence[PredictResponse | PipelineError]:
    try:
        pixels = np.stack([pixels for _, pixels in batch])
        if not any(request.explain or request.novelty for request, _ in batch):
            return [PredictResponse(outputs=row) for row in network.predict(pixels)]
        if not any(request.explain for request, _ in batch):
            outputs, novelty = network.predict_novelty(pixels)
            pairs = zip(outputs, _floats(novelty, len(outputs)), strict=True)
            return [PredictResponse(outputs=row, novelty=value) for row, value in pairs]
        outputs, explanation = network.explain(pixels)
    except Exception:  # the edge of the thread
        log.exception("A forward pass failed.")
        return [Internal("The model worker failed; see its log.")] * len(batch)
    values = _floats(explanation.novelty, len(outputs))
    rows = zip(outputs, values, explanation.features, explanation.activation, strict=True)
    return [
        PredictResponse(outputs=row, novelty=value, features=each, activation=where)
        for row, value, each, where in rows
    ]


def _floats(values: NDArray[np.float32] | None, count: int) -> list[float | None]:
    return [None] * count if values is None else [float(value) for value in values]
