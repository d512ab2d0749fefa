"""A Google Cloud Storage of real sockets: the part of its JSON API that a bucket needs, preconditions kept.

Written after Google's reference of the JSON API. `gcp-storage-emulator` does not keep preconditions.
"""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import HTTP
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c

from tests.fakes.server import FakeServer, QuietHandler, running

PAGE = 3  # objects in a listing's page: few, so that paging is exercised


@dataclass
class Stored:
    """One object."""

    data: bytes
    generation: int


@dataclass
class Upload:
    """A resumable upload."""

    query: Mapping[str, str]
    name: str
    data: bytearray = field(default_factory=bytearray)


class GcsHandler(QuietHandler):
    server: FakeGcs
    wbufsize = -1  # header and body in one packet

    def do_GET(self) -> None:
        bucket, name = self._where()
        if name is None:
            self._answer(self.server.list_page(bucket, self._query))
        elif (stored := self.server.objects.get((bucket, name))) is None:
            self._fail(404, f"No such object: {bucket}/{name}")
        elif self._query.get("alt") == "media":
            data = b"?" + stored.data[1:] if self.server.damages else stored.data
            self._send(200, data, {"X-Goog-Hash": f"crc32c={checksum(stored.data)}"})
        else:
            self._answer(describe(bucket, name, stored))

    def do_DELETE(self) -> None:
        bucket, name = self._where()
        with self.server.lock:
            found = self.server.objects.pop((bucket, name or ""), None)
        if found is None:
            self._fail(404, f"No such object: {bucket}/{name}")
        else:
            self._send(204, b"", {})

    def do_POST(self) -> None:
        bucket, _ = self._where()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self._query["uploadType"] == "multipart":
            kind = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            facts, media = message_from_bytes(kind + body, policy=HTTP).iter_parts()
            self._finish(
                bucket, json.loads(facts.get_content())["name"], media.get_payload(decode=True), self._query
            )
            return
        session = str(next(self.server.numbers))
        self.server.uploads[session] = Upload(self._query, json.loads(body)["name"])
        place = self.server.url(f"upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={session}")
        self._send(200, b"", {"Location": place})

    def do_PUT(self) -> None:
        bucket, _ = self._where()
        upload = self.server.uploads[self._query["upload_id"]]
        upload.data += self.rfile.read(int(self.headers["Content-Length"]))
        total = self.headers["Content-Range"].rpartition("/")[2]
        if total == "*" or len(upload.data) < int(total):
            self._send(308, b"", {"Range": f"bytes=0-{len(upload.data) - 1}"})
        else:
            self._finish(bucket, upload.name, bytes(upload.data), upload.query)

    def _finish(self, bucket: str, name: str, data: bytes, query: Mapping[str, str]) -> None:
        wanted = query.get("ifGenerationMatch")
        stored = self.server.put(bucket, name, data, generation=None if wanted is None else int(wanted))
        if stored is None:
            self._fail(412, "At least one of the pre-conditions you specified did not hold.")
        else:
            self._answer(describe(bucket, name, stored))

    def parse_request(self) -> bool:
        """Refuse everything while the test wants it."""
        if not super().parse_request():
            return False
        if self.server.refusal is None:
            return True
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._fail(self.server.refusal, "The account may not do this.")
        self.wfile.flush()
        return False

    def _where(self) -> tuple[str, str | None]:
        parts = urlsplit(self.path)
        self._query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.server.requests[f"{self.command} {parts.path.partition('/b/')[0]}"] += 1
        bucket, _, name = parts.path.partition("/b/")[2].partition("/o")
        return bucket, unquote(name[1:]) if name else None

    def _answer(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _fail(self, code: int, message: str) -> None:
        body = json.dumps({"error": {"code": code, "message": message}}).encode()
        self._send(code, body, {"Content-Type": "application/json"})

    def _send(self, code: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class FakeGcs(FakeServer):
    """The server and its objects."""

    def __init__(self) -> None:
        super().__init__(GcsHandler)
        self.objects: dict[tuple[str, str], Stored] = {}
        self.uploads: dict[str, Upload] = {}
        self.numbers = itertools.count(1)
        self.refusal: int | None = None
        self.damages = False

    def put(self, bucket: str, name: str, data: bytes, *, generation: int | None) -> Stored | None:
        """Store an object; None where another generation than the wanted one (0: none) is there."""
        with self.lock:
            old = self.objects.get((bucket, name))
            if generation is not None and generation != (old.generation if old else 0):
                return None
            stored = self.objects[bucket, name] = Stored(data, next(self.numbers))
            return stored

    def list_page(self, bucket: str, query: Mapping[str, str]) -> dict[str, Any]:
        """Return a page of a listing."""
        with self.lock:
            names = sorted(name for there, name in self.objects if there == bucket)
        names = [name for name in names if name.startswith(query.get("prefix", ""))]
        start = int(query.get("pageToken", 0))
        items = [describe(bucket, name, self.objects[bucket, name]) for name in names[start : start + PAGE]]
        more = {"nextPageToken": str(start + PAGE)} if start + PAGE < len(names) else {}
        return {"kind": "storage#objects", "items": items, **more}


def describe(bucket: str, name: str, stored: Stored) -> dict[str, Any]:
    """Return an object's resource."""
    return {
        "kind": "storage#object",
        "bucket": bucket,
        "name": name,
        "generation": str(stored.generation),
        "size": str(len(stored.data)),
        "crc32c": checksum(stored.data),
    }


def checksum(data: bytes) -> str:
    """Return the CRC32C that the client compares with its own."""
    return base64.b64encode(google_crc32c.Checksum(data).digest()).decode()


def running_gcs() -> AbstractContextManager[FakeGcs]:
    return running(FakeGcs())
