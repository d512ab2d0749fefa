"""Request logging: a sample of a version's predictions, as JSON lines in the bucket where v1 had BigQuery."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import uuid
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipeline.errors import StorageError
from pipeline.storage import Storage

log = logging.getLogger(__name__)

MAX_BYTES = 32_000_000  # of rows that are not written yet; a bucket that is slow costs rows, not memory


@dataclass(frozen=True, slots=True)
class Sample:
    """Which predictions of a version are kept, and under which name.

    Args:
        fraction: Of all predictions, 0 to 1.
        table: As v1 names a table, `project.dataset.table`.
    """

    fraction: float
    table: str


def sample_of(version: Mapping[str, Any]) -> Sample | None:
    """Return what a version's `requestLoggingConfig` says; None where nothing is to be kept.

    Args:
        version: The resource, in lowerCamelCase.
    """
    config = version.get("requestLoggingConfig") or {}
    fraction = float(config.get("samplingPercentage", 0))
    return Sample(fraction, config["bigqueryTableName"]) if fraction > 0 else None


class RequestLog:
    """Gathers rows and writes them now and then, each time a new object.

    The objects are `<workspace>/request_logs/<table>/<model>/<version>/<time>-<id>.jsonl`, the table in full,
    the columns those of v1: `model`, `model_version`, `time`, `raw_data`, `raw_prediction`, `groundtruth`.

    Args:
        storage: Where they are written.
        workspace: The bucket.
        seconds: Between two writings.
    """

    def __init__(self, storage: Storage, workspace: str, *, seconds: float) -> None:
        self._storage = storage
        self._prefix = f"{workspace}/request_logs"
        self._seconds = seconds
        self._rows: defaultdict[str, list[bytes]] = defaultdict(list)
        self._size = self._lost = 0
        self._writing: asyncio.Task[None] | None = None

    def note(self, sample: Sample | None, name: str, body: bytes, answer: bytes) -> None:
        """Keep a prediction of the version `model/version`, if chance wills it."""
        if sample is None or random.random() >= sample.fraction:
            return
        if self._size + len(body) > MAX_BYTES:
            self._lost += 1
            return
        model, _, version = name.partition("/")
        row = {
            "model": model,
            "model_version": version,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "raw_data": body.decode(errors="replace"),
            "raw_prediction": answer.decode(errors="replace"),
            "groundtruth": None,
        }
        line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        self._size += len(line)
        self._rows[f"{self._prefix}/{sample.table.replace(':', '.')}/{name}"].append(line)

    def start(self) -> None:
        """Write now and then from now on."""
        self._writing = asyncio.create_task(self._write_now_and_then())

    async def _write_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            await asyncio.to_thread(self.write)

    def write(self) -> None:
        """Write what there is; rows that the bucket does not take are lost, and counted in the log."""
        rows, self._rows = self._rows, defaultdict(list)
        self._size = 0
        for folder, lines in rows.items():
            moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
            try:
                self._storage.write_bytes(f"{folder}/{moment}-{uuid.uuid4().hex[:8]}.jsonl", b"".join(lines))
            except StorageError as error:
                log.error("%d logged predictions are lost: %s", len(lines), error.message)
        if self._lost:
            log.warning("%d predictions were not logged: the bucket is too slow.", self._lost)
            self._lost = 0

    async def stop(self) -> None:
        """Write what is left."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
        await asyncio.to_thread(self.write)
