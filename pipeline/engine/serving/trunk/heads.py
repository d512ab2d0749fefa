"""The heads of a trunk process: mapped from their files, and the last used ones kept."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import mmap
import resource
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.engine.serving.trunk.head_file import HeadSource, unpack_members
from pipeline.errors import LostHead
from pipeline.tflite.head import head_of
from pipeline.tflite.network import ClassifierHead
from pipeline.tflite.novelty import Novelty
from pipeline.tflite.parts import LABELS_MEMBER, THRESHOLDS_MEMBER

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

NOVELTY_ARRAYS = ("directions", "quantiles")


@dataclass(frozen=True, slots=True, eq=False)
class LoadedHead:
    """A head in memory.

    Args:
        digest: The SHA-256 of its file.
        answers: What it answers.
    """

    digest: str
    answers: ClassifierHead


class HeadShelf:
    """Heads by digest. Those that were not used for longest are unmapped, and mapped again when needed.

    Args:
        max_bytes: Most memory that heads take; the one in use is kept however large it is.
    """

    def __init__(self, *, max_bytes: int) -> None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a mapping holds a descriptor
        self._max_bytes = max_bytes
        self._sources: dict[str, HeadSource] = {}
        self._loaded: OrderedDict[str, LoadedHead] = OrderedDict()

    @property
    def num_loaded(self) -> int:
        """How many heads are in memory."""
        return len(self._loaded)

    def add(self, sources: Iterable[HeadSource]) -> None:
        """Add heads; none is loaded before it is used."""
        self._sources |= {source.digest: source for source in sources}

    def remove(self, digest: str) -> None:
        """Remove a head; requests that have it already are answered."""
        self._sources.pop(digest, None)
        self._loaded.pop(digest, None)

    def get(self, digest: str) -> LoadedHead:
        """Return a head, loading it if it is not in memory.

        Raises:
            LostHead: if there is no such head, or its file is damaged.
        """
        head = self._loaded.get(digest)
        if head is None:
            if digest not in self._sources:
                raise LostHead(f"The trunk has no head {digest}; try again.")
            head = self._loaded[digest] = LoadedHead(digest, map_head(self._sources[digest]))
        self._loaded.move_to_end(digest)
        self._shrink()
        return head

    def _shrink(self) -> None:
        total = sum(head.answers.num_bytes for head in self._loaded.values())
        while total > self._max_bytes and len(self._loaded) > 1:
            _, unused = self._loaded.popitem(last=False)
            total -= unused.answers.num_bytes


def map_head(source: HeadSource) -> ClassifierHead:
    """Map the file of a head and check it.

    Raises:
        LostHead: if it is missing, or has another digest.
    """
    try:
        with open(source.path, "rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        raise LostHead(f"The head {source.digest} cannot be read: {error}; try again.") from error
    actual = hashlib.sha256(data).hexdigest()
    if actual != source.digest:
        raise LostHead(f"The file of the head {source.digest} has the digest {actual}; try again.")
    members = unpack_members(data)
    thresholds: dict[str, Any] = json.loads(bytes(members[THRESHOLDS_MEMBER]))
    arrays = {name.removesuffix(".npy"): _array(each) for name, each in members.items() if ".npy" in name}
    layers = {name.removeprefix("head/"): each for name, each in arrays.items() if name.startswith("head/")}
    novelty = {each: arrays[f"novelty/{each}"] for each in NOVELTY_ARRAYS if f"novelty/{each}" in arrays}
    return ClassifierHead(
        head_of(layers),
        json.loads(bytes(members[LABELS_MEMBER])),
        novelty=Novelty(**novelty) if novelty else None,
        **thresholds,
    )


def _array(data: memoryview) -> NDArray[Any]:
    """Return the array of a `.npy` without copying it; a float32 stays at a multiple of four bytes."""
    start = io.BytesIO(bytes(data[:1024]))
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, is_fortran, dtype = readers[np.lib.format.read_magic(start)](start)
    if dtype.hasobject:
        raise ValueError(f"a head holds numbers only. Received: {dtype}")
    flat = np.frombuffer(data, dtype, offset=start.tell())
    array: NDArray[Any] = flat.reshape(shape, order="F" if is_fortran else "C")
    return array


class FeatureCache:
    """Pooled features by the digest of the picture they are of. Threads may share it.

    Args:
        max_bytes: Most memory that features take.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._features: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> NDArray[np.float32] | None:
        """Return the features of a picture; None if they are not known."""
        with self._lock:
            features = self._features.get(key)
            if features is not None:
                self._features.move_to_end(key)
            return features

    def put(self, key: str, features: NDArray[np.float32]) -> None:
        """Keep the features of a picture."""
        with self._lock:
            if key in self._features or features.nbytes > self._max_bytes:
                return
            self._features[key] = features.copy()  # without the batch that they are a row of
            self._num_bytes += features.nbytes
            while self._num_bytes > self._max_bytes:
                _, oldest = self._features.popitem(last=False)
                self._num_bytes -= oldest.nbytes
