"""Takedowns: pictures that must be in no later version. The list only grows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from pipeline.artifacts.codec import as_object, build_record
from pipeline.artifacts.folders import DatasetFolder
from pipeline.errors import ObjectNotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class Takedown:
    """A picture that must not be in any later version.

    Args:
        id: Digest of its pixels, None for an address that no version has.
        blobs: Digests of its files.
        urls: Its addresses.
        at: When it was forgotten.
    """

    id: str | None
    blobs: Sequence[str]
    urls: Sequence[str]
    at: str


def read_takedowns(dataset: DatasetFolder) -> list[Takedown]:
    """Return every takedown of a dataset, oldest first."""
    try:
        data = dataset.storage.read_bytes(dataset.takedowns)
    except ObjectNotFound:
        return []
    return [build_record(Takedown, as_object(json.loads(line))) for line in data.splitlines()]


def write_takedowns(dataset: DatasetFolder, takedowns: Iterable[Takedown]) -> None:
    """Replace the list of takedowns as a whole."""
    lines = (json.dumps(asdict(each), sort_keys=True) for each in takedowns)
    dataset.storage.write_bytes(dataset.takedowns, "".join(f"{line}\n" for line in lines).encode())
