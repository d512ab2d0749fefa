"""Micro-batches: pictures of all requests in one queue, drawn by one thread for each core.

A lane decodes and resizes what it draws and runs the network on it. It never waits for a batch to fill: on
this runtime a larger batch is no cheaper a picture (docs/adr/0009), waiting would only add latency. A batch
is a lane's fair share of what piled up while all lanes were busy, so it grows under load. Pillow and LiteRT
release the interpreter lock.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pipeline.errors import DeadlineExceeded, Internal, PipelineError
from pipeline.types import Float32Outputs, UInt8Image, UInt8Images

log = logging.getLogger(__name__)


class Network(Protocol):
    """What a lane runs; each has its own."""

    def predict(self, pixels: UInt8Images) -> Float32Outputs:
        """Return class probabilities."""

    def explain(self, pixels: UInt8Images) -> tuple[Float32Outputs, Any]:
        """Return class probabilities and an explanation with `features` and `activation`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictResponse:
    """What the network says about one picture.

    Args:
        outputs: One row of class probabilities.
        features: The direction of its pooled features, if it was to be explained.
        activation: Its class-activation map, if it was to be explained.
    """

    outputs: Any
    features: Any = None
    activation: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictRequest:
    """One picture on its way.

    Args:
        read: Returns its pixels, of the network's size.
        done: Told the answer, or what went wrong with this picture.
        explain: Whether it is to be explained.
        deadline: When nobody waits for it any more, in seconds of the monotonic clock.
    """

    read: Callable[[], UInt8Image]
    done: Callable[[PredictResponse | PipelineError], None]
    explain: bool = False
    deadline: float = float("inf")


class MicroBatcher:
    """The queue and the threads that draw from it.

    Args:
        networks: One for each lane.
        max_batch: Most pictures in one forward pass.
    """

    def __init__(self, networks: Sequence[Network], *, max_batch: int) -> None:
        self._count = len(networks)
        self._max_batch = max_batch
        self._numbers = itertools.count()
        self._waiting: list[tuple[bool, int, PredictRequest]] = []
        self._changed = threading.Condition()
        self._sizes: list[int] = []
        for network in networks:
            threading.Thread(target=self._run, args=(network,), daemon=True).start()

    def submit(self, pictures: Sequence[PredictRequest], *, is_online: bool) -> None:
        """Queue pictures; online ones go before all others."""
        with self._changed:
            for picture in pictures:
                heapq.heappush(self._waiting, (not is_online, next(self._numbers), picture))
            self._changed.notify(len(pictures))

    def take_sizes(self) -> list[int]:
        """Return the sizes of the batches that ran since the last call."""
        with self._changed:
            sizes, self._sizes = self._sizes, []
        return sizes

    def _take(self) -> list[PredictRequest]:
        with self._changed:
            while not self._waiting:
                self._changed.wait()
            fair_share = -(-len(self._waiting) // self._count)
            count = min(fair_share, self._max_batch)
            return [heapq.heappop(self._waiting)[2] for _ in range(count)]

    def _run(self, network: Network) -> None:
        while True:
            ready = [(picture, pixels) for picture in self._take() if (pixels := _read(picture)) is not None]
            if not ready:
                continue
            with self._changed:
                self._sizes.append(len(ready))
            pictures = [picture for picture, _ in ready]
            for picture, answer in zip(pictures, _answer(network, ready), strict=True):
                picture.done(answer)


def _read(picture: PredictRequest) -> UInt8Image | None:
    """Return a picture's pixels; a picture that has none is done with, and harms no other."""
    if time.monotonic() > picture.deadline:
        picture.done(DeadlineExceeded("The prediction was not begun before its deadline; try again."))
        return None
    try:
        return picture.read()
    except PipelineError as error:
        picture.done(error)
    except Exception:  # the edge of a thread: the next picture must find it alive
        log.exception("A picture could not be read.")
        picture.done(Internal("The model worker failed; see its log."))
    return None


def _answer(
    network: Network, ready: list[tuple[PredictRequest, UInt8Image]]
) -> Sequence[PredictResponse | PipelineError]:
    pixels = np.stack([pixels for _, pixels in ready])
    try:
        if not any(picture.explain for picture, _ in ready):
            return [PredictResponse(outputs=row) for row in network.predict(pixels)]
        outputs, explanation = network.explain(pixels)
    except Exception:  # the edge of a thread
        log.exception("A forward pass failed.")
        return [Internal("The model worker failed; see its log.")] * len(ready)
    rows = zip(outputs, explanation.features, explanation.activation, strict=True)
    return [PredictResponse(outputs=row, features=each, activation=place) for row, each, place in rows]
