"""Serves the mapped buckets of a job to Google's storage client: the part of its JSON API that trainers use.

`python -P -m pipeline.engine.backends.gcs.server JOB_DIRECTORY DESCRIPTOR` answers on a listening socket that
it inherits, until it is killed. It runs in the sandbox of the job, so that the kernel holds it to what the
job may reach. Other jobs, which may reach every port, do not know the first part of its paths.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import sys
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.engine.backends.gcs import SECRET
from pipeline.engine.backends.gcs.conditions import Conditions
from pipeline.engine.backends.gcs.objects import BucketAccess, JobObjects, StoredObject
from pipeline.engine.backends.gcs.requests import Request, bucket_resource, byte_range, object_resource
from pipeline.engine.backends.gcs.uploads import (
    Upload,
    Uploads,
    digests,
    multipart_upload,
    simple_upload,
)
from pipeline.errors import (
    ApiError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    StorageError,
    Unimplemented,
)
from pipeline.types import JsonObject

log = logging.getLogger(__name__)

STATUS: dict[type[ApiError], int] = {
    InvalidArgument: 400,
    PermissionDenied: 403,
    NotFound: 404,
    FailedPrecondition: 412,
    Unimplemented: 501,
}


class BucketHandler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: BucketServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet

    def do_GET(self) -> None:
        """Read a bucket, a listing, an object or its description."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Upload or copy."""
        self._answer(self._post)

    def do_PUT(self) -> None:
        """Continue an upload."""
        self._answer(self._put)

    def do_DELETE(self) -> None:
        """Delete an object, or cancel an upload."""
        self._answer(self._delete)

    def do_PATCH(self) -> None:
        """Refuse to change metadata."""
        self._answer(_refuse_metadata)

    def log_message(self, format: str, *args: str | int) -> None:
        """Say nothing: the output is the job's log."""

    def _answer(self, method: Callable[[Request], None]) -> None:
        self._body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "Transfer-Encoding" in self.headers:
            self.close_connection = True
            self._send_failure(411, "Send the body with a Content-Length.")
            return
        try:
            method(Request.read(self.command, self.path, self.server.secret))
        except ApiError as error:
            self._send_error(error)
        except (StorageError, OSError) as error:
            cause = error.__cause__ if isinstance(error, StorageError) else error
            self._send_failure(403 if isinstance(cause, PermissionError) else 500, str(error))
        except Exception:  # a fault of this server: the client may go on
            log.exception("%s %s failed.", self.command, self.path.partition("/storage/")[2])
            self._send_failure(500, "The server of the buckets failed; see the job's log.")

    def _get(self, request: Request) -> None:
        objects = self.server.objects
        if request.path["bucket"] is None:
            items = [bucket_resource(name) for name in objects.bucket_names]
            self._send_json({"kind": "storage#buckets", "items": items})
        elif not request.path["objects"]:
            objects.check_bucket(request.bucket)
            self._send_json(bucket_resource(request.bucket))
        elif not request.name:
            self._send_listing(request)
        else:
            stored = objects.find(request.bucket, request.name, request.conditions)
            if request.query.get("alt") == "media":
                self._send_media(stored)
            else:
                self._send_object(stored)

    def _send_listing(self, request: Request) -> None:
        page = self.server.objects.list(request.bucket, request.query)
        answer: dict[str, str | list[str] | list[JsonObject]] = {"kind": "storage#objects"}
        if page.objects:
            answer["items"] = [object_resource(stored) for stored in page.objects]
        if page.prefixes:
            answer["prefixes"] = list(page.prefixes)
        if page.next_token:
            answer["nextPageToken"] = page.next_token
        self._send_json(answer)

    def _send_media(self, stored: StoredObject) -> None:
        asked = byte_range(self.headers.get("Range", ""), stored.size)
        start, end = asked or (0, stored.size)
        headers = {"X-Goog-Generation": str(stored.generation), "Content-Type": "application/octet-stream"}
        with stored.path.open("rb") as file:
            if asked:
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{stored.size}"
            else:
                sums = digests(file)
                headers["X-Goog-Hash"] = f"crc32c={sums['crc32c']},md5={sums['md5Hash']}"
            file.seek(start)
            self._send_head(206 if asked else 200, headers, end - start)
            if end == stored.size:
                shutil.copyfileobj(file, self.wfile, 1 << 20)
            else:
                self.wfile.write(file.read(end - start))

    def _send_object(self, stored: StoredObject) -> None:
        with stored.path.open("rb") as file:
            self._send_json(object_resource(stored, digests(file)))

    def _post(self, request: Request) -> None:
        kind, query = request.query.get("uploadType"), request.query
        if request.path["to_name"]:
            self._copy(request)
        elif "upload_id" in query:  # gcsfs continues so
            self._put(request)
        elif kind == "media":
            self._finish(simple_upload(request.bucket, query, self._body))
        elif kind == "multipart":
            content_type = self.headers.get("Content-Type", "")
            self._finish(multipart_upload(request.bucket, query, content_type, self._body))
        elif kind == "resumable":
            upload_id = self.server.uploads.begin(request.bucket, query, self._body or b"{}")
            address = f"{self.server.url}{urlsplit(self.path).path.partition('/')[2].partition('/')[2]}"
            self._send_head(200, {"Location": f"{address}?uploadType=resumable&upload_id={upload_id}"}, 0)
        else:
            _refuse_metadata(request)

    def _copy(self, request: Request) -> None:
        objects, source = self.server.objects, Conditions.read(request.query, source=True)
        stored = objects.find(request.bucket, request.name, source)
        to_bucket, to_name = request.path["to_bucket"] or "", request.path["to_name"] or ""
        copied = object_resource(objects.copy(stored, to_bucket, to_name, request.conditions))
        size = str(stored.size)
        rewritten: JsonObject = {
            "kind": "storage#rewriteResponse",
            "done": True,
            "totalBytesRewritten": size,
            "objectSize": size,
            "resource": copied,
        }
        self._send_json(rewritten if "/rewriteTo/" in self.path else copied)

    def _put(self, request: Request) -> None:
        upload_id = request.query.get("upload_id", "")
        added = self.server.uploads.add(upload_id, self.headers.get("Content-Range", ""), self._body)
        if isinstance(added, Upload):
            self._finish(added)
        else:
            self._send_head(308, {"Range": f"bytes=0-{added - 1}"} if added else {}, 0)

    def _finish(self, upload: Upload) -> None:
        with upload.file as file:
            upload.check()
            stored = self.server.objects.write(upload.bucket, upload.name, file, upload.conditions)
        if stored.path.is_dir():
            self._send_json(object_resource(stored))
        else:
            self._send_object(stored)

    def _delete(self, request: Request) -> None:
        if upload_id := request.query.get("upload_id"):
            self.server.uploads.cancel(upload_id)
            self._send_head(499, {}, 0)
        elif request.name:
            self.server.objects.delete(request.bucket, request.name, request.conditions)
            self._send_head(204, {}, 0)
        else:
            _refuse_metadata(request)

    def _send_error(self, error: ApiError) -> None:
        status = STATUS[type(error)]
        if error.details.get("not_modified") and self.command == "GET":
            self._send_head(304, {}, 0)
        else:
            self._send_failure(416 if error.details.get("out_of_range") else status, error.message)

    def _send_failure(self, status: int, message: str) -> None:
        details = [{"message": message, "domain": "global"}]
        self._send_json({"error": {"code": status, "message": message, "errors": details}}, status)

    def _send_json(self, value: JsonObject, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self._send_head(status, {"Content-Type": "application/json; charset=UTF-8"}, len(body))
        self.wfile.write(body)

    def _send_head(self, status: int, headers: Mapping[str, str], size: int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(size))
        self.end_headers()


def _refuse_metadata(request: Request) -> None:
    raise Unimplemented(
        f"gs://{request.bucket}/{request.name} is in a directory, which keeps the bytes of objects alone: "
        "metadata, access lists, compositions and settings of buckets cannot be changed."
    )


class BucketServer(ThreadingHTTPServer):
    """Serves the buckets of one job.

    Args:
        listener: A listening socket of loopback.
        access: The buckets and what the job may do there.
        secret: The first part of every path.
    """

    daemon_threads = True

    def __init__(self, listener: socket.socket, access: BucketAccess, secret: str) -> None:
        super().__init__(listener.getsockname()[:2], BucketHandler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.objects = JobObjects(access)
        self.uploads = Uploads()
        self.secret = secret

    @property
    def url(self) -> str:
        """The address for `STORAGE_EMULATOR_HOST`, with a slash at its end."""
        host, port = self.socket.getsockname()[:2]
        return f"http://{host}:{port}/{self.secret}/"

    def handle_error(self, request: socket.socket | tuple[bytes, socket.socket], client_address: str) -> None:
        """Say nothing of clients that hang up."""


def main(directory: Path, descriptor: int) -> None:
    """Serve until killed."""
    plan = json.loads((directory / "job.json").read_text())
    listener = socket.socket(fileno=descriptor)
    access = BucketAccess.from_dict(plan["buckets"])
    BucketServer(listener, access, os.environ[SECRET]).serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
