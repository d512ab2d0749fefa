"""The split ledger: where every picture that a `hash` split ever saw was put.

`datasets/<name>/splits.jsonl`, in the order the pictures were first seen. It only grows, so a picture that
leaves the source and comes back finds its old side. It is written before the version that needs it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from pipeline.errors import ObjectNotFound
from pipeline.preprocess.duplicates import SeenPicture
from pipeline.storage import Storage


def ledger_uri(workspace: str, dataset: str) -> str:
    """Return the ledger's URI."""
    return f"{workspace}/datasets/{dataset}/splits.jsonl"


def read_ledger(storage: Storage, workspace: str, dataset: str) -> list[SeenPicture]:
    """Return every picture seen so far, empty before the first."""
    try:
        data = storage.read_bytes(ledger_uri(workspace, dataset))
    except ObjectNotFound:
        return []
    return [SeenPicture(**json.loads(line)) for line in data.splitlines()]


def write_ledger(seen: Sequence[SeenPicture], storage: Storage, workspace: str, dataset: str) -> None:
    """Replace the ledger as a whole."""
    lines = (json.dumps(asdict(picture), sort_keys=True) for picture in seen)
    storage.write_bytes(ledger_uri(workspace, dataset), "".join(f"{line}\n" for line in lines).encode())
