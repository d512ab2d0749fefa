"""An engine among those of one database: it follows the leader, and, if it may, leads once there is none."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
from collections.abc import Callable

from pipeline.engine.lease import Leader, Lease
from pipeline.engine.models.reader_tokens import ReaderTokens
from pipeline.engine.models.routes import Routes
from pipeline.engine.supervision import supervise
from pipeline.errors import DatabaseUnavailable

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
SAVE_POLLS = 60


class Member:
    """Follows the leader until this engine leads.

    Args:
        lease: The right to lead.
        routes: Follow the leader's.
        reader_tokens: Likewise.
        lead: Begins to do what only the leader does.
        save: Is called now and then while this engine follows.
        may_lead: Whether it ever leads; one that only predicts does not.
    """

    def __init__(
        self,
        lease: Lease,
        routes: Routes,
        reader_tokens: ReaderTokens,
        *,
        lead: Callable[[], None],
        save: Callable[[], None],
        may_lead: bool = True,
    ) -> None:
        self.lease = lease
        self._may_lead = may_lead
        self._routes = routes
        self._reader_tokens = reader_tokens
        self._lead = lead
        self._save = save
        self._task: asyncio.Task[None] | None = None
        self._problem = ""
        self._tokens_read = (-1, -1)

    def start(self) -> None:
        """Lead if no other engine does, and follow it otherwise."""
        if self._try_to_lead():
            self.lease.keep()
            self._lead()
        else:
            self._task = asyncio.create_task(supervise("follower", self._follow))

    async def stop_following(self) -> None:
        """Follow no more: an engine that is about to end must not begin to lead."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def stop(self) -> None:
        """Give the lease up, after the last change."""
        await self.stop_following()
        await self.lease.end()

    def catch_up(self) -> bool:
        """Read what changed; return whether any route did. The leader knows its own."""
        if self.lease.is_ours:
            return False
        try:
            return self._read(self.lease.look())
        except DatabaseUnavailable:
            return False

    def _read(self, leader: Leader) -> bool:
        if leader.reader_tokens != self._tokens_read:
            self._reader_tokens.refresh()
            self._tokens_read = leader.reader_tokens
        return self._routes.follow(leader.last_change)

    async def _follow(self) -> None:
        for number in itertools.count(1):
            if self._try_to_lead():
                break
            if number % SAVE_POLLS == 0:
                self._save()
            await asyncio.sleep(POLL_SECONDS)
        self.lease.keep()
        try:
            self._lead()
        except Exception:  # the edge of the task: an engine that leads by half would be in everybody's way
            log.critical("The engine cannot lead; it ends.", exc_info=True)
            os.kill(os.getpid(), signal.SIGTERM)

    def _try_to_lead(self) -> bool:
        try:
            leader = self.lease.look()
            self._read(leader)
            leads, self._problem = self._may_lead and self.lease.take(leader), ""
        except DatabaseUnavailable as error:
            if error.message != self._problem:
                self._problem = error.message
                log.warning("The leader cannot be followed now: %s", error.message)
            return False
        return leads
