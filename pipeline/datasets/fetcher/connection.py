"""Connections that go to checked addresses only, and whose headers must come in time.

Graft speaks HTTP through `requests`. This adapter reaches into urllib3 below it, because `requests` has no
hook between looking a host up and connecting to it, and no deadline for the headers as a whole.
"""

from __future__ import annotations

import itertools
import socket
import threading
import time
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util import Retry

from pipeline.datasets.fetcher.addresses import Resolver, find_addresses, resolve_host
from pipeline.datasets.fetcher.policy import FetchPolicy

WATCH_SECONDS = 0.25


class Watchdog:
    """Ends the wait for headers that come too slowly: the time-out of a socket starts anew with each byte."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[float, Any]] = {}
        self._numbers = itertools.count()
        self._work = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def watch(self, connection: socket.socket, seconds: float) -> int:
        """Shut the connection down unless `release` is called in time."""
        number = next(self._numbers)
        self._waiting[number] = (time.monotonic() + seconds, connection)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="graft-fetch-watchdog", daemon=True)
                self._thread.start()
        self._work.set()
        return number

    def release(self, number: int) -> bool:
        """Stop watching; return True if the deadline was met."""
        return self._waiting.pop(number, None) is not None

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._work.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closed.is_set():
            self._work.wait()
            if not self._waiting:
                self._work.clear()
            now = time.monotonic()
            for number, (deadline, connection) in list(self._waiting.items()):
                if now > deadline:
                    if self.release(number):
                        _shut_down(connection)
            self._closed.wait(WATCH_SECONDS)


def _shut_down(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it has just ended by itself


class GuardedAdapter(HTTPAdapter):
    """Sends requests through connections that check where they go.

    Args:
        policy: Says which private places are open.
        resolve: Answers with the addresses of a host; another one in tests.
    """

    def __init__(self, policy: FetchPolicy, resolve: Resolver = resolve_host) -> None:
        self._policy = policy
        self._resolve = resolve
        self.watchdog = Watchdog()
        # Answers of 429 and 503 are waited for in `client`: there the pauses are a host's, not a thread's.
        retry = Retry(
            connect=1,
            read=False,
            redirect=False,
            status=0,
            other=0,
            backoff_factor=0.2,
            respect_retry_after_header=False,
        )
        super().__init__(pool_connections=64, pool_maxsize=policy.config.concurrency, max_retries=retry)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Make the pools of guarded connections."""
        policy, resolve, watchdog = self._policy, self._resolve, self.watchdog

        class Guarded(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                return _connect(self, policy, resolve)

            def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # urllib3 has its own
                number = watchdog.watch(self.sock, policy.header_seconds)
                try:
                    response = super().getresponse()
                finally:
                    is_late = not watchdog.release(number)
                if is_late:  # cut off headers look like whole ones
                    raise TimeoutError("the headers did not come in time")
                return response

        class GuardedTls(Guarded, HTTPSConnection):
            pass

        class Pool(HTTPConnectionPool):
            ConnectionCls = Guarded

        class TlsPool(HTTPSConnectionPool):
            ConnectionCls = GuardedTls

        super().init_poolmanager(*args, **options)
        manager: PoolManager = self.poolmanager
        manager.pool_classes_by_scheme = {"http": Pool, "https": TlsPool}

    def close(self) -> None:
        """Close the connections and end the watchdog."""
        super().close()
        self.watchdog.close()


def _connect(connection: HTTPConnection, policy: FetchPolicy, resolve: Resolver) -> socket.socket:
    host, port = connection._dns_host, connection.port
    failure: OSError | None = None
    for address in find_addresses(host.rstrip("."), port, policy, resolve):
        try:
            made = socket.create_connection((address, port), policy.connect_seconds)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return made
        except TimeoutError as error:
            raise ConnectTimeoutError(connection, f"{host} did not answer") from error
        except OSError as error:
            failure = error
    raise NewConnectionError(connection, f"{host}:{port} cannot be reached: {failure}") from failure
