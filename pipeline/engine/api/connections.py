"""Connections: how many there may be, and how long a request may take to arrive."""

from __future__ import annotations

import asyncio
import logging
import resource
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = logging.getLogger(__name__)

RESERVED_FILES = 256  # descriptors for everything else: the database, workers, jobs, buckets, health checks
MIN_CONNECTIONS = 16


def connection_limit(maximum: int) -> int:
    """Return how many connections there may be: at most half of the descriptors that are not kept back.

    Args:
        maximum: The limit of the settings.
    """
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return maximum
    return max(MIN_CONNECTIONS, min(maximum, files - RESERVED_FILES, files // 2))


class LimitedProtocol(HttpToolsProtocol):
    """A connection with deadlines for the headers and the body of each request, and for reading the answer.

    A connection over the limit closes the oldest one that waits for its client: one that is idle, has sent a
    part of a request, or does not read its answer. So health checks are answered however many connections
    are held open.
    """

    header_seconds: ClassVar[float] = 20.0
    body_seconds: ClassVar[float] = 60.0
    read_seconds: ClassVar[float] = 60.0
    max_connections: ClassVar[int] = 1000
    _arrival: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._await_arrival(self.header_seconds)
        _WAITING[self] = None
        if len(self.connections) > self.max_connections:
            log.debug("There are more than %d connections; one is closed.", self.max_connections)
            next(each for each in _WAITING if each in self.connections).abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._arrived()
        self._stop_reading_timer()
        super().connection_lost(exc)

    def abort(self) -> None:
        """Close the connection at once."""
        _WAITING.pop(self, None)
        self.transport.abort()

    def on_message_begin(self) -> None:
        """Begin to wait for the rest of a request."""
        super().on_message_begin()
        self._await_arrival(self.header_seconds)

    def on_headers_complete(self) -> None:
        """Begin to wait for the body."""
        super().on_headers_complete()
        self._await_arrival(self.body_seconds)

    def on_message_complete(self) -> None:
        """Stop waiting: the request is complete."""
        super().on_message_complete()
        self._arrived()

    def on_response_complete(self) -> None:
        """Wait for the next request; how long is the keep-alive's matter."""
        super().on_response_complete()
        if not self.transport.is_closing() and self.cycle.response_complete and self._arrival is None:
            _WAITING.setdefault(self)

    def pause_writing(self) -> None:
        """Begin to wait for the client to read: what it has not read yet fills the buffer."""
        super().pause_writing()
        _WAITING.setdefault(self)
        self._await_reading()

    def resume_writing(self) -> None:
        """Stop waiting: the client has read."""
        super().resume_writing()
        self._stop_reading_timer()
        if self._arrival is None:
            _WAITING.pop(self, None)

    def _stop_reading_timer(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _await_reading(self) -> None:
        self._stop_reading_timer()
        unread = self.transport.get_write_buffer_size()
        self._reading = self.loop.call_later(self.read_seconds, self._on_unread, unread)

    def _on_unread(self, unread: int) -> None:
        if self.transport.get_write_buffer_size() < unread:  # the client reads slowly
            self._await_reading()
            return
        log.info("An answer is not read; its connection is closed.")
        self.abort()

    def _await_arrival(self, seconds: float) -> None:
        if self._arrival is not None:
            self._arrival.cancel()
        self._arrival = self.loop.call_later(seconds, self._on_late)
        _WAITING.setdefault(self)

    def _arrived(self) -> None:
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None
        _WAITING.pop(self, None)

    def _on_late(self) -> None:
        log.info("A request did not arrive in time; its connection is closed.")
        self._arrival = None
        self.abort()


_WAITING: dict[LimitedProtocol, None] = {}  # for their clients, the oldest first
