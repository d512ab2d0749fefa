"""Reads for pages: an object whose name never gets other content is read and parsed once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from pipeline.deploy.summary import run_uri
from pipeline.errors import ObjectNotFound
from pipeline.storage import Storage
from pipeline.types import JsonDict

Value = TypeVar("Value")
MAX_OBJECTS = 20_000  # events and the like, about a kilobyte each


class Cache:
    """The values used last, by key; safe for several threads.

    Args:
        size: How many are kept.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the value of a key, made now if need be; two threads may both make it."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                found: Value = self._values[key]
                return found
        made = make()
        with self._lock:
            self._values[key] = made
            while len(self._values) > self._size:
                self._values.popitem(last=False)
        return made


class ArtifactCache:
    """What pages read of a bucket.

    Args:
        storage: The bucket.
        workspace: Its URI.
    """

    def __init__(self, storage: Storage, workspace: str) -> None:
        self.storage, self.workspace = storage, workspace
        self._objects = Cache(MAX_OBJECTS)
        self.manifests = Cache(4)  # a few megabytes each
        self.features = Cache(2)  # 50 MB for ten thousand pictures
        self.thumbnails = Cache(4000)  # 5 kB each

    def current(self, uri: str) -> Any:
        """Return an object that may change, None where there is none."""
        try:
            return self.storage.read_json(uri)
        except ObjectNotFound:
            return None

    def fixed(self, uri: str) -> Any:
        """Return an object that is never written again, None where there is none yet."""
        try:
            return self._objects.get(uri, lambda: self.storage.read_json(uri))
        except ObjectNotFound:
            return None

    def history(self, name: str, last: int | None = None) -> list[JsonDict]:
        """Return the events of a classifier, oldest first; the last ones alone if a number is given."""
        uris = self.storage.list_uris(f"{self.workspace}/classifiers/{name}/history/")
        events = map(self.fixed, uris if last is None else uris[-last:])
        return [event for event in events if event is not None]

    def latest_dataset(self, name: str) -> JsonDict | None:
        """Return `dataset.json` of the last version that the data gate let through."""
        latest = self.current(f"{self.workspace}/datasets/{name}/latest.json") or {}
        return self.dataset(name, latest["version"]) if latest.get("version") else None

    def dataset(self, name: str, version: str) -> JsonDict | None:
        """Return `dataset.json` of a version, None where there is none."""
        found: JsonDict | None = self.fixed(f"{self.workspace}/datasets/{name}/{version}/dataset.json")
        return found

    def beside_model(self, name: str, version: str, file: str) -> Any:
        """Return an object that a version carries, `lineage.json` for instance."""
        return self.fixed(f"{self.workspace}/models/{name}/{version}/graft/{file}")

    def of_run(self, name: str, run_id: str, file: str) -> Any:
        """Return an object that a run left behind; clearing its tasks writes it again."""
        return self.current(f"{run_uri(self.workspace, name, run_id)}/{file}")
