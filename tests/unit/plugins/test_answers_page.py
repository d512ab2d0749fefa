"""From a number of the confusion matrix to its pictures, and the accuracy over versions."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe

from pipeline.report.build import write_report
from tests.fakes.airflow_pages import NAME, Pages
from tests.fakes.evaluation import evaluation, metrics
from tests.fakes.report import CLASSIFIER, EVALUATION, ReportWorld
from tests.fakes.served_pages import open_page, serve, start_chromium

RUN = "manual__1"
PAGE = f"/classifiers/{NAME}/answers?run={RUN}"


@pytest.fixture
def evaluated(pages: Pages, tmp_path: Path) -> Pages:
    """A run with six test pictures of two classes, of which an ant (p26) was taken for a bee."""
    world = ReportWorld(tmp_path / "world")
    EVALUATION.write(world.storage, world.workspace.job("eval_1").evaluation)
    write_report(world.workspace, **world.arguments(classifier=CLASSIFIER.model_copy(update={"name": NAME})))
    for uri in world.storage.list_uris("gs://graft/"):
        copy = uri.replace("/datasets/toys/", f"/datasets/{NAME}/")
        data = world.storage.read_bytes(uri).replace(b'"dataset": "toys"', f'"dataset": "{NAME}"'.encode())
        pages.fleet.storage.write_bytes(copy, data)
    pages.sign_in("viewer")
    return pages


def pictures_of(text: str) -> list[str]:
    return re.findall(r'/pictures/d_1/(\w+)\.jpg" alt', text)


@pytest.mark.parametrize(
    ("label", "taken_for", "ids"),
    [("ant", "ant", ["p24", "p28"]), ("ant", "bee", ["p26"]), ("bee", "bee", ["p25", "p27", "p29"])],
)
def test_a_cell_shows_its_pictures_and_no_others(
    evaluated: Pages, label: str, taken_for: str, ids: list[str]
) -> None:
    answer = evaluated.get(f"{PAGE}&label={label}&taken_for={taken_for}")
    assert answer.status_code == 200
    assert pictures_of(answer.text) == ids


def test_each_number_of_the_reports_matrix_leads_to_that_many_pictures(evaluated: Pages) -> None:
    report = evaluated.get(f"/runs/{NAME}/{RUN}").text
    links = re.findall(r'<a href="([^"]+/answers[^"]+)">(\d+)</a>', report)
    assert len(links) == 3
    for address, count in links:
        path = unescape(address).partition("#")[0]
        assert len(pictures_of(evaluated.get(path).text)) == int(count)


def test_the_report_that_is_kept_has_no_address_of_a_server(evaluated: Pages) -> None:
    kept = evaluated.fleet.storage.read_bytes(evaluated.fleet.workspace.job("eval_1").report).decode()
    assert 'data-cell="label=ant&amp;taken_for=bee"' in kept
    assert "/answers" not in kept


def test_the_matrix_links_what_is_there_and_nothing_else(evaluated: Pages) -> None:
    text = evaluated.get(PAGE).text
    assert len(re.findall(r'href="\?run=manual__1&amp;label=', text)) == 3
    assert pictures_of(text) == []


def test_more_classes_than_fit_are_listed_as_mistakes(evaluated: Pages) -> None:
    names = [f"class_{number:02d}" for number in range(21)]
    confusion = {label: dict.fromkeys(names, 0) | {label: 2} for label in names}
    confusion["class_00"]["class_07"] = 3
    changed = replace(EVALUATION, candidate=replace(EVALUATION.candidate, confusion=confusion))
    changed.write(evaluated.fleet.storage, evaluated.fleet.workspace.job("eval_1").evaluation)
    text = evaluated.get(PAGE).text
    assert 'aria-label="Confusion matrix"' not in text
    assert '3<span class="unseen"> of class_00 taken for class_07' in text


@pytest.mark.parametrize(
    "query", ["run=nothing", f"run={RUN}&label=ant&taken_for=wasp", f"run={RUN}&label={quote('<b>')}"]
)
def test_what_is_not_there_is_404(evaluated: Pages, query: str) -> None:
    answer = evaluated.get(f"/classifiers/{NAME}/answers?{query}")
    assert answer.status_code == 404
    assert "<b>" not in answer.text.partition("<main")[2].replace("<b>It", "")


def test_answers_that_were_swept_away_say_so(evaluated: Pages) -> None:
    evaluated.fleet.storage.delete(evaluated.fleet.workspace.job("eval_1").evaluation)
    answer = evaluated.get(PAGE)
    assert answer.status_code == 404
    assert "The sweep removed the answers" in answer.text


def with_versions(pages: Pages, accuracies: dict[int, float]) -> None:
    pages.engine.models[NAME] = {"name": f"projects/local/models/{NAME}"}
    pages.engine.list_versions = lambda model: pages.fleet.resources(model)  # type: ignore[method-assign]
    for number, accuracy in accuracies.items():
        model = pages.fleet.workspace.model(NAME, pages.fleet.version(number))
        evaluation(metrics(accuracy)).write(pages.fleet.storage, model.evaluation)


def test_versions_draws_the_accuracy_with_intervals_and_links_the_answers(evaluated: Pages) -> None:
    with_versions(evaluated, {0: 0.8, 1: 0.9})
    text = evaluated.get(f"/classifiers/{NAME}").text
    chart = text[text.index('<figure class="chart">') : text.index("</figure>")]
    assert chart.count("<circle") == 3
    assert chart.count("<path") == 2  # the third version carries no evaluation
    assert chart.count('class="serves"') == 1
    assert '<span class="soft">65.2 % to 89.5 %</span>' in text
    assert f"/classifiers/{NAME}/answers?run=manual__000001" in text


def lengthen_counts(pages: Pages) -> None:
    """Give the counts of the report's matrix two digits: axe judges the contrast of no single character."""
    uri = pages.fleet.workspace.job("eval_1").report
    kept = pages.fleet.storage.read_bytes(uri)
    pages.fleet.storage.write_bytes(uri, kept.replace(b"<small>", b"0<small>"))


def test_the_pages_are_accessible_and_fit_a_phone(evaluated: Pages) -> None:
    with_versions(evaluated, {0: 0.8, 1: 0.9, 2: 0.85})
    complaints: list[str] = []
    with start_chromium() as chromium, serve(evaluated.app) as address:
        page = open_page(chromium, complaints)
        page.set_viewport_size({"width": 390, "height": 800})
        page.emulate_media(color_scheme="dark")
        for path in (f"{PAGE}&label=ant&taken_for=bee", f"/classifiers/{NAME}"):
            page.goto(f"{address}{path}")
            found = Axe().run(page).response["violations"]
            assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        lengthen_counts(evaluated)
        page.goto(f"{address}/runs/{NAME}/{RUN}")
        for scheme in ("dark", "light"):  # the cell of a class without a mistake is the most coloured one
            page.emulate_media(color_scheme=scheme)
            assert [
                each["id"]
                for each in Axe().run(page).response["violations"]
                if each["id"] == "color-contrast"
            ] == []
        page.locator("table.matrix a").nth(1).click()
        page.locator("#cards img").first.wait_for()
        assert page.locator("#cards img").count() == 1
    assert complaints == []
