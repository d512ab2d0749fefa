"""robots.txt, read as RFC 9309 says: once a host, with a limit, and a broken one keeps us out."""

from __future__ import annotations

import threading
import time
from urllib.parse import urlsplit

from protego import Protego

from pipeline.datasets.fetcher.client import HttpClient, public_url
from pipeline.datasets.fetcher.limited_reader import read_body
from pipeline.datasets.fetcher.reasons import FetchReason
from pipeline.errors import FetchRefused

MAX_ROBOTS_BYTES = 512 * 1024
AGENT = "graft"


class Robots:
    """What each site lets our agent read; kept for the time of one run.

    Args:
        client: Fetches the files.
    """

    def __init__(self, client: HttpClient) -> None:
        self._client = client
        self._rules: dict[str, Protego] = {}
        self._lock = threading.Lock()

    def check(self, url: str) -> None:
        """Make sure that a page or picture may be read.

        Raises:
            FetchRefused: `robots_disallowed`.
        """
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        with self._lock:
            if origin not in self._rules:
                self._rules[origin] = self._read(origin)
        if not self._rules[origin].can_fetch(url, AGENT):
            raise FetchRefused(
                f"{public_url(url)} is kept from robots by {origin}/robots.txt.",
                reason=FetchReason.ROBOTS_DISALLOWED,
            )

    def _read(self, origin: str) -> Protego:
        text = self._fetch(origin)
        rules = parse_robots(text)
        delay = rules.crawl_delay(AGENT)
        if delay:
            self._client.hosts.slow_down(urlsplit(origin).hostname or "", float(delay))
        return rules

    def _fetch(self, origin: str) -> str:
        """Return the text: empty (all allowed) for 4xx, a prohibition where it cannot be read."""
        pieces: list[bytes] = []
        deadline = time.monotonic() + self._client.policy.header_seconds
        try:
            with self._client.open(f"{origin}/robots.txt") as response:
                if 400 <= response.status_code < 500 and response.status_code != 429:
                    return ""
                if response.status_code != 200:
                    return "User-agent: *\nDisallow: /"
                for piece in read_body(
                    response, max_bytes=MAX_ROBOTS_BYTES, deadline=deadline, policy=self._client.policy
                ):
                    pieces.append(piece)
        except FetchRefused as error:
            if error.reason != FetchReason.TOO_LARGE or not pieces:
                return "User-agent: *\nDisallow: /"
        return b"".join(pieces).decode("utf-8", "replace")


def parse_robots(text: str) -> Protego:
    """Read a robots.txt; no text is refused, what is no rule is passed over."""
    return Protego.parse(text.replace("\0", "").removeprefix("\ufeff"))
