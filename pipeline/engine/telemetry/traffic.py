"""How many predictions each model answered for its clients, kept across restarts.

The counters of Prometheus begin at nothing with each start, and count what a release tries, too.
`GRAFT_HOME/engine/traffic.json` is written at an interval and when the engine stops.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections import Counter
from pathlib import Path

from pipeline.engine.supervision import supervise
from pipeline.errors import FormatTooNew

log = logging.getLogger(__name__)

FORMAT = 1
SAVE_SECONDS = 30.0


class Traffic:
    """Counts the predictions of clients.

    Args:
        path: The file that keeps the counts.
        seconds: Between writes; a crash loses at most that.
    """

    def __init__(self, path: Path, *, seconds: float = SAVE_SECONDS) -> None:
        self._path = path
        self._seconds = seconds
        self._counts = _read(path)
        self._saved = dict(self._counts)
        self._writer: asyncio.Task[None] | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Predictions by model."""
        return dict(self._counts)

    def count(self, model: str) -> None:
        """Count one prediction that was answered."""
        self._counts[model] += 1

    def forget(self, model: str) -> None:
        """Begin at nothing for a later model of this name."""
        self._counts.pop(model, None)

    def start(self) -> None:
        """Begin to write at the interval."""
        self._writer = asyncio.create_task(supervise("traffic", self._save_periodically))

    async def _save_periodically(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            await asyncio.to_thread(self.save)

    def save(self) -> None:
        """Write the counts if they changed; on a full disk they are written later."""
        counts = dict(self._counts)
        if counts == self._saved:
            return
        new = self._path.with_name(f".{self._path.name}.new")
        try:
            new.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(json.dumps({"format": FORMAT, "predictions": counts}))
            os.replace(new, self._path)
        except OSError as error:
            log.warning("The counts of predictions cannot be written now: %s", error)
            return
        self._saved = counts

    async def stop(self) -> None:
        """Write the rest."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        await asyncio.to_thread(self.save)


def _read(path: Path) -> Counter[str]:
    """Return the counts so far; a damaged file is no reason not to serve."""
    try:
        value = json.loads(path.read_text())
        FormatTooNew.check(f"file {path}", value["format"], FORMAT)
        return Counter({str(model): int(count) for model, count in value["predictions"].items()})
    except FileNotFoundError:
        pass
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        log.error("%s is damaged, so its counts begin anew: %r", path, error)
    return Counter()
