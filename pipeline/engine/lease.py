"""One engine at a time uses a PostgreSQL database: it holds a lease, which it renews while it runs.

Times are those of the server, so the clocks of machines need not agree. An engine that does not renew its
lease is taken for dead after `LEASE_SECONDS`, and another may start. One that only stood still meanwhile
changes nothing any more: each of its transactions checks first that the lease is still its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
import time
import uuid
from pathlib import Path

from sqlalchemy import ColumnElement, Double, cast, extract, func, select, update
from sqlalchemy.orm import Session

from pipeline.engine.store import LeaseRow, Store
from pipeline.engine.supervision import supervise
from pipeline.errors import DatabaseUnavailable, StackError

log = logging.getLogger(__name__)

NAME = "engine"  # of the only lease
LEASE_SECONDS = 10.0
RENEW_SECONDS = 2.0


def clock() -> ColumnElement[float]:
    """Return the server's clock in seconds of the epoch."""
    return cast(extract("epoch", func.clock_timestamp()), Double)


class Lease:
    """The right of one engine to use a database.

    Args:
        store: The database.
        home: `GRAFT_HOME`, which names the engine to people.
    """

    def __init__(self, store: Store, home: Path) -> None:
        self._store = store
        self._task: asyncio.Task[None] | None = None
        self._renewal = threading.Lock()  # a renewal in a thread must not outlive the release
        self._has_ended = False
        self.holder = f"{socket.gethostname()}:{home.absolute()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"

    def take(self, *, patience_seconds: float = LEASE_SECONDS + 2) -> None:
        """Take the lease once no other engine renews it.

        Raises:
            StackError: if one goes on renewing it.
        """
        deadline = time.monotonic() + patience_seconds
        while not self.renew():
            if time.monotonic() > deadline:
                raise StackError(
                    f"The engine {self._find_holder()} uses the database {self._store.name}, and one at a "
                    "time may. Stop it, or name another database in GRAFT_DATABASE."
                )
            log.info("Waiting for the lease of the engine %s to run out.", self._find_holder())
            time.sleep(min(RENEW_SECONDS, patience_seconds))

    def _find_holder(self) -> str | None:
        with self._store.begin() as session:
            return session.scalar(select(LeaseRow.holder).filter_by(name=NAME))

    def renew(self) -> bool:
        """Renew the lease, or take one that has run out; return whether this engine has it."""
        is_free = (LeaseRow.holder == self.holder) | (LeaseRow.expires < clock())
        change = update(LeaseRow).where(LeaseRow.name == NAME, is_free)
        values = change.values(holder=self.holder, expires=clock() + LEASE_SECONDS)
        with self._renewal:
            if self._has_ended:
                return False
            with self._store.begin() as session:
                return session.execute(values.returning(LeaseRow.name)).first() is not None

    def check(self, session: Session) -> None:
        """Check that the lease is this engine's, and stays so until the transaction ends.

        Raises:
            DatabaseUnavailable: if another engine has it.
        """
        query = select(LeaseRow.holder).filter_by(name=NAME).with_for_update(read=True)
        if (holder := session.scalar(query)) != self.holder:
            text = f"The engine {holder} uses the database {self._store.name} now. Nothing was changed."
            raise DatabaseUnavailable(text, retry_after_seconds=60)

    def keep(self) -> None:
        """Renew the lease from now on; the process ends if another engine has taken it."""
        self._task = asyncio.create_task(supervise("lease", self._renew_always))

    async def _renew_always(self) -> None:
        while await self._renew_patiently():
            await asyncio.sleep(RENEW_SECONDS)
        log.critical("The engine %s uses the database %s now.", self._find_holder(), self._store.name)
        os.kill(os.getpid(), signal.SIGTERM)

    async def _renew_patiently(self) -> bool:
        try:
            return await asyncio.to_thread(self.renew)
        except DatabaseUnavailable as error:  # nobody else can take it either
            log.warning("The lease cannot be renewed: %s", error.message)
            return True

    async def end(self) -> None:
        """Give the lease up, so that another engine can start at once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            self._release()
        except DatabaseUnavailable as error:
            log.warning("The lease runs out by itself: %s", error.message)

    def _release(self) -> None:
        with self._renewal:
            self._has_ended = True
            with self._store.begin() as session:
                session.execute(update(LeaseRow).filter_by(name=NAME, holder=self.holder).values(expires=0.0))
