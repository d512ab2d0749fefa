"""A run over hostile pictures, on the real stack: nothing leaves its place, and no text becomes code."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import requests
from PIL import Image

from pipeline.config import ModelConfig
from tests.e2e.conftest import ClassifierDag, Stack, wait_until
from tests.e2e.model_kinds import check_served

NAME = "hostile"
SCRIPT = "<img src=x onerror=alert(1)>"
LABELS = (f"ant {SCRIPT}", "cat")
EACH = 48
# Its last block is trained too: no other test of CI takes that through the DAG.
MODEL = {"epochs": 3, "head": {"units": 16}, "finetune": {"blocks": 1, "epochs": 1}}
RAW = re.compile(rb"<img src=x|<script>alert|onerror=alert\(1\)>")


def picture(number: int, colour: tuple[int, int, int], *, text: str = "") -> bytes:
    """Return a JPEG of noise around a colour, with a text in its EXIF data and its comment."""
    noise = np.random.default_rng(number).integers(-60, 60, (48, 48, 3))
    image = Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8))
    exif = Image.Exif()
    exif[0x010E] = exif[0x013B] = exif[0x8298] = text  # description, artist, copyright
    exif[0x0112] = 6
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif, comment=text.encode(), quality=95)
    return file.getvalue()


def link(name: str) -> zipfile.ZipInfo:
    """Return a member that is a symbolic link."""
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


def hostile_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(2 * EACH):
            label, colour = LABELS[number % 2], ((200, 40, 40), (40, 60, 200))[number % 2]
            name = f"{label}/{number}{SCRIPT if number < 4 else ''}.jpg"
            archive.writestr(name, picture(number, colour, text=f"<script>alert({number})</script>"))
        outside = picture(1000, (1, 250, 1))
        for name in ("../../../../tmp/graft-slip.jpg", "/tmp/graft-slip.jpg", "cat/../../graft-slip.jpg"):
            archive.writestr(name, outside)
        archive.writestr(link("cat/link.jpg"), "/etc/passwd")
        archive.writestr("cat/bomb.jpg", b"\0" * 30_000_000, zipfile.ZIP_DEFLATED)
    return file.getvalue()


@pytest.mark.timeout(900)
def test_a_run_over_hostile_pictures_ends_green_and_shows_their_words_as_text(
    stack: Stack, tmp_path: Path
) -> None:
    stack.storage.write_bytes("gs://graft/in/hostile.zip", hostile_zip())
    dag = ClassifierDag(
        stack,
        {
            "name": NAME,
            "dataset": {"source": {"type": "archive", "uri": "gs://graft/in/hostile.zip"}},
            "model": MODEL,
            "gate": {"min_accuracy": 0.5},
        },
    )
    api = stack.airflow()
    wait_until(lambda: api.last_parsed(NAME), seconds=240, what="DAG", pause=1)
    run = api.trigger(NAME, {})
    wait_until(lambda: api.run_state(NAME, run) in ("success", "failed"), seconds=600, what="end", pause=2)
    assert api.run_state(NAME, run) == "success", dag.states(run)
    slipped = [path for path in stack.home.rglob("*slip*")]
    assert slipped == []
    check_documents(stack)
    check_pages(stack, run)
    check_served(stack, NAME, ModelConfig.model_validate(MODEL), tmp_path)


def check_documents(stack: Stack) -> None:
    """Check every page and card that the run left in the bucket."""
    pages = [uri for uri in stack.storage.list_uris("gs://graft/") if uri.endswith(".html") and NAME in uri]
    assert len(pages) >= 2, pages
    for uri in pages:
        text = stack.storage.read_bytes(uri)
        assert not RAW.search(text), uri
        assert b"ant &lt;img" in text or b"&lt;img" not in text, uri


def check_pages(stack: Stack, run: str) -> None:
    """Check the pages in Airflow, as a signed-in person gets them."""
    airflow = stack.graft_json("status")["airflow"]
    credentials = {"username": airflow["username"], "password": airflow["password"]}
    token = requests.post(f"{airflow['url']}/auth/token", json=credentials, timeout=60).json()["access_token"]
    for path in ("", f"classifiers/{NAME}", f"classifiers/{NAME}/pictures", f"runs/{NAME}/{quote(run)}"):
        url = f"{airflow['url']}{airflow['pages']}{path}"
        answer = requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=60)
        assert answer.status_code == 200, f"{url}: {answer.text[:500]}"
        assert not RAW.search(answer.content), url
        assert (
            "script-src 'self'" in answer.headers["Content-Security-Policy"]
            or "default-src" in (answer.headers["Content-Security-Policy"])
        )
