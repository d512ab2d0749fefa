"""From a gallery on the web to a served version: a `web_page` source in a DAG run."""

from __future__ import annotations

import functools
import http.server
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from PIL import Image

from pipeline.artifacts.tuning import Tuning
from pipeline.datasets.sources.sample import SampleSource
from tests.e2e.conftest import Stack

LABELS = ("brick", "grass")
TILES = 24


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        return


def write_gallery(root: Path) -> None:
    """Make a page for each label, linked from one index, with tiles in two sizes."""
    for label in LABELS:
        (root / label).mkdir(parents=True)
        source = SampleSource(classes=[label])
        pictures = []
        for entry in list(source.entries(0, 1))[:TILES]:
            assert entry.read is not None
            tile = Image.open(io.BytesIO(entry.read()))
            for name, side in (("small", 32), ("large", 96)):
                tile.resize((side, side)).save(root / label / f"{entry.position}-{name}.png")
            number = entry.position
            pictures.append(
                f'<img src="{number}-small.png" srcset="{number}-small.png 32w, {number}-large.png 96w">'
            )
        (root / label / "index.html").write_text(f"<main>{''.join(pictures)}</main>")
    (root / "robots.txt").write_text("User-agent: *\nDisallow: /*-small.png$\n")


@pytest.fixture
def gallery(stack: Stack, tmp_path: Path) -> Iterator[str]:
    write_gallery(tmp_path)
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", stack.gallery_port), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{stack.gallery_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_gallery_becomes_a_served_version(stack: Stack, gallery: str) -> None:
    sources = [
        {"type": "web_page", "uri": f"{gallery}/{label}/", "label": label, "include": "main"}
        for label in LABELS
    ]
    value = {
        "name": "gallery",
        "dataset": {"sources": sources, "fetch": {"requests_per_second": 200}},
        "model": {"tune": {"parameters": {"epochs": [5, 10]}, "trials": 2, "search": "grid"}},
        "gate": {"min_accuracy": 0.8},
    }
    (stack.classifiers / "gallery.yaml").write_text(yaml.safe_dump(value))
    result = stack.graft_json("run", "gallery")
    assert result["gate"]["accepted"] is True
    assert result["work"]["downloaded"] == TILES * len(LABELS)

    version = stack.storage.read_json("gs://graft/datasets/gallery/latest.json")["version"]
    lines = stack.storage.read_bytes(f"gs://graft/datasets/gallery/{version}/manifest.jsonl").decode()
    assert lines.count("-large.png") == TILES * len(LABELS)
    assert "-small.png" not in lines
    assert f"{gallery}/brick/" in lines

    tuned = stack.graft_json("lineage", "gallery")["training"]["tuning"]
    tuning = Tuning.read(stack.storage, tuned["uri"])
    assert sorted(trial.parameters["model.epochs"] for trial in tuning.judged) == [5, 10]
