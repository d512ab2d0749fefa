"""HTTP to a v1 service by Google's own client: one bearer token, no proxies, errors in Graft's terms."""

from __future__ import annotations

import http.client
import json
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypedDict, TypeVar, cast

import google.auth.credentials
import google_auth_httplib2
import httplib2  # type: ignore[import-untyped, unused-ignore]
from googleapiclient import discovery
from googleapiclient.errors import Error as ClientError, HttpError

from pipeline.errors import PlatformError, PlatformUnavailable
from pipeline.ml_engine.discovery import Projects, Request
from pipeline.patience import Clock, call_patiently
from pipeline.types import JsonObject

log = logging.getLogger(__name__)

AnswerT = TypeVar("AnswerT")
UNANSWERED = (OSError, httplib2.HttpLib2Error, http.client.HTTPException)
FINAL_STATUSES = (501, 505)  # not implemented: another try is answered the same


class LogPiece(TypedDict):
    """A piece of a job's log as Graft's engine answers it."""

    log: str
    nextOffset: str
    complete: bool


class StaticToken(google.auth.credentials.Credentials):  # type: ignore[no-untyped-call, misc, unused-ignore]
    """A bearer token that never refreshes, so that a 401 reaches the caller as what it is."""

    def __init__(self, token: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.token = token

    def refresh(self, request: google.auth.transport.Request) -> None:
        """Do nothing: the token is all there is."""

    @property
    def expired(self) -> bool:
        """Never."""
        return False

    @property
    def valid(self) -> bool:
        """Always."""
        return True


class V1Transport:
    """The discovery client of `ml` v1, and what its failures mean. Not thread-safe.

    Args:
        endpoint: Base URL, with its scheme.
        token: Bearer token.
        timeout_seconds: For one HTTP exchange.
        patience_seconds: How long a request that is not answered, or answered 429 or 5xx, is made again.
        clock: Paces these requests.
        others: Base URLs of further engines on the same database, for when the first does not answer.
    """

    def __init__(
        self,
        endpoint: str,
        token: str,
        *,
        timeout_seconds: float,
        patience_seconds: float,
        clock: Clock,
        others: Sequence[str] = (),
    ) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._endpoints = deque([self.endpoint, *(other.rstrip("/") for other in others)])
        self._patience_seconds = patience_seconds
        self._clock = clock
        # proxy_info=None: httplib2 would refuse http_proxy without PySocks, whatever no_proxy says.
        self._connections = httplib2.Http(timeout=timeout_seconds, proxy_info=None)
        self._http = google_auth_httplib2.AuthorizedHttp(StaticToken(token), http=self._connections)
        service = discovery.build(
            "ml",
            "v1",
            http=self._http,
            client_options={"api_endpoint": self.endpoint},
            static_discovery=True,
            cache_discovery=False,
        )
        self.projects = cast(Projects, service.projects())

    def close(self) -> None:
        """Close the connections that are kept open."""
        self._connections.close()

    def call(self, request: Request[AnswerT]) -> AnswerT:
        """Send a request, again while the service is unavailable: each call of v1 is safe to repeat.

        Raises:
            PlatformUnavailable: if nothing answers, or the answer is 429 or 5xx but for 501.
            PlatformError: if the service says no; `status` is the HTTP status.
        """
        return call_patiently(lambda: self._send(request), seconds=self._patience_seconds, clock=self._clock)

    def _send(self, request: Request[AnswerT]) -> AnswerT:
        own = request.uri

        def execute(endpoint: str) -> AnswerT:
            request.uri = own.replace(self.endpoint, endpoint, 1)
            return request.execute(num_retries=0)

        try:
            return self._exchange(execute)
        except HttpError as error:
            raise _error_of(error.status_code, error.reason, request.uri.partition("?")[0]) from error
        except ClientError as error:
            raise PlatformError(f"Google's client refused to call {self.endpoint}: {error}") from error
        finally:
            request.uri = own  # it is sent again, and the request for the next page begins with it

    def _exchange(self, exchange: Callable[[str], AnswerT]) -> AnswerT:
        """Ask an engine, or the next if it does not answer; the one that answers is asked first next time."""
        for number in range(len(self._endpoints)):
            try:
                return exchange(self._endpoints[0])
            except UNANSWERED as error:
                failure, asked = error, self._endpoints[0]
            self._endpoints.rotate(-1)
            if number < len(self._endpoints) - 1:
                log.warning(
                    "ML Engine at %s does not answer (%s); asking %s", asked, failure, self._endpoints[0]
                )
        raise PlatformUnavailable(
            f"ML Engine at {' and '.join(self._endpoints)} does not answer: {failure}. Is it running? "
            "`graft status` says."
        ) from failure

    def find(self, request: Request[AnswerT]) -> AnswerT | None:
        """Send a request whose 404 means that there is no such thing."""
        try:
            return self.call(request)
        except PlatformError as error:
            if error_status(error) == 404:
                return None
            raise

    def read_log(self, path: str) -> LogPiece:
        """Return a piece of a job's log: an addition of Graft's engine to v1, at a path below `v1/`."""
        return cast(LogPiece, json.loads(self._read(f"v1/{path}")))

    def read_text(self, path: str) -> str:
        """Return the text that Graft's engine has at a path of its own, beside v1."""
        return self._read(path).decode("utf-8", errors="replace")

    def post(self, path: str, body: JsonObject) -> JsonObject:
        """Return the answer to a call that Graft's engine has beside v1's, at a path below `v1/`.

        Raises:
            PlatformUnavailable, PlatformError: as `call`.
        """
        data = json.dumps(body).encode()
        answer = call_patiently(
            lambda: self._read(f"v1/{path}", data), seconds=self._patience_seconds, clock=self._clock
        )
        return cast(JsonObject, json.loads(answer))

    def _read(self, path: str, data: bytes | None = None) -> bytes:
        method = "GET" if data is None else "POST"
        response, content = self._exchange(
            lambda endpoint: self._http.request(f"{endpoint}/{path}", method, data)
        )
        if response.status != 200:
            what = f"{self._endpoints[0]}/{path}".partition("?")[0]
            raise _error_of(response.status, _reason(response, content), what)
        return bytes(content)


def _reason(response: httplib2.Response, content: bytes) -> str:
    try:
        return str(json.loads(content)["error"]["message"])
    except (ValueError, TypeError, KeyError):  # not this engine: a proxy's page
        return str(response.reason)


def error_status(error: PlatformError) -> int | None:
    """Return the HTTP status a platform error came with."""
    return error.details.get("status")


def _error_of(status: int, reason: str, what: str) -> PlatformError:
    is_transient = status == 429 or (status >= 500 and status not in FINAL_STATUSES)
    kind = PlatformUnavailable if is_transient else PlatformError
    hint = " Check the connection's token." if status in (401, 403) else ""
    return kind(f"{what} answered {status}: {reason}{hint}", status=status, reason=reason)
