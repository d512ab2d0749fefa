"""Decoding many pictures: on every core, because Pillow lets other threads run, and in little memory."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import numpy as np

from pipeline.artifacts.integrity import read_blob
from pipeline.artifacts.workspace import Workspace
from pipeline.errors import UndecodableImage
from pipeline.pixels.host import decode_resized, picture_facts
from pipeline.pixels.spec import MAX_PIXELS, PixelSpec
from pipeline.types import UInt8Images

log = logging.getLogger(__name__)

T = TypeVar("T")
ROOM_PIXELS = MAX_PIXELS  # decoded at the same time, by all threads: they take 350 MB
BATCH = 8  # handing single pictures to threads takes a tenth of the time
LINE_SECONDS = 10.0


def decode_blobs(workspace: Workspace, blobs: Sequence[str], spec: PixelSpec) -> UInt8Images:
    """Decode picture files and resize their pictures, as `map_blobs` does.

    Shapes:
        returns (n, spec.height, spec.width, 3) uint8.

    Raises:
        UndecodableImage: if a file is no picture.
        ObjectNotFound: if there is no such blob.
    """
    pixels = np.empty((len(blobs), spec.height, spec.width, 3), np.uint8)
    decode = partial(decode_resized, spec=spec)
    for number, picture in enumerate(map_blobs(workspace, decode, blobs)):
        pixels[number] = picture
    return pixels


def map_blobs(workspace: Workspace, function: Callable[[bytes], T], blobs: Sequence[str]) -> Iterator[T]:
    """Yield what a function makes of each picture file, in the order of the blobs.

    The results are those of a loop. One batch for each core is done ahead of who takes them. After an error,
    or when the caller stops, each core finishes the picture that it is decoding.

    Args:
        workspace: Where the files are.
        function: Decodes a picture and returns what is wanted of it; called by several threads.
        blobs: SHA-256 of the files.

    Raises:
        Whatever `function` raises, and what reading raises.
    """
    stopped = threading.Event()
    decode = partial(_decode, workspace, function, _Room(), stopped)
    logged_at, num_threads = time.monotonic(), _num_cores()
    running: deque[Future[list[T]]] = deque()
    with ThreadPoolExecutor(num_threads, thread_name_prefix="graft-decode") as pool:
        try:
            for start in range(0, len(blobs), BATCH):
                running.append(pool.submit(decode, blobs[start : start + BATCH]))
                if len(running) > num_threads:
                    yield from running.popleft().result()
                if time.monotonic() - logged_at > LINE_SECONDS:
                    logged_at = time.monotonic()
                    log.info("about %d of %d pictures decoded", start, len(blobs))
            while running:
                yield from running.popleft().result()
        finally:
            stopped.set()


def _decode(
    workspace: Workspace,
    function: Callable[[bytes], T],
    room: _Room,
    stopped: threading.Event,
    blobs: Sequence[str],
) -> list[T]:
    results = []
    for blob in blobs:
        if stopped.is_set():
            break
        data = read_blob(workspace.storage, workspace.blob(blob))
        with room.taken_by(_num_pixels(data)):
            results.append(function(data))
    return results


class _Room:
    """Memory for so many pixels at a time, however many threads there are."""

    def __init__(self) -> None:
        self._free = ROOM_PIXELS
        self._changed = threading.Condition()

    @contextmanager
    def taken_by(self, pixels: int) -> Iterator[None]:
        pixels = min(pixels, ROOM_PIXELS)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= pixels)
            self._free -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._free += pixels
                self._changed.notify_all()


def _num_pixels(data: bytes) -> int:
    try:
        facts = picture_facts(data)
    except UndecodableImage:
        return 0
    return facts.width * facts.height


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
