"""What a run leaves in the bucket while it lives and when it is over: its start, its log, its metrics."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from pipeline.engine.backends import Backend, RunStatus
from pipeline.engine.backends.run_files import Ending
from pipeline.engine.backends.run_log import PIECE_BYTES, LogTarget, LogUpload, pause_seconds


class RunRecord(LogTarget, Protocol):
    """What becomes known of a run while it runs."""

    def note_start(self, started: float) -> None:
        """Write when its program began."""

    def write_metrics(self, data: bytes) -> None:
        """Replace the end of its metric file."""

    def ending(self) -> Ending | None:
        """Return how it ended, if somebody else has ended it."""


class RunReport:
    """Sends what a run of this machine prints and reports.

    Args:
        files: Take what becomes known of it: those of the run in the bucket.
        backend: Runs it.
        run: Its id on the backend.
        limit: Most bytes of its log that are kept.
        num_sent: How many bytes of its log are in the bucket already.
    """

    def __init__(
        self, files: RunRecord, backend: Backend, run: str, *, limit: int, num_sent: int = 0
    ) -> None:
        self._files = files
        self._backend = backend
        self._run = run
        self._upload = LogUpload(files=files, limit=limit, num_sent=num_sent, num_read=num_sent)
        self._started_at = time.monotonic()
        self._next_at = 0.0
        self._metrics = b""
        self._is_noted = False

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next piece of the log."""
        return time.monotonic() >= self._next_at

    def delay(self, seconds: float) -> None:
        """Wait longer than usual for the next piece: the bucket takes none."""
        self._next_at = time.monotonic() + seconds

    async def note_start(self, status: RunStatus) -> None:
        """Send when its program began, once that is known."""
        if status.started is not None and not self._is_noted:
            await asyncio.to_thread(self._files.note_start, status.started)
            self._is_noted = True

    async def send_piece(self) -> None:
        """Send what is new."""
        start, length = self._upload.next_piece(await self._backend.log_size(self._run))
        if length:
            data = await self._backend.log(self._run, start, length)
            await asyncio.to_thread(self._upload.send, data)
        await self._send_metrics()
        self.delay(pause_seconds(time.monotonic() - self._started_at))

    async def send_rest(self) -> None:
        """Send the rest of a log that is complete."""
        size = await self._backend.log_size(self._run)
        start, num_skipped = self._upload.rest(size)
        if num_skipped:
            note = f"\n[{num_skipped} bytes of this log are not kept: it is too long.]\n".encode()
            await asyncio.to_thread(self._upload.send, note, num_read=start - self._upload.num_read)
        while data := await self._backend.log(self._run, self._upload.num_read, PIECE_BYTES):
            await asyncio.to_thread(self._upload.send, data)
        await self._send_metrics()

    async def _send_metrics(self) -> None:
        metrics = await self._backend.metrics(self._run)
        if metrics != self._metrics:
            await asyncio.to_thread(self._files.write_metrics, metrics)
            self._metrics = metrics
