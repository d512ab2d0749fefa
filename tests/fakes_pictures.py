"""Small pictures, folders and archives of them, and an HTTP server that counts what it is asked."""

from __future__ import annotations

import io
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.artifacts.steps import CleanResult, FetchResult
from pipeline.config import Classifier
from pipeline.datasets.fetch import fetch_pictures
from pipeline.preprocess.clean import build_dataset_version
from pipeline.storage import Storage

WORKSPACE = "gs://graft"


def noise(seed: int, size: int = 16) -> np.ndarray:
    """Return a picture like no other."""
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def storage_in(directory: Path) -> Storage:
    return Storage({"graft": directory / "bucket"})


def folder_of(root: Path, counts: dict[str, int], *, first: int = 0) -> Path:
    """Add noise pictures to class folders; the names go on from `first`."""
    for number, (label, count) in enumerate(counts.items()):
        (root / label).mkdir(parents=True, exist_ok=True)
        for index in range(first, first + count):
            (root / label / f"{index:04d}.png").write_bytes(png(noise(1000 * number + index)))
    return root


def classifier_of(source: dict[str, Any], **split: Any) -> Classifier:
    value = {"name": "toys", "dataset": {"source": source, "split": split}}
    return Classifier.from_dict(value)


def folder_classifier(root: Path, **split: Any) -> Classifier:
    return classifier_of({"type": "folder", "uri": str(root)}, **split)


def fetch_and_clean(classifier: Classifier, storage: Storage) -> tuple[FetchResult, CleanResult]:
    fetched = fetch_pictures(classifier, storage=storage, workspace=WORKSPACE)
    cleaned = build_dataset_version(
        classifier, storage=storage, workspace=WORKSPACE, fetched=[fetched.index], run_id="run 1"
    )
    return fetched, cleaned


class _Handler(SimpleHTTPRequestHandler):
    server: PictureServer

    def do_HEAD(self) -> None:
        self.server.requests["HEAD"] += 1
        if self.server.refuses_head:
            self.send_error(405)
        else:
            super().do_HEAD()

    def do_GET(self) -> None:
        self.server.requests["GET"] += 1
        if self.server.status:
            self.send_error(self.server.status)
        elif self.server.redirect_to:
            self.send_response(302)
            self.send_header("Location", self.server.redirect_to)
            self.end_headers()
        else:
            super().do_GET()

    def copyfile(self, source: Any, outputfile: Any) -> None:
        if self.command == "GET":
            self.server.requests["bodies"] += 1
        outputfile.write(source.read()[: self.server.cut_at])

    def end_headers(self) -> None:
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        return


class PictureServer(ThreadingHTTPServer):
    """`SimpleHTTPRequestHandler` on a free port, with counts and bad manners to choose from."""

    def __init__(self, directory: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(directory)))
        self.requests: Counter[str] = Counter()
        self.refuses_head = False
        self.status: int | None = None
        self.redirect_to: str | None = None
        self.etag: str | None = None
        self.cut_at: int | None = None

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


@contextmanager
def serving(directory: Path) -> Iterator[PictureServer]:
    server = PictureServer(directory)
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()
