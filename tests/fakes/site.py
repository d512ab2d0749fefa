"""A site of real sockets, with pages that behave and pages that do not."""

from __future__ import annotations

import gzip
import time
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from tests.fakes.pictures import noise, png
from tests.fakes.server import FakeServer, QuietHandler, running

Answer = Callable[["SiteHandler"], None]


def flat_png(side: int) -> bytes:
    """Return a bomb: a one-bit PNG of side x side pixels in a few kilobytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    row = b"\0" * (1 + (side + 7) // 8)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    size = side.to_bytes(4, "big")
    header = chunk(b"IHDR", size + size + b"\x01\0\0\0\0")
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")


class SiteHandler(QuietHandler):
    server: Site

    def do_GET(self) -> None:
        path = self.path
        site = self.server
        with site.lock:
            site.requests[path] += 1
            site.headers_of[path] = dict(self.headers)
        time.sleep(site.latency)
        answer = site.answers.get(path) or site.answers.get(path.partition("?")[0])
        if answer is None:
            self.give(b"nothing here", status=404)
            return
        try:
            answer(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def give(self, body: bytes, *, status: int = 200, type: str = "image/png", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", type)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if body:
            with self.server.lock:
                self.server.bodies[self.path] += 1
        self.wfile.write(body)


class Site(FakeServer):
    """Answers by path; counts requests and bodies, and remembers the last headers."""

    def __init__(self) -> None:
        super().__init__(SiteHandler)
        self.answers: dict[str, Answer] = {}
        self.bodies: Counter[str] = Counter()
        self.headers_of: dict[str, dict[str, str]] = {}
        self.latency = 0.0

    def add(self, path: str, body: bytes, **options: Any) -> str:
        """Serve a body; without an own ETag, one that its bytes decide and that is honoured."""
        etag = f'"{zlib.crc32(body):08x}"'

        def answer(handler: SiteHandler) -> None:
            if handler.headers.get("If-None-Match") == etag:
                handler.give(b"", status=304, ETag=etag)
            else:
                handler.give(body, **{"ETag": etag, **options})

        self.answers[path] = answer
        return self.url(path)

    def add_answer(self, path: str, answer: Answer) -> str:
        self.answers[path] = answer
        return self.url(path)

    def add_pictures(self, count: int, *, size: int = 80, prefix: str = "/good") -> list[str]:
        return [self.add(f"{prefix}/{number}.png", png(noise(number, size))) for number in range(count)]


def site_running() -> AbstractContextManager[Site]:
    return running(Site())


def redirect(target: str) -> Answer:
    return lambda handler: handler.give(b"", status=302, Location=target)


def drip(handler: SiteHandler) -> None:
    """Send a byte now and then, for ever."""
    handler.send_response(200)
    handler.send_header("Content-Type", "image/png")
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    while not handler.server.ended.wait(0.1):
        handler.wfile.write(b"\x89")


def drip_headers(handler: SiteHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not handler.server.ended.wait(0.1):
        handler.wfile.write(b"X-A: b\r\n"[:1])


def gzip_bomb(num_bytes: int) -> Answer:
    body = gzip.compress(bytes(num_bytes), 9)
    return lambda handler: handler.give(body, Content_Encoding="gzip")


def endless(handler: SiteHandler) -> None:
    """Send without a length, and never end."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.close_connection = True
    while not handler.server.ended.is_set():
        handler.wfile.write(bytes(65536))


def says_length(body: bytes, length: int) -> Answer:
    def answer(handler: SiteHandler) -> None:
        handler.give(body, Content_Length=str(length))
        handler.close_connection = True

    return answer


def busy(times: int, retry_after: str, body: bytes) -> Answer:
    """Answer 429 so many times, then the body."""
    left = [times]

    def answer(handler: SiteHandler) -> None:
        if left[0] > 0:
            left[0] -= 1
            handler.give(b"", status=429, Retry_After=retry_after)
        else:
            handler.give(body)

    return answer
