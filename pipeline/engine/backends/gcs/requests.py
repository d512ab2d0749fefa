"""Requests to the storage API, and what they are answered with."""

from __future__ import annotations

import hmac
import mimetypes
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl, unquote, urlsplit

from pipeline.engine.backends.gcs.conditions import METAGENERATION, Conditions
from pipeline.engine.backends.gcs.objects import StoredObject
from pipeline.errors import InvalidArgument, NotFound, Unimplemented
from pipeline.types import JsonObject

_PATH = re.compile(
    r"/(?:upload/|download/)?storage/v1/b(?:/(?P<bucket>[^/]+)(?P<objects>/o(?:/(?P<name>[^/]+)"
    r"(?:/(?:rewriteTo|copyTo)/b/(?P<to_bucket>[^/]+)/o/(?P<to_name>[^/]+))?)?)?)?"
)
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_NOT_SERVED = ("matchGlob", "softDeleted", "userProject")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to a bucket.

    Args:
        path: The groups of `_PATH`, decoded; None where the path has none.
        query: Its query.
    """

    path: Mapping[str, str | None]
    query: Mapping[str, str]

    @classmethod
    def read(cls, method: str, target: str, secret: str) -> Request:
        """Read the first line of a request.

        Raises:
            NotFound: if it does not begin with the secret.
            Unimplemented: if it is for a part of the API that is not served.
        """
        parts = urlsplit(target)
        first, _, rest = parts.path.lstrip("/").partition("/")
        if not hmac.compare_digest(first.encode(), secret.encode()):
            raise NotFound("Use the address in STORAGE_EMULATOR_HOST of the job.")
        match, query = _PATH.fullmatch(f"/{rest}"), dict(parse_qsl(parts.query, keep_blank_values=True))
        missing = [name for name in _NOT_SERVED if query.get(name, "false") != "false"]
        if match is None or missing:
            raise Unimplemented(
                f"{method} /{rest} {' '.join(missing)} is not served for a bucket that is a directory. "
                "Objects are listed, read, written, copied and deleted there."
            )
        groups = {name: None if text is None else unquote(text) for name, text in match.groupdict().items()}
        return cls(path=groups, query=query)

    @property
    def bucket(self) -> str:
        """The name of the bucket."""
        return self.path["bucket"] or ""

    @property
    def name(self) -> str:
        """The name of the object; empty if there is none."""
        return self.path["name"] or ""

    @property
    def conditions(self) -> Conditions:
        """The preconditions."""
        return Conditions.read(self.query)


def object_resource(stored: StoredObject, checksums: Mapping[str, str] | None = None) -> JsonObject:
    """Return an object as the API describes it; listings are without checksums."""
    moment = datetime.fromtimestamp(stored.generation / 1e9, UTC).isoformat().replace("+00:00", "Z")
    kind, encoding = mimetypes.guess_type(stored.name)
    return {
        "kind": "storage#object",
        "id": f"{stored.bucket}/{stored.name}/{stored.generation}",
        "bucket": stored.bucket,
        "name": stored.name,
        "generation": str(stored.generation),
        "metageneration": str(METAGENERATION),
        "contentType": "application/octet-stream" if kind is None or encoding else kind,
        "size": str(stored.size),
        "storageClass": "STANDARD",
        "etag": f"{stored.generation}",
        "timeCreated": moment,
        "updated": moment,
        **(checksums or {}),
    }


def bucket_resource(name: str) -> JsonObject:
    """Return a bucket as the API describes it."""
    described = {"kind": "storage#bucket", "id": name, "name": name, "storageClass": "STANDARD"}
    return described | {"location": "LOCAL", "metageneration": str(METAGENERATION)}


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """Return the first byte and the one after the last that a `Range` asks for; None for the whole object.

    Raises:
        InvalidArgument: if there is no such byte; `out_of_range`.
    """
    match = _RANGE.fullmatch(header)
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last) + 1, size) if first and last else size
    if start >= end:
        raise InvalidArgument(f"The object has {size} bytes. Received: {header}", out_of_range=True)
    return start, end
