"""Requests with every check: of each address on the way, of the pace, and of the answer."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

import requests
from urllib3.exceptions import ProtocolError

from pipeline.datasets.fetcher.addresses import Resolver, check_port, resolve_host, split_url
from pipeline.datasets.fetcher.connection import GuardedAdapter
from pipeline.datasets.fetcher.hosts import HostTable
from pipeline.datasets.fetcher.limited_reader import read_body
from pipeline.datasets.fetcher.policy import MAX_REDIRECTS, FetchPolicy
from pipeline.datasets.fetcher.reasons import FetchReason
from pipeline.errors import FetchRefused
from pipeline.types import JsonValue

SECRET_KEYS = frozenset({"key", "api_key", "apikey", "access_token", "token", "signature", "sig"})
MAX_TEXT_BYTES = 10_000_000
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


def public_url(url: str) -> str:
    """Return the address without user, password and keys, as logs and manifests may show it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(no address)"
    if parts.scheme not in ("http", "https"):
        return url
    query = parts.query
    if any(name.lower() in SECRET_KEYS for name, _ in parse_qsl(query)):
        kept = parse_qsl(query, keep_blank_values=True)
        query = urlencode([pair for pair in kept if pair[0].lower() not in SECRET_KEYS])
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=query))


class HttpClient:
    """Sends requests under a policy; used by many threads, closed once.

    Proxies, cookies and passwords of the environment are not used.

    Args:
        policy: What may be asked, and how patiently.
        resolve: Answers with the addresses of a host; another one in tests.
        sleep: Waits; another one in tests.
    """

    def __init__(
        self,
        policy: FetchPolicy,
        *,
        resolve: Resolver = resolve_host,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.policy = policy
        self.hosts = HostTable(
            policy.config.requests_per_second / policy.num_tasks,
            retry_after_cap=policy.retry_after_cap,
            sleep=sleep,
        )
        self._counts = threading.local()
        self._adapter = GuardedAdapter(policy, resolve)

    def __enter__(self) -> HttpClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def num_requests_of_thread(self) -> int:
        """How many requests the thread that asks has sent."""
        count: int = getattr(self._counts, "requests", 0)
        return count

    def close(self) -> None:
        """Close every connection."""
        self._adapter.close()

    @contextmanager
    def open(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        check_hop: Callable[[str], None] | None = None,
    ) -> Iterator[requests.Response]:
        """Give the last answer behind an address, its body unread; `response.url` says where it is.

        Answers of 429 and 5xx are waited for and tried again.

        Args:
            url: `http(s)` address.
            method: GET or HEAD.
            headers: Further headers.
            check_hop: Refuses an address before it is asked, by `FetchRefused`.

        Raises:
            FetchRefused: if a check or the host refuses it, or nothing answers.
        """
        response = self._answer(url, method, dict(headers or {}), check_hop)
        try:
            yield response
        finally:
            response.close()

    def get_text(self, url: str, **options: Any) -> tuple[str, requests.Response]:
        """Return a whole body as text, with its answer.

        Raises:
            FetchRefused: as `open`, or for any status but 200.
        """
        deadline = time.monotonic() + self.policy.config.deadline_seconds
        with self.open(url, **options) as response:
            refuse_status(response)
            data = b"".join(
                read_body(response, max_bytes=MAX_TEXT_BYTES, deadline=deadline, policy=self.policy)
            )
            return data.decode(response.encoding or "utf-8", "replace"), response

    def get_json(self, url: str, params: Mapping[str, str | int]) -> tuple[JsonValue, requests.Response]:
        """Return an API's answer, whatever its status, and the response with its headers.

        Raises:
            FetchRefused: as `open`; `bad_encoding` if a good answer is no JSON.
        """
        deadline = time.monotonic() + self.policy.config.deadline_seconds
        with self.open(f"{url}?{urlencode(params)}", headers={"Accept": "application/json"}) as response:
            data = b"".join(
                read_body(response, max_bytes=MAX_TEXT_BYTES, deadline=deadline, policy=self.policy)
            )
        try:
            return json.loads(data), response
        except ValueError:
            if response.status_code == 200:
                raise FetchRefused(
                    f"{public_url(url)} answered no JSON: {data[:80]!r}", reason=FetchReason.BAD_ENCODING
                ) from None
            return {}, response

    def _answer(
        self, url: str, method: str, headers: dict[str, str], check_hop: Callable[[str], None] | None
    ) -> requests.Response:
        for attempt in range(self.policy.attempts):
            is_last = attempt + 1 == self.policy.attempts
            try:
                response = self._follow(url, method, headers, check_hop)
            except _Broken as error:
                if is_last:
                    raise FetchRefused(str(error), reason=FetchReason.UNREACHABLE) from error
                continue
            host = urlsplit(response.url).hostname or ""
            if response.status_code != 429 and response.status_code < 500:
                self.hosts.note(host, failed=False)
                return response
            if is_last:
                self.hosts.note(host, failed=True)
                return response
            response.close()
            self.hosts.pause(host, response.headers.get("retry-after"), attempt=attempt)
        raise AssertionError("attempts is at least 1")

    def _follow(
        self, url: str, method: str, headers: dict[str, str], check_hop: Callable[[str], None] | None
    ) -> requests.Response:
        first = url
        for _ in range(MAX_REDIRECTS + 1):
            parts = split_url(url)
            check_port(parts, self.policy)
            if check_hop is not None:
                check_hop(url)
            response = self._send(url, parts.hostname or "", method, headers)
            if response.status_code not in _REDIRECTS or "location" not in response.headers:
                return response
            response.close()
            location = response.headers["location"].encode("latin-1", "replace").decode("utf-8", "replace")
            target = _join(url, location)
            new = urlsplit(target)
            if new.scheme not in ("http", "https") or (parts.scheme == "https" and new.scheme == "http"):
                raise FetchRefused(
                    f"{public_url(url)} redirects to {public_url(target)}, which is not followed.",
                    reason=FetchReason.BAD_REDIRECT,
                )
            if new.netloc != parts.netloc:
                headers = {name: value for name, value in headers.items() if name != "Authorization"}
            url = target
        raise FetchRefused(
            f"{public_url(first)} redirects more than {MAX_REDIRECTS} times.",
            reason=FetchReason.TOO_MANY_REDIRECTS,
        )

    def _send(self, url: str, host: str, method: str, headers: Mapping[str, str]) -> requests.Response:
        self.hosts.wait_turn(host)
        policy = self.policy
        sent = {"User-Agent": policy.user_agent, "Accept-Encoding": "identity", "Accept": "*/*", **headers}
        start = time.monotonic()
        try:
            prepared = _prepare(method, url, sent)
            self._counts.requests = self.num_requests_of_thread + 1
            return self._adapter.send(
                prepared, stream=True, timeout=(policy.connect_seconds, policy.read_seconds)
            )
        except requests.Timeout as error:
            is_connect = isinstance(error, requests.ConnectTimeout)
            self.hosts.note(host, failed=is_connect)
            reason = FetchReason.UNREACHABLE if is_connect else FetchReason.TIMEOUT
            raise FetchRefused(f"{public_url(url)} did not answer in time.", reason=reason) from error
        except requests.ConnectionError as error:
            if time.monotonic() - start >= policy.header_seconds:
                raise FetchRefused(
                    f"{public_url(url)} sent no whole header within {policy.header_seconds:g} s.",
                    reason=FetchReason.TIMEOUT,
                ) from error
            self.hosts.note(host, failed=True)
            message = f"{public_url(url)} did not answer as it should: {_innermost(error)}."
            if isinstance(error.args[0], ProtocolError):
                raise _Broken(message) from error
            raise FetchRefused(message, reason=FetchReason.UNREACHABLE) from error
        except (requests.RequestException, ValueError) as error:
            raise FetchRefused(
                f"{public_url(url)[:200]} cannot be asked: {error}.", reason=FetchReason.BAD_URL
            ) from error


def _prepare(method: str, url: str, headers: Mapping[str, str]) -> requests.PreparedRequest:
    """Prepare a request without a body, and without the cookies and hooks that take most of the time."""
    prepared = requests.PreparedRequest()
    prepared.prepare_method(method)
    prepared.prepare_url(url, None)
    prepared.prepare_headers(headers)
    prepared.prepare_auth(None, url)
    return prepared


class _Broken(Exception):
    """A connection that ended under the request; another try may find a better one."""


def _innermost(error: BaseException) -> str:
    reason = getattr(error.args[0], "reason", error.args[0]) if error.args else error
    return str(reason).rpartition("object at ")[2].partition(">: ")[2] or str(reason)


def _join(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        raise FetchRefused(
            f"{public_url(url)} redirects to no address: {location[:100]!r}.", reason=FetchReason.BAD_REDIRECT
        ) from None


def refuse_status(response: requests.Response) -> None:
    """Refuse every status but 200.

    Raises:
        FetchRefused: with the reason that the status stands for.
    """
    status = response.status_code
    if status == 200:
        return
    reasons = {404: FetchReason.NOT_FOUND, 410: FetchReason.NOT_FOUND, 429: FetchReason.RATE_LIMITED}
    reason = reasons.get(status, FetchReason.SERVER_ERROR if status >= 500 else FetchReason.REFUSED)
    raise FetchRefused(
        f"{public_url(response.url)} answered {status} {response.reason}.", reason=reason, status=status
    )
