"""Labelling all day: many pictures at once, by keyboard in Chromium, and a history that takes it back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from pipeline.pages.decisions import list_events
from pipeline.pages.pictures import pending_decisions, read_pictures
from tests.fakes.airflow_pages import NAME, Pages
from tests.fakes.pages import DATASET_VERSION
from tests.fakes.served_pages import add_pictures, add_suspects, open_page, serve, start_chromium

JSON = {"accept": "application/json"}
HOSTILE = '"><script>alert(1)</script>'


def ids_of(pages: Pages) -> list[str]:
    return [row.id for row in read_pictures(pages.fleet.cache, NAME, DATASET_VERSION).rows]


def in_force(pages: Pages) -> dict[str, str]:
    decisions = pending_decisions(pages.fleet.cache, NAME)
    return {id: f"{each.action} {each.label}".strip() for id, each in decisions.items()}


def decide(pages: Pages, action: str, ids: list[str], **more: Any) -> Any:
    fields = {"token": pages.token(), "action": action, "id": ids, "version": DATASET_VERSION}
    return pages.post("decisions", {**fields, "page": "pictures", "label": "bee"}, **more)


def test_several_pictures_are_decided_on_at_once(pages: Pages) -> None:
    pages.sign_in("user", name="bob")
    ids = ids_of(pages)[:40]
    answer = decide(pages, "relabel", ids)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/classifiers/{NAME}/pictures")
    assert in_force(pages) == dict.fromkeys(ids, "relabel bee")
    [past] = list_events(pages.fleet.cache, NAME)
    assert (past.event.by, len(past.event.pictures)) == ("bob", 40)
    assert decide(pages, "relabel", []).status_code == 400


def test_a_script_is_told_what_is_in_force(pages: Pages) -> None:
    pages.sign_in("user")
    ids = ids_of(pages)[:2]
    said = decide(pages, "confirm", ids, headers=JSON).json()
    assert set(said["texts"].values()) == {
        "A person decided that it is ant.",
        "A person decided that it is bee.",
    }
    fields = {"token": pages.token(), "event": said["event"]}
    undone = pages.post("decisions/undo", fields, headers=JSON).json()
    assert (undone["texts"], undone["kept"]) == (dict.fromkeys(ids, ""), 0)
    again = pages.post("decisions/undo", fields, headers=JSON)
    assert (again.status_code, again.json()) == (400, {"problem": "That is taken back already."})


@pytest.mark.parametrize("version", ["x" * 300, "a\0b", "../../x"])
def test_a_version_that_nothing_can_be_called_is_told(pages: Pages, version: str) -> None:
    pages.sign_in("user")
    fields = {"token": pages.token(), "action": "delete", "id": pages.picture(), "version": version}
    assert pages.post("decisions", fields).status_code in (400, 404)
    assert pages.get(f"/runs/{NAME}/{'x' * 300}").status_code == 404


def test_the_history_tells_who_and_takes_back(pages: Pages) -> None:
    pages.sign_in("user", name=HOSTILE)
    decide(pages, "delete", ids_of(pages)[:2])
    text = pages.get(f"/classifiers/{NAME}/decisions").text
    assert "2 left out" in text
    assert HOSTILE not in text
    found = re.search(r'name="event" value="([^"]+)"', text)
    assert found
    fields = {"token": pages.token(), "event": found[1], "page": "decisions"}
    answer = pages.post("decisions/undo", fields)
    assert answer.headers["location"] == f"/classifiers/{NAME}/decisions"
    assert in_force(pages) == {}


def test_a_viewer_and_another_site_take_nothing_back(pages: Pages) -> None:
    pages.sign_in("user")
    decide(pages, "delete", ids_of(pages)[:1])
    fields = {"token": pages.token()}
    assert pages.post("decisions/undo", {}).status_code == 403
    assert pages.post("decisions/undo", fields, headers={"origin": "http://evil.test"}).status_code == 403
    pages.sign_in("viewer")
    assert pages.post("decisions/undo", fields).status_code == 403
    text = pages.get(f"/classifiers/{NAME}/decisions").text
    assert "1 left out" in text
    assert 'method="post"' not in text
    assert len(in_force(pages)) == 1


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with start_chromium() as browser:
        yield browser


def violations(page: Any) -> list[str]:
    found: dict[str, Any] = Axe().run(page).response
    return [each["id"] for each in found["violations"] if each["impact"] in ("serious", "critical")]


def press(page: Any, key: str) -> None:
    """Press a key and wait for the answer to what it decides."""
    with page.expect_response(lambda answer: "/decisions" in answer.url) as sent:
        page.keyboard.press(key)
    assert sent.value.status == 200, sent.value.text()


def test_pictures_are_labelled_by_keyboard_alone(chromium: Any, pages: Pages) -> None:
    add_pictures(pages)
    pages.sign_in("user", name="bob")
    complaints: list[str] = []
    first, second, third, fourth = ids_of(pages)[:4]
    with serve(pages.app) as address:
        page = open_page(chromium, complaints)
        page.goto(f"{address}/classifiers/{NAME}/pictures")
        page.locator(f"#p-{first} .look").focus()
        page.keyboard.press("Enter")
        page.locator("#large[open]").wait_for()
        assert violations(page) == []
        press(page, "2")  # the second class, and on to the next picture
        press(page, "Enter")  # the label is right
        press(page, "Delete")
        assert page.locator("#large [data-place]").inner_text() == "4 of 60"
        assert in_force(pages) == {first: "relabel bee", second: "confirm bee", third: "delete"}
        press(page, "Control+z")
        page.locator("#large [data-place]", has_text="3 of 60").wait_for()
        assert third not in in_force(pages)
        page.keyboard.press("Escape")
        boxes = page.locator("#cards input[type=checkbox]")
        boxes.nth(2).focus()
        page.keyboard.press("Space")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Space")
        press(page, "3")
        assert (in_force(pages)[third], in_force(pages)[fourth]) == ("relabel cat", "relabel cat")
        page.set_viewport_size({"width": 390, "height": 844})
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
        page.close()
    assert complaints == []


def test_a_suspect_whose_label_is_right_does_not_come_back(
    chromium: Any, pages: Pages, tmp_path: Path
) -> None:
    add_suspects(pages, tmp_path / "world")
    pages.sign_in("user")
    complaints: list[str] = []
    with serve(pages.app) as address:
        page = open_page(chromium, complaints)
        page.goto(f"{address}/classifiers/{NAME}/labels")
        page.locator("#cards .look").first.click()
        press(page, "Enter")
        page.reload()
        assert page.locator("#cards").count() == 0
        assert "None is left" in page.inner_text("main")
        page.close()
    assert in_force(pages) == {"picture04": "confirm ant"}
    assert complaints == []
