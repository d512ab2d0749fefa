"""An S3-compatible store of real sockets: the part of its API that a bucket needs, `If-None-Match` kept.

Written after Amazon's reference of the API. It checks no signature; `make soak` has moto, which does more.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest

from pipeline.storage.s3_bucket import s3_client
from tests.fakes.server import FakeServer, QuietHandler, running

PAGE = 3  # objects in a listing's page: few, so that paging is exercised
META = "x-amz-meta-"


@dataclass
class Stored:
    """One object."""

    data: bytes
    meta: dict[str, str] = field(default_factory=dict)

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.data, usedforsecurity=False).hexdigest()}"'


class S3Handler(QuietHandler):
    server: FakeS3
    wbufsize = -1  # header and body in one packet

    def do_GET(self) -> None:
        if not self.key:
            self._send(200, self.server.list_page(self.bucket, self.query))
        elif (stored := self._stored()) and self.headers.get("If-Match", stored.etag) != stored.etag:
            self.refuse(412, "PreconditionFailed")
        elif stored:
            first, last = 0, len(stored.data) - 1
            if asked := self.headers.get("Range"):
                first, last = (int(number) for number in asked.removeprefix("bytes=").split("-"))
            self._send(206 if asked else 200, stored.data[first : last + 1], {"ETag": stored.etag})
        else:
            self.refuse(404, "NoSuchKey")

    def do_HEAD(self) -> None:
        if stored := self._stored():
            self._send(200, stored.data, {"ETag": stored.etag, **stored.meta})
        else:
            self.refuse(404, "NoSuchKey")

    def do_PUT(self) -> None:
        if number := self.query.get("partNumber"):
            self.server.uploads[self.query["uploadId"]][int(number)] = self.body
            self._send(200, b"", {"ETag": f'"{number}"'})
            return
        meta = {name: value for name, value in self.headers.items() if name.lower().startswith(META)}
        stored = Stored(self.body, meta)
        is_new = self.server.put(self.bucket, self.key, stored, only_new=self._only_new)
        if self.server.lost_answers:
            self.server.lost_answers -= 1
            self.refuse(500, "InternalError")
        elif is_new:
            self._send(200, b"", {"ETag": stored.etag})
        else:
            self.refuse(412, "PreconditionFailed")

    def do_POST(self) -> None:
        if "uploads" in self.query:
            upload = str(next(self.server.numbers))
            self.server.uploads[upload] = {}
            answer = f"<UploadId>{upload}</UploadId>"
        else:
            parts = self.server.uploads.pop(self.query["uploadId"])
            self.server.put(self.bucket, self.key, Stored(b"".join(parts[n] for n in sorted(parts))))
            answer = f"<Key>{escape(self.key)}</Key>"
        self._send(200, f"<Result>{answer}</Result>".encode())

    def do_DELETE(self) -> None:
        if upload := self.query.get("uploadId"):
            del self.server.uploads[upload]
        else:
            self.server.objects.pop((self.bucket, self.key), None)
        self._send(204, b"")

    def parse_request(self) -> bool:
        """Read the request; refuse it while the test wants that."""
        if not super().parse_request():
            return False
        parts = urlsplit(self.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        self.query = {name: values[0] for name, values in query.items()}
        self.bucket, _, self.key = unquote(parts.path).removeprefix("/").partition("/")
        self.server.requests[f"{self.command} {'object' if self.key else 'list'}"] += 1
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.refusal is None:
            return True
        self.refuse(*self.server.refusal)
        self.wfile.flush()
        return False

    def handle_expect_100(self) -> bool:
        """Ask for the body, which waits in a buffer otherwise."""
        result = super().handle_expect_100()
        self.wfile.flush()
        return result

    def refuse(self, status: int, code: str) -> None:
        text = f"<Error><Code>{code}</Code><Message>{code} of the test</Message></Error>"
        self._send(status, text.encode())

    @property
    def _only_new(self) -> bool:
        return self.headers["If-None-Match"] == "*" and self.server.knows_conditions

    def _stored(self) -> Stored | None:
        return self.server.objects.get((self.bucket, self.key))

    def _send(self, status: int, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


class FakeS3(FakeServer):
    """Its objects, and what it refuses."""

    def __init__(self) -> None:
        super().__init__(S3Handler)
        self.objects: dict[tuple[str, str], Stored] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.numbers = itertools.count()
        self.refusal: tuple[int, str] | None = None
        self.lost_answers = 0
        self.knows_conditions = True

    def put(self, bucket: str, key: str, stored: Stored, *, only_new: bool = False) -> bool:
        with self.lock:
            if only_new and (bucket, key) in self.objects:
                return False
            self.objects[bucket, key] = stored
            return True

    def list_page(self, bucket: str, query: Mapping[str, str]) -> bytes:
        with self.lock:
            keys = sorted(key for name, key in self.objects if name == bucket)
        keys = [key for key in keys if key.startswith(query.get("prefix", ""))]
        keys = [key for key in keys if key > query.get("continuation-token", "")]
        page, more = keys[:PAGE], len(keys) > PAGE
        contents = "".join(f"<Contents><Key>{escape(key)}</Key></Contents>" for key in page)
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        state = f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        return f"<ListBucketResult>{state}{token}{contents}</ListBucketResult>".encode()


def use_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the test have a key of its own, and see nothing of what this machine has."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    environ = {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "secret", "EC2_METADATA_DISABLED": "true"}
    files = {"SHARED_CREDENTIALS_FILE": os.devnull, "CONFIG_FILE": os.devnull}
    for name, value in (environ | files).items():
        monkeypatch.setenv(f"AWS_{name}", value)
    s3_client.cache_clear()


def running_s3() -> AbstractContextManager[FakeS3]:
    """Serve on a free port until the end of the block."""
    return running(FakeS3())
