"""The split registry: the side of every picture that a `hash` split ever assigned.

Rows are in the order the pictures were first seen. The registry only grows, so a picture that leaves the
source and comes back finds its old side. It is written before the version that needs it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pipeline.artifacts.codec import as_object, build_record
from pipeline.artifacts.fingerprint import FINGERPRINT_KEYS, ImageFingerprint
from pipeline.artifacts.folders import DatasetFolder
from pipeline.errors import ObjectNotFound, RecordInvalid
from pipeline.types import JsonObject, JsonValue

_LEFT_OUT = ("width", "height", "format")
_KEPT = tuple(key for key in FINGERPRINT_KEYS.values() if key not in _LEFT_OUT)
SEARCH = 2  # number of the search for copies; 1 found neither turned nor gray copies, nor large crops


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitAssignment:
    """A picture of an earlier version, still in the source or not, and where it was put.

    Args:
        fingerprint: The picture's; without its size and file format.
        group: Its group.
        split: The group's side, `train` or `test`.
        straddles: True for a training picture that turned out to be a copy of a test picture.
        search: Number of the search that compared it with the pictures before it.
    """

    fingerprint: ImageFingerprint
    group: str
    split: str
    straddles: bool = False
    search: int = 1

    @property
    def id(self) -> str:
        """SHA-256 of the picture's pixels."""
        return self.fingerprint.id

    def to_dict(self) -> dict[str, JsonValue]:
        """Return plain JSON values on one level."""
        decoded = self.fingerprint.to_dict()
        own: dict[str, JsonValue] = {"group": self.group, "split": self.split}
        if self.search > 1:  # absent from rows of the first releases
            own["search"] = self.search
        if self.straddles:
            own["straddles"] = True
        return {**own, **{key: decoded[key] for key in _KEPT}}

    @classmethod
    def from_dict(cls, value: JsonObject) -> SplitAssignment:
        """Read what `to_dict` wrote."""
        own = {name: field for name, field in value.items() if name not in _KEPT}
        fingerprint = ImageFingerprint.from_dict(value)
        if fingerprint is None:
            raise RecordInvalid("a row of the split registry has no picture id.")
        return build_record(cls, own, fingerprint=fingerprint)


@dataclass(frozen=True, slots=True)
class SplitRegistry:
    """The stored assignments of a dataset.

    Args:
        folder: The dataset's.
    """

    folder: DatasetFolder

    def rows(self) -> Iterator[SplitAssignment]:
        """Yield every assignment, none before the first version."""
        try:
            path = self.folder.storage.local_path(self.folder.split_registry)
        except ObjectNotFound:
            return
        with path.open("rb") as file:
            for line in file:
                yield SplitAssignment.from_dict(as_object(json.loads(line)))

    def replace(self, rows: Iterable[SplitAssignment]) -> None:
        """Write the registry anew as a whole."""
        lines = (json.dumps(row.to_dict(), sort_keys=True) for row in rows)
        data = "".join(f"{line}\n" for line in lines).encode()
        self.folder.storage.write_bytes(self.folder.split_registry, data)
