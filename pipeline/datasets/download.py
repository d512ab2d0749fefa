"""Downloads of many pictures at the same time.

The result is the same whoever is faster, and however often the process was killed in between.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from queue import SimpleQueue

from pipeline.artifacts.fetch_index import FetchedRow
from pipeline.datasets.fetcher import PictureFetcher, Validators
from pipeline.datasets.journal import Journal, JournalLine
from pipeline.datasets.sources.source import SourceEntry
from pipeline.errors import FetchRefused

NUM_LOCKS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of one entry.

    Args:
        entry: The entry.
        line: Blob or reason, validators and time.
        num_bytes: Transferred for it; 0 where nothing was.
    """

    entry: SourceEntry
    line: JournalLine
    num_bytes: int = 0


def utc_now() -> str:
    """Return the time as rows state it; `SOURCE_DATE_EPOCH` makes it repeatable, as in other builds."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    now = datetime.fromtimestamp(int(epoch), UTC) if epoch.isdigit() else datetime.now(UTC)
    return now.isoformat(timespec="seconds")


class Downloads:
    """Gets the pictures of entries by URL.

    An address in the journal is not asked again. One in the last index is asked for changes,
    if its server gave something to ask with, else it is taken as it is.

    Args:
        fetcher: Gets one picture.
        journal: What was done before this process was started.
        last_rows: Rows of the last index by address: their blobs still there, or refused for what they are.
        has_blob: Returns True if there is such a blob.
        concurrency: Downloads at the same time.
    """

    def __init__(
        self,
        fetcher: PictureFetcher,
        journal: Journal,
        last_rows: Mapping[str, FetchedRow],
        *,
        has_blob: Callable[[str], bool],
        concurrency: int,
    ) -> None:
        self._fetcher = fetcher
        self._journal = journal
        self._last_rows = last_rows
        self._has_blob = has_blob
        self._concurrency = concurrency
        self._accepted: Counter[str] = Counter()
        self._limit: int | None = None
        # One address may be in two classes. Its downloads share a part file, so they must not overlap.
        self._locks = [threading.Lock() for _ in range(NUM_LOCKS)]

    def is_full(self, label: str) -> bool:
        """Return True if a class of the current source has as many pictures as are wanted."""
        return self._limit is not None and self._accepted[label] >= self._limit

    def begin(self, limit: int | None) -> None:
        """Count from zero, for the next source."""
        self._accepted.clear()
        self._limit = limit

    def count(self, label: str) -> None:
        """Count a picture of a class that was got otherwise."""
        self._accepted[label] += 1

    def run(self, entries: Iterable[SourceEntry]) -> Iterator[Outcome]:
        """Yield outcomes as they come, in no order.

        With a limit, a class gets the first so many of its entries that are good: an entry is asked for only
        while those before it, taken or under way, are too few. So the choice does not depend on speed.
        """
        with _one_core():  # which the pool's threads inherit
            yield from self._run(entries)

    def _run(self, entries: Iterable[SourceEntry]) -> Iterator[Outcome]:
        running: dict[Future[Outcome], str] = {}
        done: SimpleQueue[Future[Outcome]] = SimpleQueue()
        pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix="graft-fetch")
        try:
            for entry in entries:
                yield from self._collect(running, done, until=partial(self._is_decided, entry.label, running))
                if not self.is_full(entry.label):
                    future = pool.submit(self._get, entry)
                    running[future] = entry.label
                    future.add_done_callback(done.put)
                yield from self._collect(running, done, until=lambda: len(running) < 2 * self._concurrency)
            yield from self._collect(running, done, until=lambda: not running)
        finally:
            pool.shutdown(cancel_futures=True)

    def _is_decided(self, label: str, running: Mapping[Future[Outcome], str]) -> bool:
        if self._limit is None or self.is_full(label):
            return True
        under_way = sum(other == label for other in running.values())
        return self._accepted[label] + under_way < self._limit

    def _collect(
        self,
        running: dict[Future[Outcome], str],
        done: SimpleQueue[Future[Outcome]],
        *,
        until: Callable[[], bool],
    ) -> Iterator[Outcome]:
        while not until():
            future = done.get()
            label = running.pop(future)
            outcome = future.result()
            self._accepted[label] += outcome.line.blob is not None
            yield outcome

    def _get(self, entry: SourceEntry) -> Outcome:
        with self._locks[hash(entry.source_url) % NUM_LOCKS]:
            return self._find_out(entry)

    def _find_out(self, entry: SourceEntry) -> Outcome:
        url = entry.source_url
        done = self._journal.lines.get(url)
        if done is not None and (done.blob is None or self._has_blob(done.blob)):
            return Outcome(entry=entry, line=done)
        if entry.refused is not None:
            return Outcome(entry=entry, line=JournalLine(url=url, reason=str(entry.refused)))
        row = self._last_rows.get(url)
        if row is not None and row.reason is not None and row.validator != entry.validator:
            row = None  # it was refused by another rule
        validators = Validators(etag=row.etag, last_modified=row.last_modified) if row else Validators()
        if row is not None and not validators.prove_something:
            return Outcome(entry=entry, line=_line_of(row))
        before = self._fetcher.num_requests_of_thread
        outcome = self._fetch(entry, row, validators)
        line = replace(outcome.line, requests=self._fetcher.num_requests_of_thread - before)
        self._journal.write(line)
        return replace(outcome, line=line)

    def _fetch(self, entry: SourceEntry, row: FetchedRow | None, validators: Validators) -> Outcome:
        url = entry.source_url
        try:
            fetched = self._fetcher.fetch(
                entry.url or url,
                validators=validators,
                min_side=entry.min_side,
                obeys_robots=entry.obeys_robots,
            )
        except FetchRefused as error:
            proven: Validators = error.details.get("validators", Validators())
            line = JournalLine(
                url=url,
                reason=str(error.reason),
                etag=proven.etag,
                last_modified=proven.last_modified,
                retrieved_at=utc_now(),
                time=time.time(),
            )
            return Outcome(entry=entry, line=line)
        if fetched.kept is None and row is not None:
            return Outcome(entry=entry, line=_line_of(row))
        line = JournalLine(
            url=url,
            blob=fetched.kept,
            levels=fetched.levels,
            etag=fetched.validators.etag,
            last_modified=fetched.validators.last_modified,
            retrieved_at=utc_now(),
            time=time.time(),
        )
        return Outcome(entry=entry, line=line, num_bytes=fetched.num_bytes)


@contextmanager
def _one_core() -> Iterator[None]:
    """Keep this thread, and those it starts, on one core.

    One thread of a process runs Python at a time. Handing that right from core to core, many times for each
    picture, takes a fifth of all processor time (`benchmarks/fetch.py`, where nothing is waited for).
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(allowed)[os.getpid() % len(allowed)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _line_of(row: FetchedRow) -> JournalLine:
    return JournalLine(
        url=row.source_url,
        blob=row.blob or None,
        levels=row.levels,
        reason=row.reason,
        etag=row.etag,
        last_modified=row.last_modified,
        retrieved_at=row.retrieved_at,
        time=time.time(),
    )
