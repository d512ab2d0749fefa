"""The page that shows two versions side by side."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from pipeline.artifacts.evaluation import Comparison
from pipeline.artifacts.history import EventType, HistoryEvent, record_event
from pipeline.pages.pictures import read_pictures
from tests.fakes.airflow_pages import NAME, Pages
from tests.fakes.evaluation import evaluation, metrics
from tests.fakes.model_record import lineage
from tests.fakes.pages import DATASET_VERSION
from tests.fakes.served_pages import add_pictures, open_page, serve, start_chromium

COMPARISON = Comparison(
    pictures=40, gained=("i2",), lost=("i5", "i7"), difference=-0.025, interval=(-0.1, 0.05), p_value=1.0
)

LINK = re.compile(r"<a href=[^>]*/answers[^>]*>(\d+)<span.*?</span></a>")


@pytest.fixture
def compared(pages: Pages) -> Pages:
    """Two versions of which the second was compared with the first by its run, and a third that was not."""
    write(pages, "v_1", {"cat": {"cat": 17, "dog": 3}, "dog": {"dog": 20}})
    second = {"champion_version": "v_1", "comparison": COMPARISON}
    write(pages, "v_2", {"cat": {"cat": 19, "dog": 1}, "dog": {"dog": 17, "cat": 3}}, **second)
    write(pages, "v_3", {"cat": {"cat": 17, "dog": 3}, "dog": {"dog": 20}})
    pages.sign_in("viewer")
    return pages


def write(pages: Pages, version: str, confusion: dict[str, dict[str, int]], **more: Any) -> None:
    model = pages.fleet.workspace.model(NAME, version)
    storage = pages.fleet.storage
    origin = lineage(dataset_version=DATASET_VERSION)
    measured = replace(metrics(), confusion=confusion)
    origin.write(storage, model.lineage)
    evaluation(measured, **more).write(storage, model.evaluation)


def text_of(pages: Pages, left: str, right: str) -> str:
    answer = pages.get(f"/classifiers/{NAME}/compare?left={left}&right={right}")
    assert answer.status_code == 200
    return str(answer.text)


def test_the_accuracy_has_its_interval_on_both_sides(compared: Pages) -> None:
    assert text_of(compared, "v_1", "v_2").count('<td class="n">76.9 % to 96.0 %</td>') == 2


def test_figures_are_as_on_the_other_pages_and_ids_are_tooltips(compared: Pages) -> None:
    record_promotion(compared, "v_1")
    record_promotion(compared, "v_2")
    text = text_of(compared, "v_1", "v_2")
    shown = re.sub(r' title="[^"]*"|<span class="unseen">.*?</span>|href="[^"]*"', "", text)
    heads = re.findall(r'<th scope="col" class="n"><span title="(v_\d)">(v\d)</span></th>', text)
    assert heads[:2] == [("v_1", "v4"), ("v_2", "v5")]  # three others served before
    [accuracy] = re.findall(r'<th scope="row">Accuracy</th>(.*?)</tr>', shown)
    assert re.findall(r'<td class="n">(.*?)</td>', accuracy) == ["90.0 %", "90.0 %", "+0.0 points"]
    assert DATASET_VERSION not in re.sub(r'src="[^"]*"', "", shown)
    assert f'title="{DATASET_VERSION}">its pictures' in text


def record_promotion(pages: Pages, version: str) -> None:
    event = HistoryEvent(event=EventType.PROMOTED, version=version, run_id="r")
    record_event(pages.fleet.workspace, NAME, event)


def test_the_mistakes_that_differ_are_counted_on_both_sides_the_largest_difference_first(
    compared: Pages,
) -> None:
    text = LINK.sub(r"\1", text_of(compared, "v_1", "v_2"))
    gone = '<th scope="row">cat</th><td>dog</td><td class="n">3</td><td class="n">1</td><td class="n">-2</td>'
    new = '<th scope="row">dog</th><td>cat</td><td class="n">0</td><td class="n">3</td><td class="n">+3</td>'
    assert 0 < text.index(new) < text.index(gone)


def test_each_of_these_numbers_leads_to_the_pictures_of_its_run(compared: Pages) -> None:
    text = text_of(compared, "v_1", "v_2")
    assert len(LINK.findall(text)) == 3
    assert "&amp;label=dog&amp;taken_for=cat#cell" in text


@pytest.mark.parametrize(("left", "right", "gained"), [("v_1", "v_2", 1), ("v_2", "v_1", 2)])
def test_pictures_that_one_of_the_two_gets_right_are_shown_from_either_side(
    compared: Pages, left: str, right: str, gained: int
) -> None:
    text = text_of(compared, left, right)
    assert f"Only <code>{right}</code> is right: {gained}</h2>" in text
    assert f"Only <code>{left}</code> is right: {3 - gained}</h2>" in text
    for picture in ("i2", "i5", "i7"):
        assert f"/classifiers/{NAME}/pictures/{DATASET_VERSION}/{picture}.jpg" in text


def test_two_that_no_run_compared_say_so(compared: Pages) -> None:
    text = text_of(compared, "v_1", "v_3")
    assert "No run compared these two on the same pictures" in text
    assert "is right:" not in text
    assert "<h2>Mistakes that differ</h2>\n<p>None.</p>" in text


def test_the_page_is_accessible_and_fits_and_its_pictures_load(pages: Pages) -> None:
    rows = read_pictures(pages.fleet.cache, NAME, DATASET_VERSION).rows
    ids = [row.id for row in rows if row.split == "test"]
    comparison = replace(COMPARISON, gained=tuple(ids[:1]), lost=tuple(ids[1:2]))
    write(pages, "v_1", {"cat": {"cat": 20}})
    write(pages, "v_2", {"cat": {"cat": 19, "dog": 1}}, champion_version="v_1", comparison=comparison)
    pages.sign_in("viewer")
    add_pictures(pages)
    complaints: list[str] = []
    with start_chromium() as chromium, serve(pages.app) as address:
        page = open_page(chromium, complaints)
        page.set_viewport_size({"width": 390, "height": 800})
        page.emulate_media(color_scheme="dark")
        page.goto(f"{address}/classifiers/{NAME}/compare?left=v_1&right=v_2")
        for image in page.locator(".cards img").all():
            image.scroll_into_view_if_needed()
        loaded = "[...document.querySelectorAll('.cards img')].filter(image => image.naturalWidth > 0).length"
        page.wait_for_function(f"{loaded} === 2")
        found = Axe().run(page).response["violations"]
        assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert complaints == []
