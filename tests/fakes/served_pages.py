"""The pages over HTTP in a thread, and Chromium on them, without a stack; with one: tests/e2e."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from pipeline.pages.pictures import read_pictures
from pipeline.report.build import write_report
from tests.conftest import CHROMIUM
from tests.fakes.airflow_pages import NAME, Pages
from tests.fakes.pages import DATASET_VERSION
from tests.fakes.pictures import encode
from tests.fakes.report import CLASSIFIER, ReportWorld

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
]
SECONDS = 60


@contextmanager
def serve(app: FastAPI) -> Iterator[str]:
    """Answer on a free port of loopback, and yield the address."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off"))
    listening = server.config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(SECONDS)


@contextmanager
def start_chromium() -> Iterator[Browser]:
    """Start the browser with a new, empty profile."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


def open_page(browser: Browser, complaints: list[str]) -> Page:
    """Open a window; what its console complains of is added to a list."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(SECONDS * 1000)
    page.on("console", lambda said: said.type in ("error", "warning") and complaints.append(said.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return page


def add_pictures(pages: Pages) -> None:
    """Give every picture of the fleet a file."""
    fleet = pages.fleet
    for number, row in enumerate(read_pictures(fleet.cache, NAME, DATASET_VERSION).rows):
        colour = (40 * number % 256, 90 * number % 256, 25 * number % 256)
        data = encode(Image.new("RGB", (64, 48), colour), "PNG")
        fleet.storage.write_bytes(fleet.workspace.blob(row.blob), data)


def add_suspects(pages: Pages, folder: Any) -> None:
    """Give the classifier an evaluated run with a suspected label, on a dataset version of its own."""
    world = ReportWorld(folder, prefix="picture")
    write_report(world.workspace, **world.arguments(classifier=CLASSIFIER.model_copy(update={"name": NAME})))
    for uri in world.storage.list_uris("gs://graft/"):
        copy = uri.replace("/datasets/toys/", f"/datasets/{NAME}/").replace("manual__1", "manual__000002")
        pages.fleet.storage.write_bytes(copy, world.storage.read_bytes(uri))
