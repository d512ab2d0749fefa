"""Request logging: a sample of a version's predictions, as JSON lines in the bucket where v1 had BigQuery."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import uuid
from collections import defaultdict
from datetime import UTC, datetime

from pipeline.engine.supervision import supervise
from pipeline.engine.v1.resources import RequestLoggingConfig
from pipeline.errors import StorageError
from pipeline.storage import Storage

log = logging.getLogger(__name__)

MAX_BYTES = 32_000_000  # of rows that are not written yet; a bucket that is slow costs rows, not memory


class RequestLog:
    """Collects rows and writes them at an interval, each time to a new object.

    The objects are `<workspace>/request_logs/<table>/<model>/<version>/<time>-<id>.jsonl`, the table in full,
    the columns those of v1: `model`, `model_version`, `time`, `raw_data`, `raw_prediction`, `groundtruth`.

    Args:
        storage: Writes them.
        workspace: The bucket.
        seconds: The interval.
    """

    def __init__(self, storage: Storage, workspace: str, *, seconds: float) -> None:
        self._storage = storage
        self._prefix = f"{workspace}/request_logs"
        self._seconds = seconds
        self._rows: defaultdict[str, list[bytes]] = defaultdict(list)
        self._size = self._lost = 0
        self._writer: asyncio.Task[None] | None = None

    def add(self, config: RequestLoggingConfig | None, name: str, body: bytes, response: bytes) -> None:
        """Keep a prediction of the version `model/version` if it is sampled."""
        if config is None or random.random() >= config.sampling_percentage:
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
            "raw_prediction": response.decode(errors="replace"),
            "groundtruth": None,
        }
        line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        self._size += len(line)
        self._rows[f"{self._prefix}/{config.bigquery_table_name.replace(':', '.')}/{name}"].append(line)

    def start(self) -> None:
        """Begin to write at the interval."""
        self._writer = asyncio.create_task(supervise("request log", self._write_periodically))

    async def _write_periodically(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            await asyncio.to_thread(self.write)

    def write(self) -> None:
        """Write the rows collected so far; those that the bucket refuses are lost, and counted in the log."""
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
        """Write the rest."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        await asyncio.to_thread(self.write)
