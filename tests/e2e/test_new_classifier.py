"""From pictures on a disk to a served model, in the browser alone: new classifier, upload, run, verdict."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from pipeline.datasets.sources.sample import SampleSource
from tests.e2e.browser import Visitor, start_chromium
from tests.e2e.conftest import Stack, wait_until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]
NAME = "drawn_in_the_browser"
LABELS = ("brick", "grass", "gravel")
SECONDS = 600


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with start_chromium() as browser:
        yield browser


def write_pictures(folder: Path) -> None:
    for label in LABELS:
        (folder / label).mkdir(parents=True)
        for entry in list(SampleSource(classes=[label]).entries(0, 1))[:20]:
            assert entry.read is not None
            (folder / label / f"{entry.position}.png").write_bytes(entry.read())


def create(admin: Visitor) -> None:
    page = admin.visit("/")
    page.get_by_role("link", name="New classifier", exact=True).first.click()
    page.get_by_label("Name").fill(NAME)
    page.get_by_label("A version must be right").fill("50")
    assert admin.serious_violations() == []
    page.get_by_role("button", name="Look at it").click()
    page.get_by_role("button", name="Create").click()
    page.wait_for_url(f"**/classifiers/{NAME}/add")


def upload(admin: Visitor, folder: Path, *, says: str) -> None:
    page = admin.page
    with page.expect_file_chooser() as chosen:
        page.get_by_role("button", name="Choose a folder of class folders").click()
    chosen.value.set_files(str(folder))
    for label in LABELS:
        page.locator(f"form[data-label={label}] [data-says]", has_text=says).wait_for()
    assert admin.serious_violations() == []
    page.reload()


def test_pictures_become_a_served_model_without_a_shell(
    chromium: Browser, stack: Stack, tmp_path: Path
) -> None:
    write_pictures(tmp_path)
    admin = Visitor(chromium, stack, "admin")
    create(admin)
    upload(admin, tmp_path, says="20 of 20: 20 added")
    upload(admin, tmp_path, says="0 added, 20 already there")
    page = admin.page
    page.goto(f"{admin.url}/graft/new/{NAME}")  # waits for Airflow to read the YAML
    page.wait_for_url(f"**/graft/classifiers/{NAME}", timeout=SECONDS * 1000)
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_url(f"**/runs/{NAME}/**")
    page.wait_for_selector("#verdict", timeout=SECONDS * 1000)
    assert "Accepted" in page.inner_text("#verdict")
    assert admin.complaints == []
    # The verdict is there before the version that it lets through.
    [version] = wait_until(lambda: stack.graft_json("versions", NAME), seconds=SECONDS, what="version")
    wait_until(lambda: admin.get(f"/classifiers/{NAME}/try") == 200, seconds=SECONDS, what="page to try it")
    assert version["state"] == "READY"
    admin.close()


def test_who_may_only_look_changes_nothing(chromium: Browser, stack: Stack) -> None:
    viewer = Visitor(chromium, stack, "viewer")
    assert viewer.get("/new") == 403
    assert viewer.post("/new/create", {"text": "name: x"}) == 403
    assert viewer.post("/classifiers/surfaces/add", {"label": "x"}) == 403
    viewer.close()
