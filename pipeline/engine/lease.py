"""One engine at a time changes a PostgreSQL database: the leader, which holds a lease and renews it.

The others follow: they read, and take the lease once it runs out. Times are those of the server, so the
clocks of machines need not agree. A leader that does not renew its lease is taken for dead after
`LEASE_SECONDS`, and at once by an engine of the same machine that does not find its process. One that only
stood still meanwhile changes nothing any more: each of its transactions checks first that the lease is still
its own, and locks it, so that transactions of two leaders never overlap.
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
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import ColumnElement, Double, ScalarSelect, cast, extract, func, select, text, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from pipeline.engine.backends.processes import process_start
from pipeline.engine.store import LeaseRow, ReaderTokenRow, RouteChangeRow, Store
from pipeline.engine.supervision import supervise
from pipeline.errors import DatabaseUnavailable

log = logging.getLogger(__name__)

NAME = "engine"  # of the only lease
LEASE_SECONDS = 10.0
RENEW_SECONDS = 2.0


def clock() -> ColumnElement[float]:
    """Return the server's clock in seconds of the epoch."""
    return cast(extract("epoch", func.clock_timestamp()), Double)


def _newest(column: InstrumentedAttribute[int]) -> ScalarSelect[int]:
    return select(func.coalesce(func.max(column), 0)).scalar_subquery()


def _count(column: InstrumentedAttribute[int]) -> ScalarSelect[int]:
    return select(func.count(column)).scalar_subquery()


@dataclass(frozen=True, slots=True, kw_only=True)
class Leader:
    """The engine that the lease names.

    Args:
        holder: Names it to people; empty if it gave the lease up.
        process: What `process_name` returned in it.
        address: Its URL; empty if it has none.
        is_late: Whether its lease has run out.
        last_change: The number of the newest change of routes.
        reader_tokens: How many there are, and the number of the newest: tokens are made and deleted only, so
            the same pair means the same tokens.
    """

    holder: str
    process: str
    address: str
    is_late: bool
    last_change: int
    reader_tokens: tuple[int, int]

    @property
    def is_gone(self) -> bool:
        """Whether another engine may lead."""
        return self.is_late or _is_dead(self.process)


class Lease:
    """The right of one engine to change a database, and who has it.

    Args:
        store: The database.
        home: `GRAFT_HOME`, which names the engine to people.
        address: Where other engines reach this one.
    """

    def __init__(self, store: Store, home: Path, address: str = "") -> None:
        self._store = store
        self._address = address
        self._task: asyncio.Task[None] | None = None
        self._renewal = threading.Lock()  # a renewal in a thread must not outlive the release
        self._has_ended = False
        self._may_take_from = 0.0
        self._named = ""
        self.is_ours = False
        self.leader_address = ""  # where the leader is, unless it is this engine or none
        self.holder = f"{socket.gethostname()}:{home.absolute()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"

    def look(self) -> Leader:
        """Return who leads now.

        Raises:
            DatabaseUnavailable: if that cannot be read; after it, this engine leaves the lease to its holder
                for as long as it takes to renew it.
        """
        columns = (LeaseRow.holder, LeaseRow.process, LeaseRow.address, LeaseRow.expires < clock())
        news = (_newest(RouteChangeRow.seq), _count(ReaderTokenRow.seq), _newest(ReaderTokenRow.seq))
        try:
            with self._store.begin() as session:
                query = select(*columns, *news).where(LeaseRow.name == NAME)
                holder, process, address, is_late, change, tokens, token = session.execute(query).one()
        except DatabaseUnavailable:
            self._may_take_from = time.monotonic() + LEASE_SECONDS
            raise
        leader = Leader(
            holder=holder,
            process=process,
            address=address,
            is_late=is_late,
            last_change=change,
            reader_tokens=(tokens, token),
        )
        self.leader_address = "" if leader.is_gone else leader.address
        return leader

    def take(self, leader: Leader | None = None) -> bool:
        """Take the lease if its holder is gone; return whether this engine has it.

        Args:
            leader: What `look` returned.
        """
        leader = leader or self.look()
        if not leader.is_gone or time.monotonic() < self._may_take_from:
            self._log_leader(leader)
            return False
        self.is_ours = self._write(LeaseRow.holder == leader.holder, LeaseRow.process == leader.process)
        if self.is_ours:
            self.leader_address = ""
            log.info("The engine %s leads now, after %s.", self.holder, leader.holder or "none")
        return self.is_ours

    def _log_leader(self, leader: Leader) -> None:
        if leader.holder != self._named:
            self._named = leader.holder
            where = f" at {leader.address}" if leader.address else ""
            log.info("The engine %s%s leads; this one follows it.", leader.holder, where)

    def renew(self) -> bool:
        """Renew the lease; return False if another engine has taken it."""
        return self._write(LeaseRow.holder == self.holder)

    def _write(self, *conditions: ColumnElement[bool]) -> bool:
        change = update(LeaseRow).where(LeaseRow.name == NAME, *conditions)
        values = change.values(
            holder=self.holder,
            process=process_name(),
            address=self._address,
            expires=clock() + LEASE_SECONDS,
        )
        with self._renewal:
            if self._has_ended:
                return False
            with self._store.begin() as session:
                return session.execute(values.returning(LeaseRow.name)).first() is not None

    def check(self, session: Session) -> None:
        """Begin a transaction: the leader's may write while the lease is its own, a follower's only reads.

        Raises:
            DatabaseUnavailable: if this engine led and another does now.
        """
        if not self.is_ours:
            session.execute(text("SET TRANSACTION READ ONLY"))
            return
        query = select(LeaseRow.holder).filter_by(name=NAME).with_for_update()
        if (holder := session.scalar(query)) != self.holder:
            message = f"The engine {holder} uses the database {self._store.name} now. Nothing was changed."
            raise DatabaseUnavailable(message, retry_after_seconds=1)

    def keep(self) -> None:
        """Renew the lease from now on; the process ends if another engine has taken it."""
        self._task = asyncio.create_task(supervise("lease", self._renew_always))

    async def _renew_always(self) -> None:
        while await self._renew_patiently():
            await asyncio.sleep(RENEW_SECONDS)
        log.critical("The engine %s leads now; this one ends.", (await asyncio.to_thread(self.look)).holder)
        os.kill(os.getpid(), signal.SIGTERM)

    async def _renew_patiently(self) -> bool:
        try:
            return await asyncio.to_thread(self.renew)
        except DatabaseUnavailable as error:  # nobody else can take it either
            log.warning("The lease cannot be renewed: %s", error.message)
            return True

    async def end(self) -> None:
        """Give the lease up, so that another engine can lead at once."""
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
                gone = update(LeaseRow).filter_by(name=NAME, holder=self.holder)
                session.execute(gone.values(holder="", process="", address="", expires=0.0))


def process_name() -> str:
    """Return what tells this process from every other one, of this machine and of others."""
    return f"{_machine()} {os.getpid()} {process_start(os.getpid())}"


def _machine() -> str:
    """Return what tells the processes of this machine, or container, from those of others."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.exists():
        return socket.gethostname()
    return f"{boot.read_text().strip()}/{os.stat('/proc/self/ns/pid').st_ino}"


def _is_dead(process: str) -> bool:
    """Return True if a process ran on this machine and has ended; False if that is not known."""
    machine, _, rest = process.partition(" ")
    pid, _, start = rest.partition(" ")
    return machine == _machine() and pid.isdecimal() and process_start(int(pid)) != start
