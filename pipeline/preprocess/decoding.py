"""Decoding many pictures: on every core, because Pillow lets other threads run, and in little memory."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from typing import TypeVar

import numpy as np

from pipeline.errors import UndecodableImage
from pipeline.pixels.host import decode_resized, picture_facts
from pipeline.pixels.spec import PixelSpec
from pipeline.storage import Storage
from pipeline.types import UInt8Images

log = logging.getLogger(__name__)

T = TypeVar("T")
LARGE_PIXELS = 4_000_000  # of these one is decoded at a time: 50 megapixels take 350 MB
BATCH = 8  # handing single pictures to threads takes a tenth of the time
LINE_SECONDS = 10.0


def decode_blobs(blobs: Sequence[str], spec: PixelSpec, storage: Storage, workspace: str) -> UInt8Images:
    """Decode picture files and resize their pictures, as `map_blobs` does.

    Shapes:
        returns (n, spec.height, spec.width, 3) uint8.

    Raises:
        UndecodableImage: if a file is no picture.
        ObjectNotFound: if there is no such blob.
    """
    pixels = np.empty((len(blobs), spec.height, spec.width, 3), np.uint8)
    decode = partial(decode_resized, spec=spec)
    for number, picture in enumerate(map_blobs(decode, blobs, storage, workspace)):
        pixels[number] = picture
    return pixels


def map_blobs(
    function: Callable[[bytes], T], blobs: Sequence[str], storage: Storage, workspace: str
) -> Iterator[T]:
    """Yield what a function makes of each picture file, in the order of the blobs.

    The results are those of a loop. A few batches for each core are done ahead of who takes them.

    Args:
        function: Decodes a picture and returns what is wanted of it; called by several threads.
        blobs: SHA-256 of the files.
        storage: Where they are.
        workspace: `gs://bucket` of them.

    Raises:
        Whatever `function` raises, and what reading raises.
    """
    decode = partial(_decode, function, storage, workspace, threading.Lock())
    said, num_threads = time.monotonic(), _num_cores()
    running: deque[Future[list[T]]] = deque()
    with ThreadPoolExecutor(num_threads, thread_name_prefix="graft-decode") as pool:
        for start in range(0, len(blobs), BATCH):
            running.append(pool.submit(decode, blobs[start : start + BATCH]))
            if len(running) > num_threads:
                yield from running.popleft().result()
            if time.monotonic() - said > LINE_SECONDS:
                said = time.monotonic()
                log.info("about %d of %d pictures decoded", start, len(blobs))
        while running:
            yield from running.popleft().result()


def _decode(
    function: Callable[[bytes], T],
    storage: Storage,
    workspace: str,
    large: threading.Lock,
    blobs: Sequence[str],
) -> list[T]:
    results = []
    for blob in blobs:
        data = storage.read_bytes(f"{workspace}/blobs/{blob}")
        with large if _is_large(data) else nullcontext():
            results.append(function(data))
    return results


def _is_large(data: bytes) -> bool:
    try:
        facts = picture_facts(data)
    except UndecodableImage:
        return False
    return facts.width * facts.height > LARGE_PIXELS


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
